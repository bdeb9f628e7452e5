import { el } from "./dom.js";

const people = await (await fetch("/shell/people")).json();
document.getElementById("people").replaceChildren(...people.map((person, place) => {
  const radio = el("input", { type: "radio", name: "user", value: person.id, required: "" });
  radio.checked = place === 0;
  return el("label", { class: "person" }, radio, el("strong", {}, person.name), el("span", { class: "soft" }, person.roles.join(", ")));
}));

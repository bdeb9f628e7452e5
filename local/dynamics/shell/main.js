import { table } from "./api.js";
import { byId, el } from "./dom.js";
import { formOf, readRow } from "./form.js";
import { gridOf } from "./grid.js";
import { say } from "./dialog.js";
import { FormModel } from "./model.js";
import { installXrm } from "./xrm.js";

const query = new URLSearchParams(location.search);
const me = await (await fetch("/shell/me")).json();
const urls = installXrm(me);
byId("user").textContent = `${me.name} (${me.roles.join(", ")})`;

function entryUrl(entry) {
  return entry.table
    ? `/main.aspx?pagetype=entitylist&etn=${entry.table}`
    : `/main.aspx?pagetype=webresource&webresourceName=${encodeURIComponent(entry.page)}`;
}

function navigation() {
  const here = location.pathname + location.search;
  return me.areas.flatMap((area) => [
    el("h2", {}, area.title),
    ...area.groups.map((group) => el("ul", { "aria-label": group.title }, ...group.entries.map((entry) => {
      const url = entryUrl(entry);
      const current = url === here || (entry.table && query.get("etn") === entry.table);
      return el("li", {}, el("a", { href: url, "aria-current": current ? "page" : null }, entry.title));
    }))),
  ]);
}

function bar(...buttons) {
  return el("div", { class: "bar", role: "toolbar", "aria-label": "Commands" }, ...buttons);
}

async function list(name) {
  const words = await table(name);
  const chosen = query.get("viewid") ?? words.views.find((view) => view.default)?.id;
  const views = el("select", { "aria-label": "View", onchange: (event) => {
    location.href = `/main.aspx?pagetype=entitylist&etn=${name}&viewid=${event.target.value}`;
  } }, ...words.views.map((view) => el("option", { value: view.id, ...(view.id === chosen ? { selected: "" } : {}) }, view.name)));
  const make = words.may.create && words.form.tabs.length
    ? el("button", { type: "button", onclick: () => { location.href = `/main.aspx?pagetype=entityrecord&etn=${name}`; } }, "New")
    : null;
  return [bar(make, el("button", { type: "button", onclick: () => location.reload() }, "Refresh")),
    el("div", { class: "title" }, el("h1", {}, words.plural), views), await gridOf(name, words.set, chosen)];
}

async function record(name, id) {
  const { words, row } = await readRow(name, id);
  const notices = el("div", { id: "notices" });
  const mark = el("span", { class: "soft", role: "status" });
  const saving = el("button", { type: "button", onclick: () => save(model, saving) }, "Save");
  const model = new FormModel(words, row, {
    setOf: async (target) => (await table(target)).set,
    show: open,
    notify: (notes) => notices.replaceChildren(...notes.map(noteOf)),
    dirty: (flag) => { mark.textContent = flag ? "Unsaved changes" : ""; },
  });
  const form = await formOf(model, me, urls);
  const editable = [...model.controls.values()].some((control) => !control.getDisabled());
  // Dynamics promises no order among them: here the last comes first, so that a script that wants one is found out.
  await Promise.all(words.form.libraries.toReversed().map((library) => script(urls.webResourceUrl(library))));
  const commands = id ? await Promise.all(words.commands.map((command) => commandButton(command, model.context))) : [];
  model.bind(words.form.handlers);
  await model.load();
  document.title = `${row[words.primary] ?? words.title} · Dynamics (local stand-in)`;
  return [bar(editable ? saving : null, el("button", { type: "button", onclick: show }, "Refresh"), ...commands), notices,
    el("div", { class: "title" }, el("h1", {}, row[words.primary] || (id ? words.title : `New ${words.title}`)), el("span", { class: "soft" }, words.title), mark),
    ...form];
}

const LEVELS = { ERROR: "problem", WARNING: "warning", INFO: "info" };

function noteOf(note) {
  return el("p", { class: LEVELS[note.level] ?? "info", role: note.level === "ERROR" ? "alert" : "status" }, note.text);
}

async function save(model, button) {
  button.disabled = true;
  try {
    if (await model.save()) {
      await open(model.id);
    }
  } finally {
    button.disabled = false;
  }
}

/** The same record again, as it is now; after the first save under its own address. */
async function open(id) {
  if (id && !query.get("id")) {
    query.set("id", id);
    history.replaceState(null, "", `/main.aspx?${query}`);
  }
  await show();
}

async function commandButton(command, context) {
  await script(urls.webResourceUrl(command.library));
  const act = command.function.split(".").reduce((place, part) => place[part], window);
  return el("button", { type: "button", class: "command", onclick: () => act(context) }, command.label);
}

const scripts = new Map();

function script(url) {
  if (!scripts.has(url)) {
    scripts.set(url, new Promise((resolve, reject) => {
      const node = el("script", { src: url, onload: resolve, onerror: () => reject(new Error(`${url} does not load.`)) });
      node.async = false; // fetched side by side, run in the order they were asked for
      document.head.append(node);
    }));
  }
  return scripts.get(url);
}

function page(name) {
  const given = new URLSearchParams({ userlcid: String(me.lcid), orglcid: "1033", data: query.get("data") ?? "" });
  return [el("iframe", { class: "whole", title: name, src: `${urls.webResourceUrl(name)}?${given}` })];
}

async function content() {
  switch (query.get("pagetype")) {
    case "entityrecord": return record(query.get("etn"), (query.get("id") ?? "").replace(/[{}]/g, ""));
    case "webresource": return page(query.get("webresourceName"));
    case "entitylist": return list(query.get("etn"));
    default: return list("account");
  }
}

async function show() {
  const node = byId("content");
  try {
    node.replaceChildren(...await content());
  } catch (error) {
    node.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  }
  node.setAttribute("aria-busy", "false");
}

byId("navigation").replaceChildren(...navigation());
window.addEventListener("unhandledrejection", (event) => say("", event.reason?.message ?? String(event.reason)));
await show();


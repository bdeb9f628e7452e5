import { el } from "./dom.js";

const size = (value) => (typeof value === "number" ? `${value}px` : value ? `${value.value}${value.unit}` : "");

/** A page in a dialog. The promise resolves when the dialog is closed, without a value, as in Dynamics. */
export function openDialog(title, url, options = {}) {
  return new Promise((resolve) => {
    const close = el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
    const frame = el("iframe", { src: url, title });
    const dialog = el("dialog", { class: options.position === 2 ? "side" : "", "aria-label": title },
      el("header", {}, el("strong", {}, title), close), frame);
    if (options.position !== 2) {
      dialog.style.width = size(options.width);
      dialog.style.height = size(options.height);
    }
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
    frame.focus();
  });
}

export function say(title, text) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: "alert", "aria-label": title }, el("p", {}, text),
      el("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "OK"));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

import { call, recordUrl, shown, table } from "./api.js";
import { el } from "./dom.js";

/** Rows as a view shows them. `path`: the collection, e.g. `accounts` or `accounts(id)/relationship`. */
export async function gridOf(name, path, viewId) {
  const words = await table(name);
  const view = words.views.find((each) => each.id === viewId) ?? words.views.find((each) => each.default) ?? words.views[0];
  if (!view) {
    return el("p", { class: "soft" }, "There is no view.");
  }
  const { body } = await call(`${path}?savedQuery=${view.id}`);
  const head = view.columns.map((column) => el("th", { scope: "col" }, words.labels[column.name] ?? column.name));
  const rows = body.value.map((row) => el("tr", {}, ...view.columns.map((column, place) => cell(words, row, column.name, place))));
  return el("div", { class: "grid", tabindex: "0", role: "region", "aria-label": view.name },
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)),
    rows.length ? null : el("p", { class: "soft" }, "No rows."));
}

function cell(words, row, column, place) {
  const { text, link } = shown(row, column);
  if (place === 0 || column === words.primary) {
    return el("td", {}, el("a", { href: recordUrl(words.name, row[words.id]) }, text || "(no name)"));
  }
  return el("td", {}, link ? el("a", { href: recordUrl(link.table, link.id) }, text) : text);
}

/** One column of a row on its form: as text, or as a control in which the user changes it. */
import { call, recordUrl, shown, table } from "./api.js";
import { el } from "./dom.js";
import { dayOf } from "./model.js";

const CHOICES = ["Picklist", "Boolean", "State", "Status"];
const NUMBERS = ["Integer", "BigInt", "Decimal", "Double", "Money"];
const LOOKUPS = ["Lookup", "Customer", "Owner"];
const LISTED = 100;
const two = (number) => String(number).padStart(2, "0");

export async function fieldOf(cell, model) {
  const column = model.words.columns[cell.name];
  const label = el("label", { class: "soft", for: `field-${cell.name}` }, cell.title);
  const problem = el("span", { class: "wrong", id: `wrong-${cell.name}`, role: "alert" });
  const box = el("div", { class: "field" });
  const editor = !cell.locked && model.editable(cell.name) ? await editorOf(cell, column, model) : null;
  const value = editor ? editor.node : el("span", { class: "value", id: `field-${cell.name}` });
  box.append(editor ? label : el("span", { class: "soft" }, cell.title), el("div", {}, value, problem));
  if (!column) {
    return box;
  }
  const attribute = model.attributes.get(cell.name);
  const control = model.add(cell.name, {
    shown: () => {
      label.classList.toggle("required", attribute.getRequiredLevel() === "required");
      if (editor) { editor.show(attribute.getValue()); } else { value.replaceChildren(readOnly(model, attribute)); }
    },
    label: (text) => (text === undefined ? cell.title : (label.textContent = text)),
    disabled: (flag) => (flag === undefined ? !editor || value.disabled : editor && (value.disabled = flag)),
    visible: (flag) => (flag === undefined ? !box.hidden : (box.hidden = !flag)),
    focus: () => value.focus(),
    note: (text) => {
      problem.textContent = text;
      value.setAttribute("aria-invalid", String(Boolean(text)));
      value.setAttribute("aria-describedby", problem.id);
    },
  });
  if (editor) {
    value.setAttribute("aria-required", String(column.required));
    value.addEventListener("change", () => {
      control.clearNotification("required");
      attribute.setValue(editor.value());
      attribute.fireOnChange();
    });
  }
  control.view.shown();
  return box;
}

/** A value that cannot be changed here: what the Web API shows of it, or what a script has set. */
function readOnly(model, attribute) {
  if (attribute.getIsDirty()) {
    const value = attribute.getValue();
    return Array.isArray(value) ? value[0].name : attribute.getText() || String(value ?? "---");
  }
  const { text, link } = shown(model.row, attribute.name);
  return link ? el("a", { href: recordUrl(link.table, link.id) }, text) : text || "---";
}

async function editorOf(cell, column, model) {
  const attributes = { id: `field-${cell.name}`, name: cell.name };
  if (LOOKUPS.includes(column.type)) {
    return lookup(attributes, column, model.attributes.get(cell.name).getValue());
  }
  if (CHOICES.includes(column.type)) {
    const empty = column.type === "Picklist" ? [el("option", { value: "" }, "---")] : [];
    const node = el("select", attributes, ...empty, ...(column.options ?? []).map((option) => el("option", { value: option.value }, option.title)));
    const flag = column.type === "Boolean";
    return {
      node,
      show: (value) => { node.value = value === null ? (flag ? "0" : "") : String(Number(value)); },
      value: () => (node.value === "" ? null : flag ? node.value === "1" : Number(node.value)),
    };
  }
  if (NUMBERS.includes(column.type)) {
    const step = 10 ** -(column.precision ?? 0);
    const node = el("input", { ...attributes, type: "number", step: String(step), autocomplete: "off" });
    return { node, show: (value) => { node.value = value ?? ""; }, value: () => (node.value === "" ? null : Number(node.value)) };
  }
  if (column.type === "DateTime") {
    return column.date_only ? day(attributes) : moment(attributes);
  }
  const node = column.type === "Memo" ? el("textarea", { ...attributes, rows: "4" }) : el("input", { ...attributes, autocomplete: "off", maxlength: column.length });
  return { node, show: (value) => { node.value = value ?? ""; }, value: () => node.value || null };
}

function day(attributes) {
  const node = el("input", { ...attributes, type: "date" });
  return {
    node,
    show: (value) => { node.value = value ? dayOf(value) : ""; },
    value: () => (node.value ? new Date(`${node.value}T00:00:00`) : null),
  };
}

function moment(attributes) {
  const node = el("input", { ...attributes, type: "datetime-local" });
  return {
    node,
    show: (value) => { node.value = value ? `${dayOf(value)}T${two(value.getHours())}:${two(value.getMinutes())}` : ""; },
    value: () => (node.value ? new Date(node.value) : null),
  };
}

/** A list of the first rows of each table that the lookup leads to. Dynamics lets one search; here the examples are few. */
async function lookup(attributes, column, present) {
  const found = await Promise.all(Object.keys(column.targets ?? {}).map(rowsOf));
  const all = new Map(found.flat().map((reference) => [reference.id, reference]));
  const node = el("select", attributes, el("option", { value: "" }, "---"));
  const add = (reference) => node.append(el("option", { value: reference.id }, reference.name || reference.id));
  if (present) {
    all.set(present[0].id, present[0]);
  }
  all.forEach(add);
  return {
    node,
    show: (value) => {
      const [reference] = value ?? [];
      if (reference && !all.has(reference.id)) {
        all.set(reference.id, reference);
        add(reference);
      }
      node.value = reference?.id ?? "";
    },
    value: () => (node.value ? [all.get(node.value)] : null),
  };
}

async function rowsOf(name) {
  try {
    const words = await table(name);
    const { body } = await call(`${words.set}?$select=${words.primary}&$orderby=${words.primary}&$top=${LISTED}`);
    return body.value.map((row) => ({ id: `{${row[words.id].toUpperCase()}}`, name: row[words.primary], entityType: name }));
  } catch {
    return []; // a table that the user may not read
  }
}

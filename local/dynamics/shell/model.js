/** The form context that scripts and commands get: attributes, controls, notifications, events, as Dynamics documents them. */
import { call } from "./api.js";

const TYPES = {
  String: "string", Memo: "memo", Integer: "integer", BigInt: "integer", Decimal: "decimal", Double: "double", Money: "money",
  Boolean: "boolean", Picklist: "optionset", State: "optionset", Status: "optionset", DateTime: "datetime", Lookup: "lookup",
  Customer: "lookup", Owner: "lookup",
};
const FORMATTED = "@OData.Community.Display.V1.FormattedValue";
const TARGET = "@Microsoft.Dynamics.CRM.lookuplogicalname";
const CREATE = 1;
const UPDATE = 2;
const READ_ONLY = 3;

/** A value of a row as scripts see it: a Date, an array with one reference, or the value itself. */
function read(row, name, column) {
  if (TYPES[column.type] === "lookup") {
    const key = `_${name}_value`;
    return row[key] ? [{ id: `{${row[key].toUpperCase()}}`, name: row[key + FORMATTED] ?? "", entityType: row[key + TARGET] }] : null;
  }
  const value = row[name] ?? null;
  if (value !== null && column.type === "DateTime") {
    return column.date_only ? new Date(`${value.slice(0, 10)}T00:00:00`) : new Date(value);
  }
  return value;
}

const two = (number) => String(number).padStart(2, "0");

/** A day as the user sees it: `2026-11-30`. */
export const dayOf = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

function same(one, other) {
  const plain = (value) => (value instanceof Date ? value.getTime() : Array.isArray(value) ? value[0]?.id.toLowerCase() : value);
  return plain(one) === plain(other);
}

class Attribute {
  constructor(model, name, column) {
    this._model = model;
    this.name = name;
    this.column = column;
    this.initial = this.value = read(model.row, name, column);
    this.level = column.required ? "required" : "none";
    this.submit = "dirty";
    this.listeners = [];
    this.controls = { get: () => this._controls(), forEach: (act) => this._controls().forEach(act), getLength: () => this._controls().length };
  }

  _controls() { return [this._model.getControl(this.name)].filter(Boolean); }

  getName() { return this.name; }
  getAttributeType() { return TYPES[this.column.type] ?? "string"; }
  getFormat() { return this.column.date_only ? "date" : null; }
  getMin() { return this.column.minimum ?? null; }
  getMax() { return this.column.maximum ?? null; }
  getMaxLength() { return this.column.length ?? null; }
  getPrecision() { return this.column.precision ?? null; }
  getParent() { return this._model.context.data.entity; }
  getValue() { return this.value; }
  getInitialValue() { return this.initial; }
  getIsDirty() { return !same(this.value, this.initial); }
  getRequiredLevel() { return this.level; }
  getSubmitMode() { return this.submit; }
  setSubmitMode(mode) { this.submit = mode; }
  getOptions() { return (this.column.options ?? []).map((option) => ({ text: option.title, value: option.value })); }
  getOption(value) { return this.getOptions().find((option) => option.value === value || option.text === value) ?? null; }
  getSelectedOption() { return this.getOption(this.value); }
  getText() { return this.getSelectedOption()?.text ?? ""; }
  isValid() { return this.level !== "required" || (this.value !== null && this.value !== ""); }
  addOnChange(listener) { this.listeners.push(listener); }
  removeOnChange(listener) { this.listeners = this.listeners.filter((other) => other !== listener); }
  fireOnChange() { this.listeners.forEach((listener) => listener(this._model.event(this))); }

  setRequiredLevel(level) {
    this.level = level;
    this._model.changed(this);
  }

  /** As in Dynamics, a script that sets a value is not told of it; `fireOnChange` tells. */
  setValue(value) {
    this.value = value === "" || value === undefined ? null : value;
    this._model.changed(this);
  }

  /** What the Web API gets. */
  written() {
    if (TYPES[this.column.type] === "lookup") {
      const [table] = this.value ? [this.value[0].entityType] : Object.keys(this.column.targets ?? {});
      const property = this.column.targets?.[table];
      return [`${property}@odata.bind`, this.value ? { table, id: this.value[0].id.replace(/[{}]/g, "").toLowerCase() } : null];
    }
    const moment = this.value instanceof Date;
    return [this.name, moment ? (this.column.date_only ? dayOf(this.value) : this.value.toISOString()) : this.value];
  }
}

class Control {
  constructor(model, attribute, view) {
    this._model = model;
    this._attribute = attribute;
    this.view = view;
    this.notes = new Map();
  }

  getName() { return this._attribute.name; }
  getAttribute() { return this._attribute; }
  getControlType() { return "standard"; }
  getLabel() { return this.view.label(); }
  setLabel(text) { this.view.label(text); }
  getDisabled() { return this.view.disabled(); }
  setDisabled(flag) { this.view.disabled(Boolean(flag)); }
  getVisible() { return this.view.visible(); }
  setVisible(flag) { this.view.visible(Boolean(flag)); }
  setFocus() { this.view.focus(); }

  setNotification(text, id = "") {
    this.notes.set(id, text);
    this.view.note([...this.notes.values()].join(" "));
    return true;
  }

  clearNotification(id) {
    if (id === undefined) { this.notes.clear(); } else { this.notes.delete(id); }
    this.view.note([...this.notes.values()].join(" "));
    return true;
  }

  /** What runs with an event: an error shown at the control keeps the form from being saved. */
  hasNote() { return this.notes.size > 0; }
}

/** One row on its form. `show` redraws the page; `notify(notes)` and `dirty(flag)` draw the bar and the mark. */
export class FormModel {
  constructor(words, row, { setOf, show, notify, dirty }) {
    Object.assign(this, { words, row, setOf, show, notify, dirty });
    this.id = row[words.id] ?? null;
    this.notes = new Map();
    this.handlers = { onload: [], onsave: [] };
    this.attributes = new Map(Object.entries(words.columns).map(([name, column]) => [name, new Attribute(this, name, column)]));
    this.controls = new Map();
    this.context = this._context();
  }

  get formType() {
    return this.id === null ? CREATE : this.words.may.write ? UPDATE : READ_ONLY;
  }

  /** Whether a user may change a column on this form. */
  editable(name) {
    const column = this.words.columns[name];
    return Boolean(column) && column.type in TYPES && !["State", "Status", "Owner"].includes(column.type) &&
      (this.formType === CREATE ? column.create : this.formType === UPDATE && column.update);
  }

  add(name, view) {
    const control = new Control(this, this.attributes.get(name), view);
    this.controls.set(name, control);
    return control;
  }

  getControl(name) { return this.controls.get(name) ?? null; }

  changed(attribute) {
    this.getControl(attribute.name)?.view.shown();
    this.dirty(this.isDirty());
  }

  isDirty() { return [...this.attributes.values()].some((attribute) => attribute.getIsDirty()); }

  note(level, text, id) {
    this.notes.set(id, { level, text });
    this.notify([...this.notes.values()]);
  }

  unnote(id) {
    this.notes.delete(id);
    this.notify([...this.notes.values()]);
  }

  event(source, more = {}) {
    const shared = new Map();
    return {
      getFormContext: () => this.context,
      getEventSource: () => source,
      getEventArgs: () => more.args ?? null,
      getContext: () => window.Xrm.Utility.getGlobalContext(),
      getDepth: () => 1,
      getSharedVariable: (name) => shared.get(name),
      setSharedVariable: (name, value) => shared.set(name, value),
    };
  }

  /** Binds what the form's XML names: functions of its libraries for onload, onsave and onchange. */
  bind(handlers) {
    for (const handler of handlers.filter((each) => each.enabled)) {
      const act = handler.function.split(".").reduce((place, part) => place?.[part], window);
      if (typeof act !== "function") {
        throw new Error(`The form calls ${handler.function}, which no script defines.`);
      }
      const bound = (context) => act(...(handler.context ? [context] : []), ...(handler.parameters ? handler.parameters.split(",") : []));
      if (handler.event === "onchange") {
        this.attributes.get(handler.column)?.addOnChange(bound);
      } else {
        this.handlers[handler.event]?.push(bound);
      }
    }
  }

  async load() {
    await Promise.all(this.handlers.onload.map((act) => act(this.event(this.context, { args: { getDataLoadState: () => 1 } }))));
  }

  /** True when the row was written. Handlers may return promises: Dynamics waits for them where the app has asked it to. */
  async save(mode = 1) {
    let prevented = false;
    const args = {
      preventDefault: () => { prevented = true; },
      preventDefaultOnError: () => { prevented = true; },
      disableAsyncTimeout: () => undefined,
      isDefaultPrevented: () => prevented,
      getSaveMode: () => mode,
    };
    await Promise.all(this.handlers.onsave.map((act) => act(this.event(this.context.data.entity, { args }))));
    const missing = [...this.controls.values()].filter((control) => !control.getAttribute().isValid());
    missing.forEach((control) => control.setNotification(`${control.getLabel()}: Required fields must be filled in.`, "required"));
    if (prevented || missing.length || [...this.controls.values()].some((control) => control.hasNote())) {
      return false;
    }
    this.unnote("save");
    try {
      await this._write();
    } catch (error) {
      this.note("ERROR", error.message, "save");
      return false;
    }
    return true;
  }

  async _write() {
    const written = [...this.attributes.values()].filter((attribute) => attribute.submit !== "never" && (attribute.submit === "always" || attribute.getIsDirty()));
    const row = {};
    for (const attribute of written) {
      const [name, value] = attribute.written();
      row[name] = value?.table ? `/${await this.setOf(value.table)}(${value.id})` : value;
    }
    if (this.id !== null) {
      if (written.length) {
        await call(`${this.words.set}(${this.id})`, { method: "PATCH", body: JSON.stringify(row), match: "*" });
      }
      return;
    }
    const { location } = await call(this.words.set, { method: "POST", body: JSON.stringify(row) });
    this.id = location.slice(-37, -1);
  }

  _context() {
    const byName = (map) => (name) => (name === undefined ? [...map.values()] : map.get(name) ?? null);
    const entity = {
      getId: () => (this.id === null ? "" : `{${this.id.toUpperCase()}}`),
      getEntityName: () => this.words.name,
      getPrimaryAttributeValue: () => this.attributes.get(this.words.primary)?.getValue() ?? null,
      getEntityReference: () => ({ entityType: this.words.name, id: this.id, name: entity.getPrimaryAttributeValue() }),
      getIsDirty: () => this.isDirty(),
      isValid: () => [...this.attributes.values()].every((attribute) => attribute.isValid()),
      addOnSave: (act) => this.handlers.onsave.push(act),
      removeOnSave: (act) => { this.handlers.onsave = this.handlers.onsave.filter((other) => other !== act); },
      attributes: { get: byName(this.attributes), forEach: (act) => [...this.attributes.values()].forEach(act), getLength: () => this.attributes.size },
    };
    const save = async (options) => {
      if (await this.save(options?.saveMode ?? 1)) {
        await this.show(this.id);
      } else {
        throw new Error("The row was not saved.");
      }
    };
    return {
      data: {
        entity,
        save,
        refresh: async (first) => (first ? save() : this.show(this.id)),
        getIsDirty: () => this.isDirty(),
        isValid: () => entity.isValid(),
        addOnLoad: (act) => this.handlers.onload.push(act),
      },
      getAttribute: byName(this.attributes),
      getControl: byName(this.controls),
      ui: {
        getFormType: () => this.formType,
        setFormNotification: (text, level, id) => {
          this.note(level, text, id);
          return true;
        },
        clearFormNotification: (id) => {
          this.unnote(id);
          return true;
        },
        refreshRibbon: () => undefined,
        close: () => history.back(),
        controls: { get: byName(this.controls), forEach: (act) => [...this.controls.values()].forEach(act) },
      },
    };
  }
}

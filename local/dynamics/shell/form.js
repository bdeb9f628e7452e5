import { call, table } from "./api.js";
import { el } from "./dom.js";
import { fieldOf } from "./field.js";
import { gridOf } from "./grid.js";

const ROW_HEIGHT = 40;

/** The main form of a record: tabs with sections of fields, grids and pages. `me` and `urls` make the pages' addresses. */
export async function formOf(model, me, urls) {
  const form = model.words.form;
  const panels = await Promise.all(form.tabs.map(async (tab, place) => {
    const sections = await Promise.all(tab.sections.map((section) => sectionOf(section, model, me, urls)));
    return el("div", { role: "tabpanel", id: `panel-${place}`, "aria-labelledby": `tab-${place}` }, ...sections);
  }));
  const tabs = form.tabs.map((tab, place) => el("button", {
    type: "button", role: "tab", id: `tab-${place}`, "aria-controls": `panel-${place}`, onclick: () => select(place),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        select((place + step + tabs.length) % tabs.length).focus();
      }
    },
  }, tab.title));
  function select(chosen) {
    tabs.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === chosen));
      tab.tabIndex = place === chosen ? 0 : -1;
      panels[place].hidden = place !== chosen;
    });
    return tabs[chosen];
  }
  if (tabs.length) {
    select(0);
  }
  return [el("div", { class: "tabs", role: "tablist", "aria-label": "Form" }, ...tabs), ...panels];
}

async function sectionOf(section, model, me, urls) {
  const cells = await Promise.all(section.cells.map((cell) => cellOf(cell, model, me, urls)));
  return el("section", { class: `card columns-${section.columns}` }, el("h2", {}, section.title), ...cells);
}

async function cellOf(cell, model, me, urls) {
  const { words, row } = model;
  if (cell.kind === "page") {
    if (model.id === null) {
      return null; // there is nothing to show before the first save
    }
    // What Dynamics passes to a web resource on a form.
    const query = new URLSearchParams({
      data: "", orgname: "local", orglcid: "1033", userlcid: String(me.lcid), typename: words.name, type: "1", id: `{${row[words.id].toUpperCase()}}`,
    });
    const frame = el("iframe", { title: cell.title, src: `${urls.webResourceUrl(cell.page)}?${query}` });
    frame.style.height = `${cell.rows * ROW_HEIGHT}px`;
    return frame;
  }
  if (cell.kind === "grid") {
    if (model.id === null) {
      return el("p", { class: "soft" }, "Save the row to see what belongs to it.");
    }
    try {
      return await gridOf(cell.table, `${words.set}(${row[words.id]})/${cell.relationship}`, cell.view);
    } catch (error) {
      return el("p", { class: "soft" }, error.message);
    }
  }
  return fieldOf(cell, model);
}

/** The record's row, with every column that the user may read; empty for one that is to be made. */
export async function readRow(name, id) {
  const words = await table(name);
  return { words, row: id ? (await call(`${words.set}(${id})`)).body : {} };
}

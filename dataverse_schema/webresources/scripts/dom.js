"use strict";

// Building elements. Text is always text: nothing here reads markup.
(function (Loyalty) {
  // Attributes: "class", "text", "on" ({event: function}), anything else as it is; null and false are left out.
  function el(tag, attributes, children) {
    const node = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) {
      const value = attributes[name];
      if (value === null || value === undefined || value === false) {
        return;
      }
      if (name === "text") {
        node.textContent = value;
      } else if (name === "on") {
        Object.keys(value).forEach(function (event) { node.addEventListener(event, value[event]); });
      } else {
        node.setAttribute(name, value === true ? "" : value);
      }
    });
    (children || []).forEach(function (child) { if (child) { node.append(child); } });
    return node;
  }

  function put(node, children) {
    node.replaceChildren.apply(node, children.filter(Boolean));
    return node;
  }

  // Facts as a description list: [[name, value], ...]; a value is text or an element.
  function facts(rows) {
    const parts = [];
    rows.filter(Boolean).forEach(function (row) {
      parts.push(el("dt", { text: row[0] }), el("dd", {}, [row[1]]));
    });
    return el("dl", { "class": "facts" }, parts);
  }

  // A table that can be read aloud: head cells, and the first cell of each row as its head. Numeric columns by index.
  function table(caption, heads, rows, numeric) {
    const isNumber = function (index) { return (numeric || []).indexOf(index) >= 0 ? "number" : null; };
    const head = el("tr", {}, heads.map(function (text, i) { return el("th", { scope: "col", "class": isNumber(i), text: text }); }));
    const body = rows.map(function (row) {
      return el("tr", {}, row.map(function (cell, i) {
        return el(i ? "td" : "th", { scope: i ? null : "row", "class": isNumber(i), "data-head": heads[i] }, [cell === null ? "" : cell]);
      }));
    });
    return el("table", {}, [el("caption", { "class": "unseen", text: caption }), el("thead", {}, [head]), el("tbody", {}, body)]);
  }

  // Tabs as the ARIA pattern has them: arrow keys move, the chosen one is in the tab order. `choose(id)` is told.
  // Several tabs may share a panel.
  function tabs(list, choose) {
    const all = Array.from(list.querySelectorAll("[role=tab]"));
    const select = function (tab, focus) {
      const panel = tab.getAttribute("aria-controls");
      all.forEach(function (other) {
        other.setAttribute("aria-selected", String(other === tab));
        other.tabIndex = other === tab ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = other.getAttribute("aria-controls") !== panel;
      });
      if (focus) { tab.focus(); }
      choose(tab.id);
    };
    all.forEach(function (tab, index) {
      tab.addEventListener("click", function () { select(tab, false); });
      tab.addEventListener("keydown", function (event) {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) {
          event.preventDefault();
          select(all[(index + step + all.length) % all.length], true);
        }
      });
    });
    return { select: function (id) { select(all.find(function (tab) { return tab.id === id; }), false); } };
  }

  // The sentence above a page; without text there is none. `kind` is "error" or "warning".
  function notice(text, kind) {
    const node = document.getElementById("notice");
    node.className = "notice " + (kind || "");
    node.textContent = text || "";
    node.hidden = !text;
  }

  Loyalty.dom = {
    el: el,
    put: put,
    facts: facts,
    table: table,
    tabs: tabs,
    notice: notice,
    byId: function (id) { return document.getElementById(id); }
  };
}(window.Loyalty = window.Loyalty || {}));

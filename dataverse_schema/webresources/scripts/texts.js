"use strict";

// The page's words. Each file in texts/ adds one language; a text is a string with {placeholders} or plural forms by `n`.
(function (Loyalty) {
  const tables = Loyalty.textTables = Loyalty.textTables || {};

  function Texts(culture, format) {
    this.language = tables[culture.slice(0, 2)] ? culture.slice(0, 2) : "en";
    this._table = tables[this.language];
    this._plural = new Intl.PluralRules(culture);
    this._format = format;
  }

  Texts.prototype = {
    // Numbers among the values are written in the user's culture; `n` chooses the plural form.
    say: function (key, values) {
      const format = this._format;
      let text = this._table[key];
      if (text === undefined) {
        throw new Error("no text " + key);
      }
      if (typeof text === "object") {
        text = text[this._plural.select(values.n)] || text.other;
      }
      return text.replace(/\{(\w+)\}/g, function (_, name) {
        const value = values[name];
        return typeof value === "number" ? format.points(value) : String(value);
      });
    },

    // A text that may not exist: the name of a choice, a reason code.
    find: function (key, otherwise) {
      return Object.prototype.hasOwnProperty.call(this._table, key) ? this._table[key] : otherwise;
    },

    // Fills data-text, data-label (aria-label) and data-hint (placeholder) of a page.
    fill: function (root) {
      document.documentElement.lang = this.language;
      this._each(root, "text", function (node, text) { node.textContent = text; });
      this._each(root, "label", function (node, text) { node.setAttribute("aria-label", text); });
      this._each(root, "hint", function (node, text) { node.setAttribute("placeholder", text); });
    },

    _each: function (root, name, put) {
      const say = this.say.bind(this);
      root.querySelectorAll("[data-" + name + "]").forEach(function (node) { put(node, say(node.dataset[name], {})); });
    }
  };

  Loyalty.addTexts = function (language, table) { tables[language] = Object.assign(tables[language] || {}, table); };
  Loyalty.Texts = Texts;
}(window.Loyalty = window.Loyalty || {}));

"use strict";

// An entry unfolded: invoice line -> rule version -> arithmetic -> lot -> consumption, from the ledger alone.
(function (Loyalty) {
  const el = Loyalty.dom.el;

  // An exact number as the ledger writes it: "12.5" or "4/3".
  function exact(text) {
    const parts = text.split("/").map(Number);
    return parts.length === 2 ? parts[0] / parts[1] : parts[0];
  }

  function recordLink(cause, text) {
    const parts = cause.split(":");
    const table = { invoice: "invoice", redemption: "loy_redemption", adjustment: "loy_adjustment" }[parts[0]];
    return table
      ? el("a", { href: "/main.aspx?pagetype=entityrecord&etn=" + table + "&id=" + parts[1], target: "_blank", rel: "noopener", text: text })
      : el("span", { text: text });
  }

  function Explainer(texts, format, currency) {
    this._say = texts.say.bind(texts);
    this._texts = texts;
    this._format = format;
    this._currency = currency;
  }

  Explainer.prototype = {
    // `later`: the entries after this one, for what became of its points.
    explain: function (entry, later) {
      const why = Loyalty.ledger.explanation(entry);
      const moved = Loyalty.ledger.movements(entry);
      return el("div", { "class": "explain" }, [
        this._cause(entry, why),
        this._lines(why),
        this._arithmetic(entry, why),
        this._moved(moved),
        this._became(entry, moved, later),
        el("p", { "class": "hint", text: this._say("explain.place", { n: entry.loy_sequence }) })
      ]);
    },

    _cause: function (entry, why) {
      const say = this._say;
      const format = this._format;
      const day = format.instant(entry.loy_occurredon);
      const rows = [];
      if (why.invoice) {
        rows.push([say("explain.invoice", {}), recordLink(entry.loy_cause, why.invoice)]);
        rows.push([say("explain.status", {}), this._texts.find("status." + why.status, why.status)]);
      } else if (entry.loy_cause.indexOf(":") > 0) {
        rows.push([say("explain.record", {}), recordLink(entry.loy_cause, this._texts.find("record." + entry.loy_cause.split(":")[0], entry.loy_cause))]);
      }
      if (why.because) { rows.push([say("explain.because", {}), recordLink(why.because, say("explain.earlierInvoice", {}))]); }
      if (why.code) { rows.push([say("result.code", {}), why.code]); }
      if (why.value) { rows.push([say("fact.value", {}), format.money(Number(why.value), this._currency)]); }
      if (why.description || why.reason) { rows.push([say("fact.reason", {}), why.description || why.reason]); }
      if (why.spend) { rows.push([say("explain.spend", {}), format.money(Number(why.spend), this._currency)]); }
      rows.push([say("explain.date", {}), day]);
      if (why.spendable_on) { rows.push([say("explain.spendable", {}), format.day(why.spendable_on)]); }
      return Loyalty.dom.facts(rows);
    },

    _lines: function (why) {
      const say = this._say;
      const format = this._format;
      const currency = this._currency;
      const lines = (why.lines || []).map(function (line) {
        return [line[0], line[1], format.money(Number(line[2]), currency), format.points(line[3])];
      }).concat((why.excluded || []).map(function (line) {
        return [line[0], line[1], format.money(Number(line[2]), currency), say("explain.excluded", {})];
      })).sort(function (a, b) { return a[0].localeCompare(b[0], undefined, { numeric: true }); });
      return lines.length ? Loyalty.dom.table(say("explain.lines", {}),
        [say("column.line", {}), say("column.category", {}), say("column.net", {}), say("column.points", {})], lines, [2, 3]) : null;
    },

    _arithmetic: function (entry, why) {
      if (!why.base) {
        return null;
      }
      const should = why.lines
        ? why.lines.reduce(function (sum, line) { return sum + line[3]; }, 0)
        : Math.floor(exact(why.base) * Number(why.multiplier) + 1e-9);
      const had = should - entry.loy_points;
      const format = this._format;
      return el("p", {}, [
        el("strong", { text: entry.loy_ruleversion ? this._say("explain.rule", { version: entry.loy_ruleversion }) + " " : "" }),
        why.rate ? this._say("explain.rate", { rate: format.number(Number(why.rate)) }) + " " : "",
        this._say("explain.sum", { base: format.number(exact(why.base)), multiplier: format.number(Number(why.multiplier)), n: should }),
        had ? " " + this._say("explain.difference", { had: had, change: format.signed(entry.loy_points) }) : ""
      ]);
    },

    _moved: function (moved) {
      const say = this._say;
      const format = this._format;
      const lots = Object.keys(moved.lots || {}).sort();
      const pending = Object.keys(moved.pending || {});
      const items = lots.map(function (day) {
        return Loyalty.expires(day)
          ? say("explain.lot", { change: format.signed(moved.lots[day]), day: format.day(day) })
          : say("explain.lotForEver", { change: format.signed(moved.lots[day]) });
      }).concat(pending.map(function (document) {
        return say("explain.pending", { change: format.signed(moved.pending[document]) });
      }));
      if (moved.owed) { items.push(say("explain.owed", { change: format.signed(moved.owed) })); }
      return items.length ? el("ul", { "class": "lots" }, items.map(function (text) { return el("li", { text: text }); })) : null;
    },

    // Points that end on one day are one lot: whoever drew from that lot later is shown.
    _became: function (entry, moved, later) {
      const texts = this._texts;
      const format = this._format;
      const items = [];
      Object.keys(moved.lots || {}).filter(function (day) { return moved.lots[day] > 0; }).forEach(function (day) {
        later.forEach(function (other) {
          const drawn = (Loyalty.ledger.movements(other).lots || {})[day] || 0;
          if (drawn < 0) {
            items.push(format.signed(drawn) + "  " + Loyalty.entries.title(other, texts, format) + ", " + format.instant(other.loy_occurredon));
          }
        });
      });
      return items.length ? el("div", {}, [
        el("p", { text: this._say("explain.became", {}) }),
        el("ul", { "class": "lots" }, items.map(function (text) { return el("li", { text: text }); }))
      ]) : null;
    }
  };

  Loyalty.Explainer = Explainer;
}(window.Loyalty = window.Loyalty || {}));

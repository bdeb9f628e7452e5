"use strict";

// Points outstanding by month of expiry and tier, as a chart and as a table: as they are, or before and after something.
// Points are {month: {tier: points}}; beside the months there are what never expires, what is pending, and what is owed (below zero).
(function (Loyalty) {
  const dom = Loyalty.dom;
  const el = dom.el;
  const LAST = ["never", "pending", "owed"];
  const COLOURS = 4;
  const WIDTH = 600;
  const HEIGHT = 140;
  const GAP = 0.25;

  // The figures of a run's row, {"what|tier|month": count}; empty when they cannot be read.
  function figures(row) {
    try {
      return JSON.parse(row.loy_figures || "{}") || {};
    } catch (error) {
      return {};
    }
  }

  // Those of one kind as points; null when the run keeps none.
  function pointsOf(row, what) {
    const kept = figures(row);
    const found = {};
    Object.keys(kept).forEach(function (key) {
      const part = key.split("|");
      if (part[0] === what && Number.isFinite(kept[key])) {
        found[part[2]] = found[part[2]] || {};
        found[part[2]][part[1] || "-"] = kept[key];
      }
    });
    return Object.keys(found).length ? found : null;
  }

  function at(points, month, tier) { return (points && points[month] && points[month][tier]) || 0; }

  function sum(points, months, tiers) {
    return months.reduce(function (total, month) {
      return total + tiers.reduce(function (n, tier) { return n + at(points, month, tier); }, 0);
    }, 0);
  }

  function keys(list) { return list.filter(Boolean).reduce(function (all, each) { return all.concat(Object.keys(each)); }, []); }

  function once(names) { return Array.from(new Set(names)); }

  function Outstanding(before, after, worth, texts, format) {
    this._before = before;
    this._after = after || {};
    this._worth = worth;
    this._texts = texts;
    this._format = format;
    const found = once(keys([before, this._after])).sort();
    this._months = found.filter(function (month) { return LAST.indexOf(month) < 0; })
      .concat(LAST.filter(function (month) { return found.indexOf(month) >= 0; }));
    const all = [this._before, this._after].filter(Boolean);
    const tiers = once(keys(all.reduce(function (months, points) { return months.concat(Object.values(points)); }, [])));
    const weight = {};
    tiers.forEach(function (tier) { weight[tier] = sum(this._after, this._months, [tier]); }, this);
    this._tiers = tiers.sort(function (a, b) { return weight[b] - weight[a] || (a < b ? -1 : 1); });
  }

  Outstanding.prototype = {
    // The whole view; `caption` names what is counted.
    view: function (caption) {
      return el("section", { "class": "outstanding" }, [el("h2", { text: caption }), this._sums(), this._chart(), this._legend(), this._table(caption)]);
    },

    _total: function (points) { return sum(points, this._months, this._tiers); },

    _money: function (points) { return this._format.money(Loyalty.valueOf(points, this._worth.micros), this._worth.currency); },

    _sums: function () {
      const texts = this._texts;
      const said = function (points) {
        const words = this._format.points(points);
        return this._worth ? words + " · " + this._money(points) : words;
      }.bind(this);
      const before = this._before && this._total(this._before);
      const after = this._total(this._after);
      return dom.facts([
        this._before ? [texts.say("outstanding.before", {}), said(before)] : null,
        [texts.say(this._before ? "outstanding.after" : "outstanding.all", {}), said(after)],
        this._before ? [texts.say("outstanding.difference", {}), this._format.signed(after - before) + (this._worth ? " · " + this._money(after - before) : "")] : null
      ]);
    },

    _month: function (month) {
      return LAST.indexOf(month) < 0 ? this._format.month(month) : this._texts.say("outstanding." + month, {});
    },

    // What it was stands below what it is, where they differ.
    _cell: function (months, tiers) {
      const after = sum(this._after, months, tiers);
      const before = this._before ? sum(this._before, months, tiers) : after;
      return el("span", {}, [
        this._format.points(after),
        before === after ? null : el("span", { "class": "hint was", text: this._texts.say("outstanding.was", { n: before }) })
      ]);
    },

    _table: function (caption) {
      const texts = this._texts;
      const tiers = this._tiers;
      const line = function (head, months) {
        const cells = tiers.map(function (tier) { return this._cell(months, [tier]); }, this);
        const money = this._worth ? [this._money(sum(this._after, months, tiers))] : [];
        return [head].concat(cells, [this._cell(months, tiers)], money);
      }.bind(this);
      const heads = [texts.say("outstanding.month", {})].concat(tiers, [texts.say("outstanding.total", {})],
        this._worth ? [texts.say("outstanding.money", {})] : []);
      const lines = this._months.map(function (month) { return line(this._month(month), [month]); }, this);
      return dom.table(caption, heads, lines.concat([line(texts.say("outstanding.total", {}), this._months)]), heads.map(function (_, i) { return i; }).slice(1));
    },

    // A column for each month: tiers upon each other; behind them, wider and paler, what it was.
    _chart: function () {
      const months = this._months.filter(function (month) { return LAST.indexOf(month) < 0; });
      const total = function (points) { return function (month) { return sum(points, [month], this._tiers); }.bind(this); }.bind(this);
      const heights = months.map(total(this._after));
      const most = Math.max.apply(null, heights.concat(this._before ? months.map(total(this._before)) : []));
      if (months.length < 2 || !(most > 0)) { return null; }
      const picture = dom.byId("bars").content.firstElementChild.cloneNode(true);
      const model = picture.firstElementChild;
      const slot = WIDTH / months.length;
      const bar = function (name, x, width, below, points, title) {
        const node = model.cloneNode(true);
        const height = Math.max(0, points) / most * HEIGHT;
        node.setAttribute("class", name);
        node.setAttribute("x", x.toFixed(1));
        node.setAttribute("width", width.toFixed(1));
        node.setAttribute("y", (HEIGHT - below - height).toFixed(1));
        node.setAttribute("height", height.toFixed(1));
        node.firstElementChild.textContent = title;
        picture.append(node);
        return below + height;
      };
      model.remove();
      months.forEach(function (month, place) {
        const x = place * slot;
        const name = this._month(month);
        if (this._before) {
          const n = total(this._before)(month);
          bar("was", x, slot * (1 - GAP / 2), 0, n, name + ": " + this._texts.say("outstanding.was", { n: n }));
        }
        this._tiers.reduce(function (below, tier, colour) {
          const n = at(this._after, month, tier);
          return bar("tier-" + colour % COLOURS, x + slot * GAP / 2, slot * (1 - 1.5 * GAP), below, n, name + ", " + tier + ": " + this._format.points(n));
        }.bind(this), 0);
      }, this);
      const highest = heights.indexOf(Math.max.apply(null, heights));
      const words = this._texts.say("outstanding.chart", {
        first: this._month(months[0]), last: this._month(months[months.length - 1]), month: this._month(months[highest]), points: heights[highest]
      });
      picture.setAttribute("viewBox", "0 0 " + WIDTH + " " + HEIGHT);
      picture.setAttribute("aria-label", words);
      return el("figure", {}, [picture, el("figcaption", { "class": "hint", text: words })]);
    },

    _legend: function () {
      const names = this._tiers.map(function (tier, colour) { return el("li", { "class": "tier-" + colour % COLOURS, text: tier }); });
      return el("ul", { "class": "legend" }, names.concat(this._before ? [el("li", { "class": "was", text: this._texts.say("outstanding.before", {}) })] : []));
    }
  };

  // What a point is worth to the programme that the members are in, as {micros, currency}; null when it has no value or is not known.
  async function worth() {
    const answers = await Promise.all([
      Loyalty.webApi.read("loy_memberships?$select=loy_membershipid&$expand=loy_ProgramId($select=loy_pointvalue)&$filter=_loy_programid_value ne null&$top=1"),
      Loyalty.currency()
    ]);
    const member = answers[0].value[0];
    const micros = member && member.loy_ProgramId ? Loyalty.micros(member.loy_ProgramId.loy_pointvalue) : 0;
    return micros ? { micros: micros, currency: answers[1] } : null;
  }

  Loyalty.outstanding = {
    figures: figures,
    pointsOf: pointsOf,
    worth: worth,
    view: function (before, after, worthOf, caption, texts, format) { return new Outstanding(before, after, worthOf, texts, format).view(caption); }
  };
}(window.Loyalty = window.Loyalty || {}));

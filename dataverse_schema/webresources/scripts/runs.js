"use strict";

// Bulk runs with their counters, looked at again while one is running.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const RUNNING = 482100001;
  const LIVE = 2000;
  const BADGES = { 482100001: "", 482100002: "warn", 482100003: "good", 482100004: "quiet", 482100005: "bad" };
  const OWN = ["loy_name", "loy_kind", "loy_status", "loy_asof"];

  // Whatever whole numbers a run keeps are its counters.
  function counters(row) {
    return Object.keys(row).filter(function (column) {
      return column.slice(0, 4) === "loy_" && OWN.indexOf(column) < 0 && Number.isInteger(row[column]);
    });
  }

  function Runs(node, texts, format) {
    this._node = node;
    this._texts = texts;
    this._format = format;
    this._timer = 0;
  }

  Runs.prototype = {
    stop: function () { clearTimeout(this._timer); },

    show: async function () {
      this.stop();
      const page = await Loyalty.webApi.readFormatted("loy_bulkruns?$orderby=createdon desc&$top=25");
      this._render(page.value);
      if (page.value.some(function (row) { return row.loy_status === RUNNING; })) {
        this._timer = setTimeout(this.show.bind(this), LIVE);
      }
    },

    _render: function (rows) {
      const say = this._texts.say.bind(this._texts);
      const format = this._format;
      const texts = this._texts;
      Loyalty.dom.put(this._node, rows.length ? rows.map(function (row) {
        return el("article", { "class": "card" }, [
          el("div", { "class": "who" }, [
            el("h2", {}, [Loyalty.record.link("loy_bulkrun", row.loy_bulkrunid, row.loy_name || row.loy_bulkrunid)]),
            el("span", { "class": "badge " + (BADGES[row.loy_status] || "quiet"), text: texts.find("run.status." + (row.loy_status - 482100000), "") })
          ]),
          Loyalty.dom.facts([
            [say("run.kind", {}), texts.find("run.kind." + (row.loy_kind - 482100000), "-")],
            row.loy_asof ? [say("run.asOf", {}), format.day(row.loy_asof)] : null,
            [say("run.changed", {}), format.instant(row.modifiedon)]
          ].concat(counters(row).map(function (column) {
            return [texts.find("run." + column, column.slice(4)), el("span", { "class": "counter", text: format.points(row[column]) })];
          })))
        ]);
      }) : [el("p", { "class": "hint", text: say("run.none", {}) })]);
    }
  };

  Loyalty.Runs = Runs;
}(window.Loyalty = window.Loyalty || {}));

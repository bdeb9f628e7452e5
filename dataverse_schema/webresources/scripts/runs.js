"use strict";

// All bulk runs, the newest first, looked at again while one of them is running.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const LIVE = 2000;

  function Runs(node, texts, format) {
    this._node = node;
    this._texts = texts;
    this._format = format;
    this._timer = 0;
    this._shown = false;
  }

  Runs.prototype = {
    stop: function () {
      this._shown = false;
      clearTimeout(this._timer);
    },

    show: async function () {
      this._shown = true;
      await this._look();
    },

    _look: async function () {
      const page = await Loyalty.webApi.read("loy_bulkruns?$orderby=createdon desc&$top=25");
      if (!this._shown) { return; }
      this._render(page.value);
      clearTimeout(this._timer);
      if (page.value.some(function (row) { return row.loy_status === Loyalty.run.STATUS.RUNNING; })) {
        this._timer = setTimeout(this._again.bind(this), LIVE);
      }
    },

    // A look that fails on the way is made up for by the next.
    _again: function () {
      const again = this._again.bind(this);
      this._look().catch(function (error) {
        if (error.passing) { setTimeout(again, LIVE); }
      });
    },

    _render: function (rows) {
      const texts = this._texts;
      const format = this._format;
      const now = Loyalty.webApi.now();
      Loyalty.dom.put(this._node, rows.length ? rows.map(function (row) {
        return el("article", { "class": "card" }, [el("div", { "class": "who" }, [
          el("h2", {}, [Loyalty.record.link("loy_bulkrun", row.loy_bulkrunid, row.loy_name || row.loy_bulkrunid)]),
          Loyalty.run.badge(row, texts)
        ])].concat(Loyalty.run.view(row, null, now, texts, format)));
      }) : [el("p", { "class": "hint", text: texts.say("run.none", {}) })]);
    }
  };

  Loyalty.Runs = Runs;
}(window.Loyalty = window.Loyalty || {}));

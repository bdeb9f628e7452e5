"use strict";

// One bulk run: status, progress, rate, remaining time, counters, and a chart of the time that the page has been open.
// A counter that a run does not keep is not shown.
(function (Loyalty) {
  const dom = Loyalty.dom;
  const el = dom.el;
  const FIRST = 482100000;
  const STATUS = { DRAFT: FIRST, RUNNING: FIRST + 1, PAUSED: FIRST + 2, DONE: FIRST + 3, CANCELLED: FIRST + 4, FAILED: FIRST + 5 };
  const BADGES = ["quiet", "", "warn", "good", "quiet", "bad"];
  const VISITED = ["loy_done", "loy_excluded", "loy_secondround", "loy_failed"];
  const COUNTERS = ["loy_done", "loy_excluded", "loy_secondround", "loy_failed", "loy_entries", "loy_pointscancelled",
    "loy_noticesconfirmed", "loy_conflicts", "loy_rewritten", "loy_throttled", "loy_examined", "loy_posted"];
  const SILENT = 180000;
  const WIDTH = 600;
  const HEIGHT = 120;
  const SAMPLES = 900;

  function visited(row) { return VISITED.reduce(function (sum, column) { return sum + (row[column] || 0); }, 0); }

  // What the page has seen of a run while it was open: rate and chart come from it.
  function History() { this._seen = []; }
  History.prototype = {
    add: function (row, now) {
      const last = this._seen[this._seen.length - 1];
      if (!last || visited(row) !== last.count || row.loy_status === STATUS.RUNNING) {
        this._seen.push({ at: now, count: visited(row) });
        this._seen = this._seen.slice(-SAMPLES);
      }
    },
    // Customers a second in the last half minute; null before there are two looks.
    rate: function () {
      const last = this._seen[this._seen.length - 1];
      const first = this._seen.find(function (sample) { return last.at - sample.at <= 30000; });
      return !last || last.at === first.at ? null : (last.count - first.count) * 1000 / (last.at - first.at);
    },
    samples: function () { return this._seen; }
  };

  function badge(row, texts) {
    return el("span", { "class": "badge " + (BADGES[row.loy_status - FIRST] || "quiet"), text: texts.find("run.status." + (row.loy_status - FIRST), "-") });
  }

  function duration(seconds, texts) {
    const minutes = Math.round(seconds / 60);
    if (minutes < 1) { return texts.say("run.lessThanAMinute", {}); }
    return minutes < 60 ? texts.say("run.minutes", { n: minutes }) : texts.say("run.hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
  }

  // Of a run that counts its customers: a bar with its words.
  function bar(row, texts) {
    if (typeof row.loy_selected !== "number" || !row.loy_selected) {
      return row.loy_status === STATUS.RUNNING && row.loy_selected === null ? el("p", { "class": "hint", text: texts.say("run.counting", {}) }) : null;
    }
    const text = texts.say("run.progress", { visited: visited(row), selected: row.loy_selected });
    return el("div", { "class": "run-bar" }, [
      el("progress", { max: String(row.loy_selected), value: String(Math.min(visited(row), row.loy_selected)), "aria-label": text }),
      el("span", { text: text })
    ]);
  }

  function pace(row, rate, now, texts, format) {
    const facts = [];
    const perSecond = rate === null ? row.loy_persecond : rate;
    if (row.loy_status === STATUS.RUNNING && perSecond) {
      facts.push([texts.say("run.rate", {}), texts.say("run.rateNow", { rate: format.number(Math.round(perSecond * 10) / 10) })]);
      if (row.loy_selected > visited(row)) {
        facts.push([texts.say("run.left", {}), duration((row.loy_selected - visited(row)) / perSecond, texts)]);
      }
    }
    if (row.loy_startedon && row.loy_endedon) {
      facts.push([texts.say("run.took", {}), duration((new Date(row.loy_endedon) - new Date(row.loy_startedon)) / 1000, texts)]);
    }
    return facts;
  }

  function tiles(row, texts, format) {
    const shown = COUNTERS.filter(function (column) { return typeof row[column] === "number" && (row[column] || column === "loy_done"); });
    return el("dl", { "class": "tiles" }, shown.map(function (column) {
      return el("div", { "class": column === "loy_failed" ? "bad" : null }, [
        el("dt", { text: (row.loy_dryrun && texts.find("run.dry." + column, "")) || texts.say("run." + column, {}) }),
        el("dd", { "class": "counter", text: format.points(row[column]) })
      ]);
    }));
  }

  // A line from the first look to the last; its words say what it shows.
  function chart(samples, texts, format) {
    if (samples.length < 3 || samples[0].count === samples[samples.length - 1].count) {
      return null;
    }
    const first = samples[0];
    const last = samples[samples.length - 1];
    const x = function (sample) { return (sample.at - first.at) / (last.at - first.at) * WIDTH; };
    const y = function (sample) { return HEIGHT - (sample.count - first.count) / (last.count - first.count) * HEIGHT; };
    const points = samples.map(function (sample) { return x(sample).toFixed(1) + "," + y(sample).toFixed(1); }).join(" ");
    const words = texts.say("run.chart", { from: first.count, start: format.time(new Date(first.at).toISOString()), to: last.count, end: format.time(new Date(last.at).toISOString()) });
    const picture = dom.byId("chart").content.firstElementChild.cloneNode(true);
    picture.setAttribute("viewBox", "0 0 " + WIDTH + " " + HEIGHT);
    picture.setAttribute("aria-label", words);
    picture.querySelector("polygon").setAttribute("points", "0," + HEIGHT + " " + points + " " + WIDTH + "," + HEIGHT);
    picture.querySelector("polyline").setAttribute("points", points);
    return el("figure", {}, [picture, el("figcaption", { "class": "hint", text: words })]);
  }

  // What the run means for the points outstanding: before and after of those it visited, or all of them if it counts them.
  function outstanding(row, worth, texts, format) {
    const counted = Loyalty.outstanding.pointsOf(row, "outstanding");
    const before = Loyalty.outstanding.pointsOf(row, "before");
    const after = Loyalty.outstanding.pointsOf(row, "after");
    if (!counted && !before && !after) { return null; }
    const caption = counted ? "outstanding.title" : row.loy_dryrun ? "outstanding.ofDryRun" : "outstanding.ofRun";
    return Loyalty.outstanding.view(counted ? null : before || {}, counted || after, worth, texts.say(caption, {}), texts, format);
  }

  // The other figures as a table.
  function figures(row, texts, format) {
    const kept = Loyalty.outstanding.figures(row);
    const lines = Object.keys(kept).filter(function (key) {
      return Number.isFinite(kept[key]) && ["before", "after", "outstanding"].indexOf(key.split("|")[0]) < 0;
    }).sort().map(function (key) {
      const part = key.split("|");
      const month = /^\d{4}-\d\d/.test(part[2] || "") ? format.month(part[2]) : part[2] || "-";
      return [texts.find("run.figure." + part[0], part[0]), part[1] || "-", month, format.points(kept[key])];
    });
    return lines.length ? el("details", {}, [
      el("summary", { text: texts.say("run.figures", {}) }),
      dom.table(texts.say("run.figures", {}), [texts.say("run.what", {}), texts.say("run.tier", {}), texts.say("run.month", {}), texts.say("column.points", {})], lines, [3])
    ]) : null;
  }

  // Everything about a run but its buttons. `history` may be null: then there is neither chart nor figures. `worth`: of a point, or null.
  function view(row, history, now, texts, format, worth) {
    const silent = row.loy_status === STATUS.RUNNING && row.loy_seenon && now - new Date(row.loy_seenon) > SILENT;
    return [
      row.loy_dryrun ? el("p", { "class": "hint", text: texts.say("run.dry", {}) }) : null,
      row.loy_message ? el("p", { "class": row.loy_status === STATUS.FAILED ? "error" : null, text: row.loy_message }) : null,
      silent ? el("p", { "class": "error", text: texts.say("run.silent", { time: format.instant(row.loy_seenon) }) }) : null,
      bar(row, texts),
      dom.facts([
        [texts.say("run.kind", {}), texts.find("run.kind." + (row.loy_kind - FIRST), "-")],
        row.loy_asof ? [texts.say("run.asOf", {}), format.day(row.loy_asof)] : null,
        [texts.say("run.changed", {}), format.instant(row.modifiedon)]
      ].concat(pace(row, history && history.rate(), now, texts, format))),
      tiles(row, texts, format),
      history ? chart(history.samples(), texts, format) : null,
      history ? outstanding(row, worth, texts, format) : null,
      history ? figures(row, texts, format) : null
    ];
  }

  Loyalty.run = { STATUS: STATUS, History: History, badge: badge, view: view };
}(window.Loyalty = window.Loyalty || {}));

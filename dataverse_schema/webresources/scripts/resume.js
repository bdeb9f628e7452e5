"use strict";

// Asking the connector about rows of the log: Check (what would happen now?) and Resume (do it). Both are a mark on the row, whose
// update is an event like any other; the connector takes the mark off when it has answered.
(function (Loyalty) {
  const AT_ONCE = 4;
  const POLLS = [300, 300, 400, 600, 800, 1200, 2000, 3000, 4000, 5000];

  // `work(item)` for all, a few at a time, in order; `done(count)` after each.
  async function each(items, work, done) {
    const results = [];
    let next = 0;
    let count = 0;
    const lane = async function () {
      while (next < items.length) {
        const place = next;
        next += 1;
        results[place] = await work(items[place]);
        count += 1;
        done(count);
      }
    };
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, lane));
    return results;
  }

  function pathOf(log) { return "loy_integrationlogs(" + log.loy_integrationlogid + ")"; }

  // Puts the mark (`loy_check` or `loy_resume`) on all rows and waits until the connector has taken it off, as long as it may take.
  // {rows: the new rows by id, waiting: how many still have the mark}; the first Problem when a row cannot be marked.
  async function ask(logs, mark, columns, done) {
    await each(logs, function (log) {
      const change = {};
      change[mark] = true;
      return Loyalty.webApi.update(pathOf(log), change);
    }, done);
    const rows = {};
    let waiting = logs;
    for (let attempt = 0; waiting.length && attempt < POLLS.length; attempt += 1) {
      await Loyalty.pause(POLLS[attempt]);
      const found = await each(waiting, function (log) { return Loyalty.webApi.read(pathOf(log) + "?$select=" + columns); }, function () { /* no progress to show */ });
      found.forEach(function (row) { rows[row.loy_integrationlogid] = row; });
      waiting = waiting.filter(function (log) { return rows[log.loy_integrationlogid][mark]; });
    }
    return { rows: rows, waiting: waiting.length };
  }

  Loyalty.resume = { ask: ask };
}(window.Loyalty = window.Loyalty || {}));

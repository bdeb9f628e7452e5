"use strict";

// Sending parked changes again: first a look at what Resume would find, then one change after another, then their outcome.
(function (Loyalty) {
  const AT_ONCE = 4;
  const POLLS = [400, 600, 800, 1200, 2000, 3000, 4000, 5000];

  // {log, state: gone | changed | same | unknown, record, booked}: has anything changed since the change was parked?
  async function look(log) {
    const record = await Loyalty.record.read(log);
    const cause = Loyalty.causeOf(log);
    const page = await Loyalty.webApi.read("loy_entries?$select=loy_points&$filter=loy_cause eq '" + cause.replace(/'/g, "''") + "'");
    const booked = page.value.reduce(function (sum, entry) { return sum + entry.loy_points; }, 0);
    let state = "unknown";
    if (record && record.found === false) {
      state = "gone";
    } else if (record && record.found) {
      state = record.row.modifiedon > log.loy_occurredon || await rulesChanged(log.loy_occurredon) ? "changed" : "same";
    }
    return { log: log, state: state, record: record, booked: booked };
  }

  // Programme, tiers and earn rules decide as well.
  async function rulesChanged(since) {
    const after = "?$select=modifiedon&$top=1&$filter=modifiedon gt " + since;
    const pages = await Promise.all(["loy_programs", "loy_tiers", "loy_earnrules"].map(function (set) {
      return Loyalty.webApi.read(set + after);
    }));
    return pages.some(function (page) { return page.value.length > 0; });
  }

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

  // Null, or the Problem of a row that could not be resumed.
  async function resume(log) {
    try {
      await Loyalty.webApi.update("loy_integrationlogs(" + log.loy_integrationlogid + ")", { loy_resume: true });
      return null;
    } catch (error) {
      return error;
    }
  }

  // How many of the rows still wait when the connector has had its time; their new rows by id.
  async function outcome(logs, columns) {
    const rows = {};
    let waiting = logs.map(function (log) { return log.loy_integrationlogid; });
    for (let attempt = 0; waiting.length && attempt < POLLS.length; attempt += 1) {
      await Loyalty.pause(POLLS[attempt]);
      const found = await each(waiting, function (id) {
        return Loyalty.webApi.read("loy_integrationlogs(" + id + ")?$select=" + columns);
      }, function () { /* no progress to show */ });
      found.forEach(function (row) { rows[row.loy_integrationlogid] = row; });
      waiting = waiting.filter(function (id) { return rows[id].loy_resume; });
    }
    return { waiting: waiting.length, rows: rows };
  }

  Loyalty.resume = { look: look, each: each, resume: resume, outcome: outcome };
}(window.Loyalty = window.Loyalty || {}));

"use strict";

// What Resume would do, as the connector has computed it for each row: the sentence, the entries, the points before and after.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const BADGES = { applied: "good", nothing: "quiet", rejected: "warn", parked: "bad" };

  // {at, ledgers} of a checked row, or null.
  function previewOf(row) {
    try {
      return JSON.parse((row && row.loy_preview) || "null");
    } catch (error) {
      return null;
    }
  }

  function difference(ledger) { return ledger.after.available + ledger.after.pending - ledger.before.available - ledger.before.pending; }

  function change(from, to, format) { return from === to ? format.points(to) : format.points(from) + " → " + format.points(to); }

  function entries(ledger, texts, format) {
    if (!ledger.entries.length) {
      return null;
    }
    const items = ledger.entries.map(function (entry) {
      return texts.say("finding.entry", { kind: texts.find("kind." + entry.kind, entry.kind), points: format.signed(entry.points), cause: entry.cause.replace(/:([0-9a-f]{8})-.*/, " $1") });
    });
    if (ledger.count > items.length) {
      items.push(texts.say("finding.moreEntries", { n: ledger.count - items.length }));
    }
    return el("ul", { "class": "would" }, items.map(function (text) { return el("li", { text: text }); }));
  }

  function points(ledger, texts, format) {
    const both = ledger.before.pending || ledger.after.pending;
    return el("span", {}, [
      el("span", { "class": "line", text: change(ledger.before.available, ledger.after.available, format) }),
      both ? el("span", { "class": "line hint", text: texts.say("finding.pending", { change: change(ledger.before.pending, ledger.after.pending, format) }) }) : null,
      ledger.before.tier === ledger.after.tier ? null : el("span", { "class": "line hint", text: texts.say("finding.tier", { from: ledger.before.tier || "-", to: ledger.after.tier }) })
    ]);
  }

  // Lines of the table for one row of the log.
  function lines(log, row, texts, format) {
    const preview = previewOf(row);
    const about = el("div", {}, [
      el("span", { "class": "line", text: Loyalty.said.ofLog(log, texts, format).message }), Loyalty.record.about(log, texts)
    ]);
    if (!preview || row.loy_check) {
      return [[about, texts.say("finding.waiting", {}), "", ""]];
    }
    // Who only passes a change on has nothing to tell when somebody takes it up.
    const telling = preview.ledgers.filter(function (ledger) { return ledger.outcome !== "nothing" || ledger.customer; });
    return (telling.length ? telling : preview.ledgers).map(function (ledger, place) {
      return [
        place ? "" : about,
        el("div", {}, [
          el("span", { "class": "badge " + (BADGES[ledger.outcome] || "quiet"), text: texts.say("outcome." + ledger.outcome, {}) }),
          el("span", { "class": "line", text: Loyalty.said.sentence(ledger.said, ledger.message, texts, format) }),
          entries(ledger, texts, format)
        ]),
        points(ledger, texts, format),
        format.signed(difference(ledger))
      ];
    });
  }

  // {rows, entries, points, outcomes} over all rows.
  function totals(logs, rows) {
    const sum = { entries: 0, points: 0, parked: 0, changed: 0 };
    logs.forEach(function (log) {
      const preview = previewOf(rows[log.loy_integrationlogid]);
      const ledgers = preview ? preview.ledgers : [];
      sum.entries += ledgers.reduce(function (count, ledger) { return count + ledger.count; }, 0);
      sum.points += ledgers.reduce(function (count, ledger) { return count + difference(ledger); }, 0);
      sum.parked += ledgers.some(function (ledger) { return ledger.outcome === "parked"; }) ? 1 : 0;
      sum.changed += ledgers.some(function (ledger) { return ledger.count > 0; }) ? 1 : 0;
    });
    return sum;
  }

  // `rows`: the checked rows by id.
  function findings(logs, rows, texts, format) {
    const say = texts.say.bind(texts);
    const sum = totals(logs, rows);
    const body = [].concat.apply([], logs.map(function (log) { return lines(log, rows[log.loy_integrationlogid], texts, format); }));
    return [
      el("h2", { id: "findings-title", tabindex: "-1", text: say("finding.title", {}) }),
      el("p", { id: "findings-sum", text: say("finding.sum", { n: sum.changed, all: logs.length, entries: sum.entries, points: format.signed(sum.points), parked: sum.parked }) }),
      el("p", { "class": "hint", text: say(logs.length > 1 ? "finding.aboutMany" : "finding.about", {}) }),
      Loyalty.dom.table(say("finding.title", {}), [say("log.happened", {}), say("finding.would", {}), say("finding.points", {}), say("finding.difference", {})], body, [2, 3])
    ];
  }

  Loyalty.findings = findings;
}(window.Loyalty = window.Loyalty || {}));

"use strict";

// A row of the log unfolded: what happened, what to do, and the way from the event to the entries of the ledger.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const COLUMNS = "loy_name,loy_message,loy_nextstep,loy_said,loy_outcome,loy_occurredon,loy_durationms,loy_attempt";
  const ENTRY = "loy_sequence,loy_kind,loy_points,loy_occurredon,loy_explanation,loy_movements";

  function change(log) {
    try {
      return JSON.parse(log.loy_change || "{}");
    } catch (error) {
      return {};
    }
  }

  // The entries that the change appended; of one that was decided again, or before this was kept, those that name its record.
  function entriesOf(log) {
    const quoted = function (text) { return "'" + String(text).replace(/'/g, "''") + "'"; };
    const places = Loyalty.said.booked(log);
    const filter = places && log.loy_customerkey
      ? "loy_MembershipId/loy_customerkey eq " + quoted(log.loy_customerkey) + " and loy_sequence ge " + places[0] + " and loy_sequence le " + places[1]
      : "loy_cause eq " + quoted(causeOf(log));
    return "loy_entries?$select=" + ENTRY + "&$filter=" + filter + "&$orderby=loy_sequence asc&$top=50";
  }

  function causeOf(log) { return (log.loy_operation || "") + ":" + (log.loy_recordid || ""); }

  async function trace(log, texts, format) {
    const say = texts.say.bind(texts);
    const quoted = function (text) { return "'" + String(text).replace(/'/g, "''") + "'"; };
    const same = log.loy_correlationid ? "loy_correlationid eq " + quoted(log.loy_correlationid) : "loy_recordid eq " + quoted(log.loy_recordid || "");
    const answers = await Promise.all([
      Loyalty.record.read(log),
      Loyalty.webApi.read("loy_integrationlogs?$select=" + COLUMNS + "&$filter=" + same + "&$orderby=loy_occurredon asc&$top=50"),
      Loyalty.webApi.read(entriesOf(log))
    ]);
    return el("div", { "class": "trace" }, [
      facts(log, answers[0], Loyalty.said.ofLog(log, texts, format), say, format),
      el("h2", { text: say("trace.way", {}) }),
      el("ol", {}, [el("li", { text: say("trace.event", { cause: change(log).cause || "-" }) })]
        .concat(answers[1].value.map(function (row) { return step(row, texts, format); }))
        .concat(answers[2].value.map(function (entry) { return booked(entry, texts, format); }))
        .concat(answers[2].value.length ? [] : [el("li", { text: say("trace.noEntry", {}) })])),
      log.loy_change ? el("details", {}, [el("summary", { text: say("trace.change", {}) }), el("pre", { tabindex: "0", text: log.loy_change })]) : null
    ]);
  }

  function facts(log, record, said, say, format) {
    const name = log.loy_recordtable && log.loy_recordid ? Loyalty.record.link(log.loy_recordtable, log.loy_recordid,
      record && record.found ? record.row.name || record.row.loy_name || log.loy_recordid : log.loy_recordid) : "-";
    const customer = (log.loy_customerkey || "").split(":");
    return Loyalty.dom.facts([
      [say("trace.message", {}), said.message],
      said.next ? [say("trace.nextStep", {}), said.next] : null,
      log.loy_field ? [say("trace.field", {}), log.loy_field] : null,
      [say("trace.record", {}), name],
      customer.length === 2 ? [say("fact.customer", {}), Loyalty.record.link(customer[0], customer[1], log.loy_customerkey)] : null,
      [say("trace.attempts", {}), format.points(log.loy_attempt || 1)],
      log.loy_correlationid ? [say("trace.correlation", {}), log.loy_correlationid] : null
    ]);
  }

  function step(row, texts, format) {
    return el("li", { text: texts.say("trace.step", { time: format.time(row.loy_occurredon), sentence: Loyalty.said.ofLog(row, texts, format).message,
      ms: row.loy_durationms || 0, attempt: row.loy_attempt || 1 }) });
  }

  function booked(entry, texts, format) {
    return el("li", { text: texts.say("trace.entry", { place: entry.loy_sequence, points: format.signed(entry.loy_points),
      title: Loyalty.entries.title(entry, texts, format) }) });
  }

  Loyalty.trace = trace;
  Loyalty.causeOf = causeOf;
}(window.Loyalty = window.Loyalty || {}));

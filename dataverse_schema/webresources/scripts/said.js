"use strict";

// What the connector said, in the user's language: codes with values become sentences. A code that this page does not know,
// because the connector is newer, is said in the English that the connector wrote beside it.
(function (Loyalty) {
  const DAY = /^\d{4}-\d\d-\d\d$/;

  function values(given, texts, format) {
    const shown = {};
    Object.keys(given).forEach(function (name) {
      const value = given[name];
      shown[name] = Array.isArray(value) ? clauses(value, texts, format, ", ") : DAY.test(value) ? format.day(value) : value;
    });
    shown.n = typeof given.points === "number" ? given.points : given.count || 0;
    return shown;
  }

  function clauses(parts, texts, format, between) {
    return parts.map(function (part) { return texts.say("said." + part[0], values(part[1], texts, format)); }).join(between);
  }

  // `parts`: [[code, values], ...]; `english`: the same as the connector wrote it.
  function sentence(parts, english, texts, format) {
    const known = function (part) {
      return texts.find("said." + part[0], null) !== null && Object.keys(part[1]).every(function (name) {
        return !Array.isArray(part[1][name]) || part[1][name].every(known);
      });
    };
    return Array.isArray(parts) && parts.length && parts.every(known) ? clauses(parts, texts, format, " ") : english || "";
  }

  function kept(row) {
    try {
      return JSON.parse(row.loy_said || "{}");
    } catch (error) {
      return {};
    }
  }

  // A row of the log -> [first, last] of the entries that the change appended to its customer's ledger, or null.
  function booked(row) {
    const places = kept(row).booked;
    return Array.isArray(places) && places.length === 2 && places.every(Number.isInteger) ? places : null;
  }

  // A row of the log -> {message, next}.
  function ofLog(row, texts, format) {
    const said = kept(row);
    return {
      message: sentence(said.message, row.loy_message || row.loy_name, texts, format),
      next: sentence(said.next, row.loy_nextstep, texts, format)
    };
  }

  Loyalty.said = { sentence: sentence, ofLog: ofLog, booked: booked };
}(window.Loyalty = window.Loyalty || {}));

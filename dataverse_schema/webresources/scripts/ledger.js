"use strict";

// The state of a membership as the page needs it: lots by the last day they can be used, pending points, debt.
// The connector decides; this shows beforehand what it will see.
(function (Loyalty) {
  // A row of loy_membership -> {sequence, lots: {day: points}, pending: [[document, points, day]], owed, spend, tier, since}
  function stateOf(row) {
    const raw = JSON.parse((row && row.loy_state) || "{}");
    const pending = raw.pending || {};
    return {
      sequence: (row && row.loy_sequence) || 0,
      lots: Object.assign({}, raw.lots),
      pending: Object.keys(pending).map(function (name) { return [name, pending[name][0], pending[name][1]]; }),
      owed: raw.owed || 0,
      spend: raw.spend || {},
      earned: raw.earned || {},
      tier: raw.tier || "",
      since: raw.since || ""
    };
  }

  // A mass job may have appended entries that the membership does not know yet: their lots and debt are added.
  function caughtUp(state, entries) {
    const lots = Object.assign({}, state.lots);
    let owed = state.owed;
    let sequence = state.sequence;
    entries.filter(function (entry) { return entry.loy_sequence > state.sequence; }).forEach(function (entry) {
      const moved = movements(entry);
      Object.keys(moved.lots || {}).forEach(function (day) { lots[day] = (lots[day] || 0) + moved.lots[day]; });
      owed += moved.owed || 0;
      sequence = Math.max(sequence, entry.loy_sequence);
    });
    return Object.assign({}, state, { lots: lots, owed: owed, sequence: sequence });
  }

  function movements(entry) { return JSON.parse(entry.loy_movements || "{}"); }
  function explanation(entry) { return JSON.parse(entry.loy_explanation || "{}"); }

  // Lots that can be spent on a day, in the order in which they are used: [[day, points], ...]
  function usable(state, today) {
    return Object.keys(state.lots)
      .filter(function (day) { return day >= today && state.lots[day] > 0; })
      .sort()
      .map(function (day) { return [day, state.lots[day]]; });
  }

  function available(state, today) {
    const sum = usable(state, today).reduce(function (total, lot) { return total + lot[1]; }, 0);
    return Math.max(0, sum - state.owed);
  }

  function pending(state) {
    return state.pending.reduce(function (total, document) { return total + document[1]; }, 0);
  }

  // What a redemption takes of each lot: [[day, taken], ...]; null when there are not enough points.
  function consumed(state, points, today) {
    if (points > available(state, today)) {
      return null;
    }
    let missing = points;
    const taken = [];
    usable(state, today).forEach(function (lot) {
      const part = Math.min(missing, lot[1]);
      if (part) { taken.push([lot[0], part]); }
      missing -= part;
    });
    return taken;
  }

  // The lots that end first, without those that never end.
  function expiring(state, today) {
    return usable(state, today).filter(function (lot) { return Loyalty.expires(lot[0]); });
  }

  Loyalty.ledger = {
    stateOf: stateOf,
    caughtUp: caughtUp,
    movements: movements,
    explanation: explanation,
    usable: usable,
    available: available,
    pending: pending,
    consumed: consumed,
    expiring: expiring,
    // The connector's day is UTC's.
    today: function (now) { return now.toISOString().slice(0, 10); }
  };
}(window.Loyalty = window.Loyalty || {}));

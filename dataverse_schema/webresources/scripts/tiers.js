"use strict";

// How far a customer is from each condition of a tier: tenure in months, spend and points within the tier's window.
(function (Loyalty) {
  const LIFETIME = 482100000;
  const ROLLING = 482100001;

  function monthsBetween(since, today) {
    const a = since.split("-").map(Number);
    const b = today.split("-").map(Number);
    return (b[0] - a[0]) * 12 + b[1] - a[1] - (b[2] < Math.min(a[2], new Date(Date.UTC(b[0], b[1], 0)).getUTCDate()) ? 1 : 0);
  }

  // The first month of the tier's window ("2026-03"), or "" for all time.
  function firstMonth(tier, today) {
    if (tier.loy_spendwindow === LIFETIME) {
      return "";
    }
    if (tier.loy_spendwindow !== ROLLING) {
      return today.slice(0, 4) + "-01";
    }
    const start = new Date(today.slice(0, 7) + "-01T00:00:00Z");
    start.setUTCMonth(start.getUTCMonth() + 1 - (tier.loy_windowmonths || 12));
    return start.toISOString().slice(0, 7);
  }

  // Amounts come as text with four decimals: they are added as whole numbers.
  function within(tier, months, today) {
    const first = firstMonth(tier, today);
    return Object.keys(months).filter(function (month) { return !first || (month >= first && month <= today.slice(0, 7)); })
      .reduce(function (sum, month) { return sum + Math.round(Number(months[month]) * 10000); }, 0) / 10000;
  }

  function conditions(tier, state, today) {
    return [
      { kind: "tenure", need: tier.loy_minimumtenuremonths || 0, have: state.since ? Math.max(0, monthsBetween(state.since, today)) : 0 },
      { kind: "spend", need: tier.loy_minimumspend || 0, have: within(tier, state.spend, today) },
      { kind: "points", need: tier.loy_minimumpoints || 0, have: within(tier, state.earned, today) }
    ].filter(function (condition) { return condition.need > 0; });
  }

  // `rows` of loy_tier -> {current, next}: each {name, conditions} or null.
  Loyalty.standing = function (rows, state, today) {
    const tiers = rows.slice().sort(function (a, b) { return a.loy_rank - b.loy_rank; });
    const current = tiers.find(function (tier) { return tier.loy_code === state.tier; }) || tiers[0] || null;
    const next = current && tiers.find(function (tier) { return tier.loy_rank > current.loy_rank; });
    const shown = function (tier) {
      return tier ? { name: tier.loy_name, multiplier: tier.loy_multiplier, conditions: conditions(tier, state, today) } : null;
    };
    return { current: shown(current), next: shown(next) };
  };
}(window.Loyalty = window.Loyalty || {}));

"use strict";

// How far a customer is from each condition of a tier: tenure in months, spend and points within the tier's window.
(function (Loyalty) {
  function monthsBetween(since, today) {
    const a = since.split("-").map(Number);
    const b = today.split("-").map(Number);
    return (b[0] - a[0]) * 12 + b[1] - a[1] - (b[2] < Math.min(a[2], new Date(Date.UTC(b[0], b[1], 0)).getUTCDate()) ? 1 : 0);
  }

  // The first month of the tier's window ("2026-03"), or "" for all time.
  function firstMonth(tier, today) {
    if (tier.window === "lifetime") {
      return "";
    }
    if (tier.window !== "rolling_months") {
      return today.slice(0, 4) + "-01";
    }
    const start = new Date(today.slice(0, 7) + "-01T00:00:00Z");
    start.setUTCMonth(start.getUTCMonth() + 1 - tier.window_months);
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
      { kind: "tenure", need: tier.minimum_tenure_months, have: state.since ? Math.max(0, monthsBetween(state.since, today)) : 0 },
      { kind: "spend", need: Number(tier.minimum_spend), have: within(tier, state.spend, today) },
      { kind: "points", need: tier.minimum_points, have: within(tier, state.earned, today) }
    ].filter(function (condition) { return condition.need > 0; });
  }

  // Tiers in force today, of `rows` of loy_programversion in order of version, as connector/loyalty/versions.py has them: a tier
  // that was edited together with a later day counts as it was until then.
  Loyalty.tiersInForce = function (rows, today) {
    const begun = rows.filter(function (row) { return (row.loy_validfrom || "") <= today; });
    const ruling = begun.filter(function (row, i) { return !begun[i + 1] || (row.loy_validfrom || "") < (begun[i + 1].loy_validfrom || ""); });
    const chains = ruling.reduce(function (before, row) {
      return new Map(JSON.parse(row.loy_terms).tiers.map(function (tier) {
        return [tier.code, revised(before.get(tier.code) || [], tier, row.loy_validfrom || "")];
      }));
    }, new Map());
    return Array.from(chains.values(), function (chain) {
      return chain.filter(function (tier) { return from(tier) <= today; }).pop();
    }).filter(Boolean).sort(function (a, b) { return a.rank - b.rank; });
  };

  function from(tier) { return tier.valid_from || ""; }

  function revised(chain, tier, begins) {
    if (chain.length && JSON.stringify(chain[chain.length - 1]) === JSON.stringify(tier)) {
      return chain;
    }
    return chain.filter(function (older) { return begins < from(tier) && from(older) < from(tier); }).concat([tier]);
  }

  // `tiers` in order of rank -> {current, next}: each {name, multiplier, conditions} or null.
  Loyalty.standing = function (tiers, state, today) {
    const current = tiers.find(function (tier) { return tier.code === state.tier; }) || tiers[0] || null;
    const next = current && tiers.find(function (tier) { return tier.rank > current.rank; });
    const shown = function (tier) {
      return tier ? { name: tier.name, multiplier: Number(tier.multiplier), conditions: conditions(tier, state, today) } : null;
    };
    return { current: shown(current), next: shown(next) };
  };
}(window.Loyalty = window.Loyalty || {}));

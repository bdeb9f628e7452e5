"use strict";

// The head of a page about a customer: who, which tier, how many points, what they are worth, what ends soon.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const SOON_DAYS = 60;

  function summary(customer, texts, format, today) {
    const state = customer.state;
    const available = Loyalty.ledger.available(state, today);
    const pending = Loyalty.ledger.pending(state);
    const soon = Loyalty.ledger.expiring(state, today)[0];
    const hints = [
      state.owed ? [texts.say("summary.owed", { n: state.owed }), true] : null,
      pending ? [texts.say("summary.pending", { n: pending }), false] : null,
      soon ? [texts.say("summary.expiring", { n: soon[1], day: format.day(soon[0]) }), daysUntil(soon[0], today) <= SOON_DAYS] : null,
      customer.nextTier ? [nextTier(customer, texts, format), false] : null
    ].filter(Boolean);
    return [
      el("div", { "class": "who" }, [
        el("h1", { text: customer.name }),
        customer.tier ? el("span", { "class": "badge", text: customer.tier }) : null
      ]),
      el("p", { "class": "balance" }, [
        el("strong", { id: "balance", text: format.points(available) }),
        el("span", { text: texts.say("summary.points", { n: available }) }),
        customer.valueMicros
          ? el("span", { "class": "worth", text: format.money(Loyalty.valueOf(available, customer.valueMicros), customer.currency) })
          : null
      ]),
      hints.length ? el("ul", { "class": "hints" }, hints.map(function (hint) {
        return el("li", { "class": hint[1] ? "urgent" : null, text: hint[0] });
      })) : null,
      customer.isMember ? null : el("p", { "class": "hint", text: texts.say("summary.noMember", {}) })
    ];
  }

  function nextTier(customer, texts, format) {
    return customer.nextTierSpend
      ? texts.say("summary.nextTier", { tier: customer.nextTier, amount: format.money(customer.nextTierSpend, customer.currency) })
      : texts.say("summary.nextTierByTime", { tier: customer.nextTier });
  }

  function daysUntil(day, today) { return (Date.parse(day) - Date.parse(today)) / 86400000; }

  Loyalty.summary = summary;
  Loyalty.daysUntil = daysUntil;
}(window.Loyalty = window.Loyalty || {}));

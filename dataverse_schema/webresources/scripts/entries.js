"use strict";

// Entries of the ledger in words.
(function (Loyalty) {
  const FIRST = 482100000;
  const KINDS = ["earn", "mature", "takeback", "redeem", "void", "expire", "adjust", "tier"];

  function kindOf(entry) { return KINDS[entry.loy_kind - FIRST] || ""; }

  // One line about an entry, from the entry alone.
  function title(entry, texts, format) {
    const why = Loyalty.ledger.explanation(entry);
    const kind = kindOf(entry);
    switch (kind) {
      case "earn":
      case "takeback":
        return texts.say("entry." + kind, { invoice: why.invoice || texts.say("entry.laterInvoice", {}) });
      case "redeem":
      case "void":
        return texts.say("entry." + kind, { code: why.code });
      case "adjust":
        return texts.say("entry.adjust", { reason: why.reason });
      case "tier":
        return texts.say("entry.tier", { tier: why.to });
      case "mature":
        return why.spendable_on && Object.keys(Loyalty.ledger.movements(entry).pending || {}).length
          ? texts.say("entry.mature", { day: format.day(why.spendable_on) })
          : texts.say("entry.matureDay", {});
      default:
        return texts.say("entry." + kind, {});
    }
  }

  Loyalty.entries = { KINDS: KINDS, kindOf: kindOf, title: title };
}(window.Loyalty = window.Loyalty || {}));

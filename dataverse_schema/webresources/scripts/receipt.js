"use strict";

// What the clerk sees when a wish is decided.
(function (Loyalty) {
  const el = Loyalty.dom.el;

  function completed(row, customer, texts, format, again) {
    const isVoid = row.loy_type === Loyalty.wish.VOID;
    const code = row.loy_transactioncode;
    const copied = el("span", { "class": "hint", role: "status" });
    return [
      el("h2", { id: "result-title", tabindex: "-1", text: texts.say(isVoid ? "result.voided" : "result.redeemed", { n: row.loy_points }) }),
      el("p", { "class": "hint", text: texts.say(isVoid ? "result.codeVoided" : "result.code", {}) }),
      el("output", { "class": "transaction", id: "transaction", text: code }),
      Loyalty.dom.facts([
        [texts.say("fact.customer", {}), customer.name],
        [texts.say("fact.points", {}), format.points(row.loy_points)],
        row.loy_value ? [texts.say("fact.value", {}), format.money(row.loy_value, customer.currency)] : null,
        row.loy_description ? [texts.say(isVoid ? "fact.reason" : "fact.description", {}), row.loy_description] : null,
        [texts.say("fact.balance", {}), format.points(row.loy_balanceafter)],
        [texts.say("fact.decided", {}), format.instant(row.loy_decidedon)]
      ]),
      el("div", { "class": "actions" }, [
        el("button", { type: "button", "class": "primary", id: "copy", text: texts.say("result.copy", {}), on: { click: function () { copy(code, copied, texts); } } }),
        el("button", { type: "button", id: "print", text: texts.say("result.print", {}), on: { click: function () { window.print(); } } }),
        el("button", { type: "button", id: "again", text: texts.say("result.again", {}), on: { click: again } })
      ]),
      copied
    ];
  }

  async function copy(code, note, texts) {
    try {
      await navigator.clipboard.writeText(code);
      note.textContent = texts.say("result.copied", {});
    } catch (error) {
      window.getSelection().selectAllChildren(document.getElementById("transaction"));
      note.textContent = texts.say("result.copyByHand", {});
    }
  }

  // Why a wish was refused, in the user's language; a reason that this page does not know comes as the connector wrote it.
  function refusal(row, wish, texts) {
    const key = "reason." + row.loy_reasoncode;
    const values = { asked: wish.points || 0, available: row.loy_balanceafter || 0, code: wish.code || "" };
    return texts.find(key, null) ? texts.say(key, values) : row.loy_reason || texts.say("reason.unknown", {});
  }

  function rejected(sentence, texts, again) {
    return [
      el("h2", { id: "result-title", tabindex: "-1", text: texts.say("result.rejected", {}) }),
      el("p", { id: "refusal", text: sentence }),
      el("div", { "class": "actions" }, [
        el("button", { type: "button", "class": "primary", id: "again", text: texts.say("result.change", {}), on: { click: again } })
      ])
    ];
  }

  Loyalty.receipt = { completed: completed, rejected: rejected, refusal: refusal };
}(window.Loyalty = window.Loyalty || {}));

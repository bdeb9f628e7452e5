"use strict";

// What the pages show of a customer, in few and small requests that run side by side.
(function (Loyalty) {
  const NAMES = { account: "name", contact: "fullname" };
  const MIRROR = ",loy_tiername,loy_nexttiername,loy_nexttierdistance,loy_loyaltyasof";
  const MEMBERSHIP = "$select=loy_sequence,loy_state,_loy_programid_value,modifiedon&$expand=loy_ProgramId($select=loy_pointvalue,loy_minimumredemption)";
  const ENTRY = "loy_sequence,loy_kind,loy_points,loy_cause,loy_occurredon,loy_ruleversion,loy_movements,loy_explanation";

  function ofCustomer(customer) { return "$filter=loy_customerkey eq '" + customer.key + "'"; }

  function entriesPath(customer, count, before) {
    return "loy_entries?$select=" + ENTRY + "&$filter=loy_MembershipId/loy_customerkey eq '" + customer.key + "'" +
      (before ? " and loy_sequence lt " + before : "") + "&$orderby=loy_sequence desc&$top=" + count;
  }

  // The currency in which the company counts; "" when the user may not read it: amounts then have no sign.
  async function currency() {
    let known = sessionStorage.getItem("loyalty.currency");
    if (known === null) {
      try {
        const page = await Loyalty.webApi.read("organizations?$select=name&$expand=basecurrencyid($select=isocurrencycode)");
        known = (page.value[0].basecurrencyid || {}).isocurrencycode || "";
      } catch (error) {
        return "";
      }
      sessionStorage.setItem("loyalty.currency", known);
    }
    return known;
  }

  async function readCustomer(customer, count) {
    const name = NAMES[customer.table];
    const read = Loyalty.webApi.read;
    const answers = await Promise.all([
      read(customer.set + "(" + customer.id + ")?$select=" + name + MIRROR),
      read("loy_memberships?" + MEMBERSHIP + "&" + ofCustomer(customer)),
      read(entriesPath(customer, count)),
      currency()
    ]);
    const row = answers[0];
    const membership = answers[1].value[0] || null;
    const program = (membership && membership.loy_ProgramId) || {};
    return {
      name: row[name] || "",
      tier: row.loy_tiername || "",
      nextTier: row.loy_nexttiername || "",
      nextTierSpend: row.loy_nexttierdistance,
      asOf: membership ? membership.modifiedon : row.loy_loyaltyasof,
      state: Loyalty.ledger.caughtUp(Loyalty.ledger.stateOf(membership), answers[2].value.slice().reverse()),
      isMember: Boolean(membership),
      entries: answers[2].value,
      programId: membership ? membership._loy_programid_value : "",
      valueMicros: Loyalty.micros(program.loy_pointvalue),
      minimum: program.loy_minimumredemption || 1,
      currency: answers[3]
    };
  }

  Loyalty.currency = currency;
  Loyalty.readCustomer = readCustomer;
  Loyalty.entriesPath = entriesPath;
}(window.Loyalty = window.Loyalty || {}));

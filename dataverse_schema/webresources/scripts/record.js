"use strict";

// The record that a row of the log is about: link, and what it says now.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const SHOWN = {
    invoice: ["invoices", "name,totalamount,modifiedon,statecode,statuscode,_customerid_value"],
    loy_redemption: ["loy_redemptions", "loy_name,loy_points,loy_status,modifiedon,_loy_customerid_value"],
    loy_adjustment: ["loy_adjustments", "loy_name,loy_points,loy_status,modifiedon,_loy_customerid_value"],
    loy_membership: ["loy_memberships", "loy_name,loy_balance,loy_sequence,modifiedon"]
  };
  const FORMATTED = "@OData.Community.Display.V1.FormattedValue";
  const GUID = /^[0-9a-f-]{36}$/;

  function link(table, id, text) {
    return el("a", { href: "/main.aspx?pagetype=entityrecord&etn=" + encodeURIComponent(table) + "&id=" + encodeURIComponent(id), target: "_blank", rel: "noopener", text: text });
  }

  // {found: true, row}, {found: false}, or {unreadable: Problem}; null for a row that is about no record.
  async function read(log) {
    const shown = SHOWN[log.loy_recordtable];
    if (!shown || !GUID.test(log.loy_recordid || "")) {
      return null;
    }
    try {
      return { found: true, row: await Loyalty.webApi.readFormatted(shown[0] + "(" + log.loy_recordid + ")?$select=" + shown[1]) };
    } catch (error) {
      return error.kind === "missing" ? { found: false } : { unreadable: error };
    }
  }

  // A column as Dynamics writes it for the user.
  function shownValue(row, column) {
    const text = row[column + FORMATTED];
    return text === undefined ? (row[column] === null || row[column] === undefined ? "" : String(row[column])) : text;
  }

  // "Invoice 7f3a2c10", as a link; null for a row that is about no record.
  function about(log, texts) {
    return SHOWN[log.loy_recordtable] && GUID.test(log.loy_recordid || "")
      ? link(log.loy_recordtable, log.loy_recordid, texts.say("about." + log.loy_recordtable, { id: log.loy_recordid.slice(0, 8) })) : null;
  }

  Loyalty.record = { link: link, about: about, read: read, shown: shownValue, columns: SHOWN };
}(window.Loyalty = window.Loyalty || {}));

"use strict";

// What Dynamics tells a page in its address: the record, the user's language, the offset of the user's time zone.
(function (Loyalty) {
  const SETS = { account: "accounts", contact: "contacts" };
  const CULTURES = { 1031: "de-DE", 1033: "en-US", 2055: "de-CH", 2057: "en-GB", 3079: "de-AT", 3081: "en-AU", 4105: "en-CA" };
  const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

  function guid(text) {
    const plain = String(text || "").replace(/[{}]/g, "").toLowerCase();
    return GUID.test(plain) ? plain : "";
  }

  // `data` is written by our command; it may be encoded once more on its way. Whatever it is, it is input from outside.
  function parseData(raw) {
    try {
      const data = JSON.parse(raw.charAt(0) === "%" ? decodeURIComponent(raw) : raw);
      return data && typeof data === "object" ? data : {};
    } catch (error) {
      return {};
    }
  }

  // {customer: {table, set, id, key} or null, record: id or "", culture: "de-DE", offset: minutes or null}
  function readPage(search) {
    const query = new URLSearchParams(search);
    const data = parseData(query.get("data") || "{}");
    const table = String(data.table || query.get("typename") || "");
    const id = guid(data.id || query.get("id"));
    const known = Object.prototype.hasOwnProperty.call(SETS, table) && id;
    return {
      customer: known ? { table: table, set: SETS[table], id: id, key: table + ":" + id } : null,
      record: id,
      culture: culture(Number(data.lcid || query.get("userlcid")), navigator.languages || []),
      offset: Number.isInteger(data.offset) && Math.abs(data.offset) <= 14 * 60 ? data.offset : null
    };
  }

  // The language is Dynamics'; among the cultures of that language the browser's preference decides.
  function culture(lcid, preferred) {
    const named = CULTURES[lcid] || ((lcid & 0x3ff) === 7 ? "de-DE" : "");
    const language = (named || preferred[0] || "en-US").slice(0, 2);
    const match = preferred.find(function (name) { return name.length > 2 && name.slice(0, 2) === language; });
    return match || named || (language === "de" ? "de-DE" : "en-US");
  }

  Loyalty.readPage = readPage;
}(window.Loyalty = window.Loyalty || {}));

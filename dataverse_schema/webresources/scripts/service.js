"use strict";

// Whether the connector answers, seen from the rows that wait for it: no request of ours leaves Dynamics.
(function (Loyalty) {
  const WINDOW = 3600000;

  // Null, or since when (ISO) a wish has waited too long while nothing else was decided either.
  function silentSince(rows, now) {
    const waiting = rows.filter(function (row) {
      return row.loy_status === Loyalty.wish.REQUESTED && now - new Date(row.createdon) > Loyalty.patience.row;
    });
    if (!waiting.length) {
      return null;
    }
    const since = waiting.map(function (row) { return row.createdon; }).sort().pop();
    const answered = rows.some(function (row) { return row.loy_decidedon && row.loy_decidedon > since; });
    return answered ? null : since;
  }

  Loyalty.service = {
    silentSince: silentSince,
    read: async function () {
      const now = Loyalty.webApi.now();
      const after = new Date(now - WINDOW).toISOString().slice(0, 19) + "Z";
      const page = await Loyalty.webApi.read(
        "loy_redemptions?$select=createdon,loy_status,loy_decidedon&$filter=createdon ge " + after + "&$orderby=createdon desc&$top=20"
      );
      return silentSince(page.value, now);
    }
  };
}(window.Loyalty = window.Loyalty || {}));

"use strict";

window.Loyalty = window.Loyalty || {};

// Called by the command on the forms of account and contact; the modern command passes the form only.
window.Loyalty.Ribbon = {
  redeem: function (formContext) {
    const entity = formContext.data.entity;
    const user = Xrm.Utility.getGlobalContext().userSettings;
    const data = encodeURIComponent(JSON.stringify({
      id: entity.getId().replace(/[{}]/g, "").toLowerCase(),
      table: entity.getEntityName(),
      lcid: user.languageId,
      offset: user.getTimeZoneOffsetMinutes()
    }));
    return Xrm.Navigation.navigateTo(
      { pageType: "webresource", webresourceName: "loy_/redeem.html", data: data },
      { target: 2, position: 1, width: { value: 560, unit: "px" }, height: { value: 85, unit: "%" }, title: user.languageId === 1031 ? "Punkte einlösen" : "Customer Redemption" }
    ).then(function () {
      return formContext.data.refresh(false);
    });
  }
};

"use strict";

window.Loyalty = window.Loyalty || {};

// Called by the command on the forms of account and contact; the modern command passes the form only.
window.Loyalty.Ribbon = {
  redeem: function (formContext) {
    const entity = formContext.data.entity;
    const id = entity.getId().replace(/[{}]/g, "").toLowerCase();
    const data = encodeURIComponent(JSON.stringify({ id: id, table: entity.getEntityName() }));
    return Xrm.Navigation.navigateTo(
      { pageType: "webresource", webresourceName: "loy_/redeem.html", data: data },
      { target: 2, position: 1, width: { value: 520, unit: "px" }, height: { value: 70, unit: "%" }, title: "Customer Redemption" }
    ).then(function () {
      return formContext.data.refresh(false);
    });
  }
};

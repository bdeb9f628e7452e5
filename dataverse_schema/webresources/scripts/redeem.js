"use strict";

(function () {
  const API = "/api/data/v9.2/";
  const HEADERS = { Accept: "application/json", "Content-Type": "application/json", "OData-Version": "4.0", "OData-MaxVersion": "4.0" };
  const SETS = { account: "accounts", contact: "contacts" };
  const NAMES = { account: "name", contact: "fullname" };
  const REQUESTED = 482100000;
  const COMPLETED = 482100001;
  const POLL_MS = 1000;
  const WAIT_MS = 60000;

  const element = function (id) { return document.getElementById(id); };

  // The address is input from outside: only a known table and a well-formed id go on.
  function readCustomer() {
    const raw = new URLSearchParams(window.location.search).get("data") || "{}";
    let data = {};
    try {
      data = JSON.parse(raw.charAt(0) === "%" ? decodeURIComponent(raw) : raw);
    } catch (error) {
      return null;
    }
    const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(String(data.id));
    return Object.prototype.hasOwnProperty.call(SETS, data.table) && isId ? { table: data.table, id: data.id } : null;
  }

  async function call(path, options) {
    const response = await fetch(API + path, Object.assign({ headers: HEADERS }, options));
    if (response.ok) {
      return response.status === 204 ? {} : response.json();
    }
    const problem = await response.json().catch(function () { return {}; });
    throw new Error((problem.error && problem.error.message) || "Dynamics answers " + response.status + ".");
  }

  function show(text, kind, code) {
    const answer = element("answer");
    answer.textContent = text;
    answer.className = "answer " + (kind || "");
    answer.hidden = false;
    if (code) {
      const line = document.createElement("strong");
      line.className = "code";
      line.textContent = code;
      answer.appendChild(line);
    }
  }

  async function showCustomer(customer) {
    const select = "?$select=" + NAMES[customer.table] + ",loy_pointsbalance,loy_tiername";
    const row = await call(SETS[customer.table] + "(" + customer.id + ")" + select);
    element("customer").textContent = row[NAMES[customer.table]] || "Customer Redemption";
    element("balance").textContent = (row.loy_pointsbalance || 0).toLocaleString();
    element("tier").textContent = row.loy_tiername ? "· " + row.loy_tiername : "";
  }

  async function watch(id) {
    const columns = "?$select=loy_status,loy_transactioncode,loy_reason,loy_balanceafter";
    const until = Date.now() + WAIT_MS;
    while (Date.now() < until) {
      const row = await call("loy_redemptions(" + id + ")" + columns);
      if (row.loy_status !== REQUESTED) {
        return row;
      }
      await new Promise(function (resolve) { setTimeout(resolve, POLL_MS); });
    }
    return null;
  }

  async function send(customer, requestId) {
    const row = {
      loy_redemptionid: requestId,
      loy_requestid: requestId,
      loy_name: element("description").value.trim().slice(0, 200),
      loy_description: element("description").value.trim(),
      loy_points: Number(element("points").value),
      loy_type: 482100000,
      loy_status: REQUESTED,
      loy_channel: "Dynamics"
    };
    row["loy_CustomerId_" + customer.table + "@odata.bind"] = "/" + SETS[customer.table] + "(" + customer.id + ")";
    // The id is chosen once a form: sending again after a lost answer finds the same redemption, not a second one.
    await call("loy_redemptions", { method: "POST", body: JSON.stringify(row) }).catch(async function (error) {
      await call("loy_redemptions(" + requestId + ")?$select=loy_status").catch(function () { throw error; });
    });
    return watch(requestId);
  }

  function start() {
    const customer = readCustomer();
    if (!customer) {
      element("form").hidden = true;
      show("Open this page with the command on an account or a contact.", "refused");
      return;
    }
    let requestId = crypto.randomUUID();
    const refresh = function () {
      return showCustomer(customer).catch(function (error) { show(error.message, "refused"); });
    };
    refresh();
    element("form").addEventListener("submit", async function (event) {
      event.preventDefault();
      const points = Number(element("points").value);
      if (!Number.isInteger(points) || points < 1) {
        show("Points: enter a whole number of 1 or more.", "refused");
        element("points").focus();
        return;
      }
      if (!element("description").value.trim()) {
        show("What for: say what the points are spent on.", "refused");
        element("description").focus();
        return;
      }
      element("send").disabled = true;
      show("One moment …");
      try {
        const row = await send(customer, requestId);
        if (!row) {
          show("It is still being worked on. You can close this window; the answer appears under Redemptions.");
          return;
        }
        if (row.loy_status === COMPLETED) {
          show("Redeemed. Transaction code:", "done", row.loy_transactioncode);
        } else {
          show(row.loy_reason || "The redemption was refused.", "refused");
        }
        requestId = crypto.randomUUID();
        await refresh();
      } catch (error) {
        show(error.message, "refused");
      } finally {
        element("send").disabled = false;
      }
    });
  }

  start();
}());

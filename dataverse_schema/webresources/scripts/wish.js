"use strict";

// A wish: a redemption or void that the user has confirmed, until the connector has decided it.
// Its request id is made once. Whatever happens on the way (a double click, a lost answer, a reload), sending it again is safe:
// the request id is a key of the table, so that there is one row.
(function (Loyalty) {
  const REQUESTED = 482100000;
  const COLUMNS = "loy_status,loy_type,loy_points,loy_value,loy_transactioncode,loy_reason,loy_reasoncode,loy_balanceafter," +
    "loy_decidedon,loy_voidscode,loy_description";
  const SOON = [80, 80, 100, 130, 170, 220, 300, 400, 600, 900, 1400];
  const LATER = 2500;
  const MUCH_LATER = 10000;
  const GIVE_UP_AFTER = 20 * 60000;

  function place(customer) { return "loyalty.pending." + customer.key; }

  function remember(customer, wish) { sessionStorage.setItem(place(customer), JSON.stringify(wish)); }

  function forget(customer) { sessionStorage.removeItem(place(customer)); }

  // The wish that a reload interrupted, or null.
  function pending(customer) {
    try {
      const wish = JSON.parse(sessionStorage.getItem(place(customer)) || "null");
      return wish && Date.now() - wish.started < GIVE_UP_AFTER ? wish : null;
    } catch (error) {
      return null;
    }
  }

  // {type: REDEEM or VOID, points, code, description}
  function make(fields) {
    return Object.assign({ requestId: crypto.randomUUID(), started: Date.now() }, fields);
  }

  function rowOf(customer, wish) {
    const row = {
      loy_requestid: wish.requestId,
      loy_name: wish.title.slice(0, 200),
      loy_type: wish.type,
      loy_points: wish.points,
      loy_voidscode: wish.code,
      loy_description: wish.description,
      loy_channel: "Dynamics",
      loy_status: REQUESTED
    };
    row["loy_CustomerId_" + customer.table + "@odata.bind"] = "/" + customer.set + "(" + customer.id + ")";
    return row;
  }

  // The id of the wish's row. `tell("offline")` while the server cannot be reached.
  async function deliver(customer, wish, tell) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await Loyalty.webApi.create("loy_redemptions", rowOf(customer, wish));
      } catch (error) {
        if (error.kind === "duplicate") {
          const found = await find(wish);
          if (found) { return found.loy_redemptionid; }
        } else if (!error.passing) {
          throw error;
        }
        tell(error.kind === "offline" ? "offline" : "waiting");
        await Loyalty.pause(Math.max(error.wait || 0, SOON[Math.min(attempt + 4, SOON.length - 1)]));
      }
    }
  }

  async function find(wish) {
    const page = await Loyalty.webApi.read("loy_redemptions?$select=loy_status&$filter=loy_requestid eq '" + wish.requestId + "'");
    return page.value[0] || null;
  }

  // The row once it is decided. `tell` hears "waiting", "slow", "silent" and "offline".
  async function watch(id, wish, tell) {
    for (let attempt = 0; ; attempt += 1) {
      const waited = Date.now() - wish.started;
      await Loyalty.pause(attempt < SOON.length ? SOON[attempt] : waited < 60000 ? LATER : MUCH_LATER);
      try {
        const row = await Loyalty.webApi.get("loy_redemptions(" + id + ")?$select=" + COLUMNS);
        if (row.loy_status !== REQUESTED) {
          return row;
        }
        tell(waited < Loyalty.patience.slow ? "waiting" : waited < Loyalty.patience.silent ? "slow" : "silent");
      } catch (error) {
        if (!error.passing) { throw error; }
        tell(error.kind === "offline" ? "offline" : "slow");
        await Loyalty.pause(error.wait || 0);
      }
    }
  }

  // Sends the wish and waits for its decision; a Problem when the server refuses it.
  async function fulfil(customer, wish, tell) {
    remember(customer, wish);
    tell("waiting");
    try {
      const row = await watch(await deliver(customer, wish, tell), wish, tell);
      forget(customer);
      return row;
    } catch (error) {
      // After signing in again it goes on where it was.
      if (error.kind !== "signedOut") { forget(customer); }
      throw error;
    }
  }

  // After how many milliseconds a wait is called slow, and silent; how old a waiting row of anybody means that nobody answers.
  Loyalty.patience = Loyalty.patience || { slow: 6000, silent: 30000, row: 60000 };
  Loyalty.wish = { REDEEM: 482100000, VOID: 482100001, REQUESTED: REQUESTED, COMPLETED: 482100001, make: make, pending: pending, fulfil: fulfil };
}(window.Loyalty = window.Loyalty || {}));

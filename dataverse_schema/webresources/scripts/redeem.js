"use strict";

// The dialog behind the command Customer Redemption: ask, confirm, wait, show the code.
(function (Loyalty) {
  const dom = Loyalty.dom;
  const el = dom.el;
  const byId = dom.byId;
  const notice = dom.notice;
  const VIEWS = ["ask", "confirm", "progress", "result"];
  const QUICK_POINTS = [5000, 2500, 1000, 500, 250, 100, 50];
  const QUICK_MONEY = [100, 50, 20, 10, 5, 2];
  const QUICK_COUNT = 4;
  const LAST_ENTRIES = 8;
  const LOOK_AGAIN = 15000;

  const page = Loyalty.readPage(window.location.search);
  const format = new Loyalty.Format(page.culture, page.offset);
  const texts = new Loyalty.Texts(page.culture, format);
  const say = texts.say.bind(texts);
  let customer = null;
  let silentSince = null;
  let wish = null;
  let tabs = null;

  function today() { return Loyalty.ledger.today(Loyalty.webApi.now()); }

  function available() { return Loyalty.ledger.available(customer.state, today()); }

  function show(view) {
    VIEWS.forEach(function (name) { byId(name).hidden = name !== view; });
  }

  // Reading

  async function refresh() {
    customer = await Loyalty.readCustomer(page.customer, LAST_ENTRIES);
    dom.put(byId("summary"), Loyalty.summary(customer, texts, format, today()));
    dom.put(byId("details"), details());
    renderQuick();
    renderRecent();
    renderPreview();
    byId("page").setAttribute("aria-busy", "false");
  }

  // Now and then as long as the page is open: the connector may go away, and come back, while a clerk is talking.
  async function lookAtService() {
    const before = silentSince;
    if (!document.hidden) {
      try {
        silentSince = await Loyalty.service.read();
        renderService(before);
      } catch (error) {
        // No answer of Dynamics tells nothing about the connector.
      }
    }
    setTimeout(lookAtService, LOOK_AGAIN);
  }

  function renderService(before) {
    document.querySelectorAll("#ask button[type=submit], #do").forEach(function (button) { button.disabled = Boolean(silentSince); });
    if (silentSince) {
      notice(say("service.silent", { time: format.time(silentSince), asOf: customer.asOf ? format.instant(customer.asOf) : "-" }), "warning");
    } else if (before) {
      notice("");
      refresh().catch(function () { /* the next look tries again */ });
    }
  }

  function details() {
    const lots = Loyalty.ledger.expiring(customer.state, today());
    return [
      lots.length ? el("h2", { text: say("details.expiring", {}) }) : null,
      lots.length ? dom.table(say("details.expiring", {}), [say("column.day", {}), say("column.points", {})], lots.map(function (lot) {
        return [format.day(lot[0]), format.points(lot[1])];
      }), [1]) : null,
      customer.entries.length ? el("h2", { text: say("details.movements", {}) }) : null,
      customer.entries.length ? dom.table(say("details.movements", {}), [say("column.what", {}), say("column.when", {}), say("column.points", {})],
        customer.entries.map(function (entry) {
          return [Loyalty.entries.title(entry, texts, format), format.instant(entry.loy_occurredon), entry.loy_points ? format.signed(entry.loy_points) : ""];
        }), [2]) : null,
      customer.asOf ? el("p", { "class": "hint", text: say("details.asOf", { time: format.instant(customer.asOf) }) }) : null
    ];
  }

  // Asking

  function unit() { return document.querySelector("input[name=unit]:checked").value; }

  // Points asked for as the form stands, or null.
  function asked() {
    const text = byId("amount").value;
    if (unit() === "points") {
      return format.parsePoints(text);
    }
    const micros = format.parseMicros(text);
    return micros !== null && customer.valueMicros ? Loyalty.pointsFor(micros, customer.valueMicros) : null;
  }

  // Why the amount cannot be redeemed, or "".
  function amountError(points) {
    if (points === null || points < 1) {
      return say(unit() === "points" ? "error.points" : "error.money", {});
    }
    if (points < customer.minimum) {
      return say("error.minimum", { n: customer.minimum });
    }
    return points > available() ? say("error.tooMany", { n: available(), asked: points }) : "";
  }

  function setError(input, text) {
    byId(input + "-error").textContent = text;
    byId(input).setAttribute("aria-invalid", String(Boolean(text)));
  }

  function renderUnit() {
    const money = unit() === "money";
    byId("amount-label").textContent = money ? say("redeem.money", { currency: customer.currency }) : say("redeem.points", {});
    byId("amount").value = "";
    setError("amount", "");
    renderQuick();
    renderPreview();
  }

  function renderQuick() {
    const most = available();
    const money = unit() === "money";
    const pointsOf = function (amount) { return money ? Loyalty.pointsFor(amount * 1000000, customer.valueMicros) : amount; };
    const amounts = (money ? QUICK_MONEY : QUICK_POINTS)
      .filter(function (amount) { return pointsOf(amount) < most && pointsOf(amount) >= customer.minimum; })
      .slice(0, QUICK_COUNT).reverse();
    const chips = amounts.map(function (amount) {
      return chip(money ? format.money(amount, customer.currency) : format.points(amount), function () { fillAmount(format.number(amount)); });
    });
    if (most >= customer.minimum && !money) {
      chips.push(chip(say("redeem.all", { n: most }), function () { fillAmount(format.points(most)); }));
    }
    dom.put(byId("quick"), chips);
    byId("amount-hint").textContent = say("redeem.most", { n: most });
  }

  function chip(text, act) { return el("button", { type: "button", "class": "chip", text: text, on: { click: act } }); }

  function fillAmount(text) {
    byId("amount").value = text;
    setError("amount", "");
    renderPreview();
    byId("amount").focus();
  }

  function renderPreview() {
    const points = asked();
    const taken = points ? Loyalty.ledger.consumed(customer.state, points, today()) : null;
    if (!taken) {
      dom.put(byId("preview"), points ? [el("p", { "class": "error", text: amountError(points) })] : []);
      return;
    }
    dom.put(byId("preview"), [
      el("p", { text: say(customer.valueMicros ? "preview.worth" : "preview.points", {
        n: points, value: format.money(Loyalty.valueOf(points, customer.valueMicros), customer.currency), left: available() - points }) }),
      el("ul", { "class": "lots" }, taken.map(function (lot) {
        return el("li", { text: Loyalty.expires(lot[0]) ? say("preview.lot", { n: lot[1], day: format.day(lot[0]) }) : say("preview.lotForEver", { n: lot[1] }) });
      }))
    ]);
  }

  function renderRecent() {
    const voided = customer.entries.filter(function (entry) { return Loyalty.entries.kindOf(entry) === "void"; })
      .map(function (entry) { return Loyalty.ledger.explanation(entry).code; });
    const open = customer.entries.filter(function (entry) {
      return Loyalty.entries.kindOf(entry) === "redeem" && voided.indexOf(Loyalty.ledger.explanation(entry).code) < 0;
    });
    dom.put(byId("recent"), open.slice(0, 3).map(function (entry) {
      const code = Loyalty.ledger.explanation(entry).code;
      return chip(say("void.chip", { code: code, n: -entry.loy_points }), function () {
        byId("code").value = code;
        setError("code", "");
        byId("reason").focus();
      });
    }));
  }

  // Confirming

  function askRedemption(event) {
    event.preventDefault();
    const points = asked();
    const error = amountError(points);
    setError("amount", error);
    if (error) {
      byId("amount").focus();
      return;
    }
    const description = byId("description").value.trim();
    confirm({ type: Loyalty.wish.REDEEM, points: points, description: description, title: "Redeem " + points });
  }

  function askVoid(event) {
    event.preventDefault();
    const code = Loyalty.parseCode(byId("code").value);
    const reason = byId("reason").value.trim();
    setError("code", code ? "" : say("error.code", {}));
    setError("reason", reason ? "" : say("error.reason", {}));
    if (!code || !reason) {
      byId(code ? "reason" : "code").focus();
      return;
    }
    confirm({ type: Loyalty.wish.VOID, code: code, description: reason, title: "Void " + code });
  }

  function confirm(fields) {
    wish = Loyalty.wish.make(fields);
    renderConfirm();
    show("confirm");
    byId("do").focus();
    if (wish.type === Loyalty.wish.REDEEM) {
      refresh().then(stillEnough).catch(function () { /* the connector looks again anyway */ });
    }
  }

  function renderConfirm() {
    const isVoid = wish.type === Loyalty.wish.VOID;
    byId("confirm-title").textContent = say(isVoid ? "confirm.void" : "confirm.redeem", { n: wish.points, code: wish.code, name: customer.name });
    byId("do").textContent = say(isVoid ? "confirm.doVoid" : "confirm.doRedeem", { n: wish.points });
    dom.put(byId("confirm-facts"), [dom.facts(isVoid ? [[say("fact.reason", {}), wish.description]] : [
      customer.valueMicros ? [say("fact.value", {}), format.money(Loyalty.valueOf(wish.points, customer.valueMicros), customer.currency)] : null,
      wish.description ? [say("fact.description", {}), wish.description] : null,
      [say("fact.balance", {}), format.points(available() - wish.points)]
    ])]);
  }

  function stillEnough() {
    if (byId("confirm").hidden) {
      return;
    }
    if (wish.points > available()) {
      back();
      setError("amount", say("error.changed", { n: available() }));
    } else {
      renderConfirm();
    }
  }

  function back() {
    show("ask");
    byId(wish.type === Loyalty.wish.VOID ? "code" : "amount").focus();
  }

  // Waiting and answering

  function tell(state) { byId("progress-text").textContent = say("progress." + state, {}); }

  async function fulfil() {
    if (!byId("progress").hidden) {
      return; // the second half of a double click
    }
    show("progress");
    notice("");
    const isRedemption = wish.type === Loyalty.wish.REDEEM;
    try {
      const row = await Loyalty.wish.fulfil(page.customer, wish, tell);
      if (row.loy_transactioncode) {
        dom.put(byId("result"), Loyalty.receipt.completed(row, customer, texts, format, again));
      } else {
        dom.put(byId("result"), Loyalty.receipt.rejected(Loyalty.receipt.refusal(row, wish, texts), texts, back));
      }
    } catch (error) {
      dom.put(byId("result"), Loyalty.receipt.rejected(problem(error, "error.maynot"), texts, isRedemption ? back : again));
    }
    show("result");
    byId("result-title").focus();
    refresh().catch(function (error) { notice(problem(error, "error.mayNotRead"), "error"); });
  }

  function again() {
    byId("redeem-form").reset();
    byId("void-form").reset();
    renderUnit();
    show("ask");
    tabs.select("tab-redeem");
    byId("amount").focus();
  }

  function problem(error, forbidden) { return Loyalty.sentence(error, texts, forbidden); }

  // Starting

  async function open() {
    try {
      await refresh();
    } catch (error) {
      byId("page").setAttribute("aria-busy", "false");
      byId("ask").hidden = true;
      notice(problem(error, "error.mayNotRead"), "error");
      byId("notice").append(" ", el("button", { type: "button", id: "retry", text: say("error.again", {}), on: { click: start } }));
      return;
    }
    lookAtService();
    wish = Loyalty.wish.pending(page.customer);
    if (wish) {
      fulfil();
      return;
    }
    show("ask");
    byId("amount").focus();
  }

  function start() {
    notice("");
    return open();
  }

  texts.fill(document);
  document.title = say("redeem.title", {});
  if (page.customer) {
    tabs = dom.tabs(document.querySelector("[role=tablist]"), function () { /* the panels say it all */ });
    tabs.select("tab-redeem");
    byId("redeem-form").addEventListener("submit", askRedemption);
    byId("void-form").addEventListener("submit", askVoid);
    byId("amount").addEventListener("input", function () { setError("amount", ""); renderPreview(); });
    document.querySelectorAll("input[name=unit]").forEach(function (radio) { radio.addEventListener("change", renderUnit); });
    byId("do").addEventListener("click", fulfil);
    byId("back").addEventListener("click", back);
    document.addEventListener("keydown", function (event) {
      if (event.key === "Escape" && !byId("confirm").hidden) { back(); }
    });
    start();
  } else {
    byId("ask").hidden = true;
    notice(say("error.noCustomer", {}), "error");
  }
}(window.Loyalty = window.Loyalty || {}));

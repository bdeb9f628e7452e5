"use strict";

// The customer's panel on a form: points, tier and why, a calendar of what expires, history that explains itself.
(function (Loyalty) {
  const dom = Loyalty.dom;
  const el = dom.el;
  const byId = dom.byId;
  const PAGE = 15;
  const TIER_ENTRY = 482100007;
  const VERSIONS = "loy_programversions?$select=loy_validfrom,loy_terms&$orderby=loy_version&$filter=_loy_programid_value eq ";

  const page = Loyalty.readPage(window.location.search);
  const format = new Loyalty.Format(page.culture, page.offset);
  const texts = new Loyalty.Texts(page.culture, format);
  const say = texts.say.bind(texts);
  let customer = null;
  let explainer = null;
  let entries = [];

  function today() { return Loyalty.ledger.today(Loyalty.webApi.now()); }

  async function open() {
    customer = await Loyalty.readCustomer(page.customer, PAGE);
    explainer = new Loyalty.Explainer(texts, format, customer.currency);
    dom.put(byId("summary"), Loyalty.summary(customer, texts, format, today()));
    byId("page").setAttribute("aria-busy", "false");
    if (!customer.isMember) {
      byId("rest").hidden = true;
      return;
    }
    byId("rest").hidden = false;
    renderCalendar();
    entries = [];
    dom.put(byId("history"), []);
    addEntries(customer.entries);
    await renderTier();
  }

  async function renderTier() {
    const since = "loy_entries?$select=loy_occurredon,loy_tiercode&$filter=loy_MembershipId/loy_customerkey eq '" + page.customer.key +
      "' and loy_kind eq " + TIER_ENTRY + "&$orderby=loy_sequence desc&$top=1";
    const answers = await Promise.all([Loyalty.webApi.read(VERSIONS + customer.programId), Loyalty.webApi.read(since)]);
    const standing = Loyalty.standing(Loyalty.tiersInForce(answers[0].value, today()), customer.state, today());
    const changed = answers[1].value[0];
    const start = changed ? changed.loy_occurredon : customer.state.since;
    if (!standing.current) {
      return;
    }
    dom.put(byId("tier"), [
      el("h2", { text: say("tier.title", {}) }),
      el("p", {}, [
        el("span", { "class": "badge", text: standing.current.name }), " ",
        start ? say("tier.since", { day: format.day(start) }) : "",
        standing.current.multiplier !== 1 ? " " + say("tier.multiplier", { factor: format.number(standing.current.multiplier) }) : ""
      ]),
      standing.current.conditions.length ? el("p", { "class": "hint", text: say("tier.because", { why: standing.current.conditions.map(reached).join(", ") }) }) : null,
      standing.next ? el("h3", { text: say("tier.next", { tier: standing.next.name }) }) : el("p", { text: say("tier.top", {}) })
    ].concat(standing.next ? standing.next.conditions.map(progress) : []));
  }

  function amount(condition, value) {
    if (condition.kind === "tenure") {
      const years = Math.floor(value / 12);
      const months = value % 12;
      return [years || !months ? say("tier.years", { n: years }) : "", months ? say("tier.months", { n: months }) : ""].filter(Boolean).join(" ");
    }
    return condition.kind === "spend" ? format.money(value, customer.currency) : format.points(value);
  }

  function reached(condition) { return say("tier." + condition.kind, { have: amount(condition, condition.have), need: amount(condition, condition.need) }); }

  function progress(condition) {
    const text = reached(condition);
    return el("div", { "class": "meter" }, [
      el("progress", { max: condition.need, value: Math.min(condition.have, condition.need), "aria-label": text }),
      el("span", { text: text })
    ]);
  }

  // A cell for each of the next twelve months, and one for what ends later or never.
  function renderCalendar() {
    const now = today();
    const sums = {};
    let later = 0;
    let never = 0;
    const months = [];
    for (let i = 0; i < 12; i += 1) {
      const start = new Date(now.slice(0, 7) + "-01T00:00:00Z");
      start.setUTCMonth(start.getUTCMonth() + i);
      months.push(start.toISOString().slice(0, 7));
    }
    Loyalty.ledger.usable(customer.state, now).forEach(function (lot) {
      const month = lot[0].slice(0, 7);
      if (!Loyalty.expires(lot[0])) { never += lot[1]; } else if (months.indexOf(month) < 0) { later += lot[1]; } else { sums[month] = (sums[month] || []).concat([lot]); }
    });
    const cells = months.map(function (month) { return cell(format.month(month), sums[month] || []); });
    if (later) { cells.push(cell(say("calendar.later", {}), [["", later]])); }
    if (never) { cells.push(cell(say("calendar.never", {}), [["", never]])); }
    dom.put(byId("calendar"), cells);
  }

  function cell(title, lots) {
    const sum = lots.reduce(function (total, lot) { return total + lot[1]; }, 0);
    const days = lots.filter(function (lot) { return lot[0]; }).map(function (lot) { return format.day(lot[0]); }).join(", ");
    return el("li", { "class": sum ? "month full" : "month" }, [
      el("span", { "class": "name", text: title }),
      el("strong", { text: sum ? format.points(sum) : "–" }),
      days ? el("span", { "class": "hint", text: days }) : null
    ]);
  }

  function addEntries(more) {
    more.forEach(function (entry) {
      const place = entries.length;
      entries.push(entry);
      byId("history").append(entryItem(entry, place));
    });
    const last = entries[entries.length - 1];
    byId("more").hidden = !last || last.loy_sequence === 1;
  }

  function entryItem(entry, place) {
    const body = el("div", { id: "entry-" + entry.loy_sequence, hidden: true });
    const button = el("button", { type: "button", "class": "entry", "aria-expanded": "false", "aria-controls": body.id }, [
      el("span", { "class": "what", text: Loyalty.entries.title(entry, texts, format) }),
      el("span", { "class": "when", text: format.instant(entry.loy_occurredon) }),
      el("span", { "class": "points" + (entry.loy_points < 0 ? " minus" : ""), text: entry.loy_points ? format.signed(entry.loy_points) : "" })
    ]);
    button.addEventListener("click", function () {
      const open = button.getAttribute("aria-expanded") === "true";
      if (!open) { dom.put(body, [explainer.explain(entry, entries.slice(0, place))]); }
      button.setAttribute("aria-expanded", String(!open));
      body.hidden = open;
    });
    return el("li", {}, [button, body]);
  }

  async function more() {
    byId("more").disabled = true;
    try {
      const found = await Loyalty.webApi.read(Loyalty.entriesPath(page.customer, PAGE, entries[entries.length - 1].loy_sequence));
      const first = entries.length;
      addEntries(found.value);
      if (found.value.length) { byId("history").children[first].firstChild.focus(); }
    } catch (error) {
      fail(error);
    }
    byId("more").disabled = false;
  }

  function fail(error) {
    byId("page").setAttribute("aria-busy", "false");
    const notice = byId("notice");
    notice.className = "notice error";
    notice.hidden = false;
    dom.put(notice, [
      el("span", { text: Loyalty.sentence(error, texts, "error.mayNotRead") + " " }),
      error.kind === "forbidden" ? null : el("button", { type: "button", text: say("error.again", {}), on: { click: start } })
    ]);
  }

  function start() {
    byId("notice").hidden = true;
    return open().catch(fail);
  }

  texts.fill(document);
  document.title = say("panel.title", {});
  byId("more").addEventListener("click", more);
  if (page.customer) {
    start();
  } else {
    fail(new Loyalty.Problem("refused", ""));
    byId("notice").textContent = say("panel.noCustomer", {});
  }
}(window.Loyalty = window.Loyalty || {}));

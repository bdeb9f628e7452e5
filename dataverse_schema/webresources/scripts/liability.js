"use strict";

// What the company owes its customers in points: the latest count, on request beside an earlier one. Millions of memberships are
// counted by the connector, in a run whose row keeps the figures; this page reads such rows and orders new ones.
(function (Loyalty) {
  const el = Loyalty.dom.el;
  const byId = Loyalty.dom.byId;
  const notice = Loyalty.dom.notice;
  const COUNT = 482100005;
  const RUNNING = 482100001;
  const DONE = 482100003;
  const COUNTS = "loy_bulkruns?$select=loy_name,loy_status,loy_done,loy_selected,loy_endedon&$filter=loy_kind eq " + COUNT +
    " and (loy_status eq " + RUNNING + " or loy_status eq " + DONE + ")&$orderby=createdon desc&$top=100";
  const LIVE = 2000;
  const IDLE = 30000;

  const page = Loyalty.readPage(window.location.search);
  const format = new Loyalty.Format(page.culture, page.offset);
  const texts = new Loyalty.Texts(page.culture, format);
  const say = texts.say.bind(texts);
  const figures = {};
  let worth = null;
  let counts = [];
  let shown = "";
  let timer = 0;

  function fail(error) { notice(Loyalty.sentence(error, texts, "outstanding.mayNot"), "error"); }

  // The points of a count; they do not change once it is done.
  async function pointsOf(id) {
    if (!figures[id]) {
      figures[id] = Loyalty.outstanding.pointsOf(await Loyalty.webApi.read("loy_bulkruns(" + id + ")?$select=loy_figures"), "outstanding") || {};
    }
    return figures[id];
  }

  async function look() {
    clearTimeout(timer);
    let running = null;
    try {
      const rows = (await Loyalty.webApi.read(COUNTS)).value;
      running = rows.find(function (row) { return row.loy_status === RUNNING; });
      counts = rows.filter(function (row) { return row.loy_status === DONE && row.loy_endedon; })
        .sort(function (a, b) { return new Date(b.loy_endedon) - new Date(a.loy_endedon); });
      byId("under-way").textContent = running ? say("outstanding.underWay", { done: running.loy_done || 0, selected: running.loy_selected || 0 }) : "";
      byId("count").disabled = Boolean(running);
      await offer();
    } catch (error) {
      fail(error);
    }
    byId("page").setAttribute("aria-busy", "false");
    timer = setTimeout(look, running && !document.hidden ? LIVE : IDLE);
  }

  // The earlier counts to choose from; a choice survives a new count.
  async function offer() {
    const latest = counts[0];
    if (!latest) {
      byId("as-of").textContent = say("outstanding.none", {});
      return;
    }
    if (latest.loy_bulkrunid === shown) { return; }
    const chosen = byId("earlier").value;
    Loyalty.dom.put(byId("earlier"), [el("option", { value: "", text: say("outstanding.nothing", {}) })].concat(counts.slice(1).map(function (row) {
      return el("option", { value: row.loy_bulkrunid, text: format.instant(row.loy_endedon), selected: row.loy_bulkrunid === chosen });
    })));
    byId("choose").hidden = counts.length < 2;
    await render();
    shown = latest.loy_bulkrunid;
  }

  async function render() {
    const latest = counts[0];
    const earlier = byId("earlier").value;
    const points = await Promise.all([earlier ? pointsOf(earlier) : null, pointsOf(latest.loy_bulkrunid)]);
    byId("as-of").textContent = say("outstanding.asOf", { time: format.instant(latest.loy_endedon), customers: latest.loy_done || 0 });
    Loyalty.dom.put(byId("points"), [Loyalty.outstanding.view(points[0], points[1], worth, say("outstanding.byMonth", {}), texts, format)]);
  }

  async function order() {
    const today = Loyalty.webApi.now().toISOString().slice(0, 10);
    byId("count").disabled = true;
    try {
      await Loyalty.webApi.create("loy_bulkruns", {
        loy_name: say("outstanding.name", { day: format.day(today) }), loy_kind: COUNT, loy_asof: today, loy_status: RUNNING
      });
      notice(say("outstanding.asked", {}));
    } catch (error) {
      byId("count").disabled = false;
      fail(error);
      return;
    }
    await look();
  }

  async function begin() {
    worth = await Loyalty.outstanding.worth().catch(function () { return null; });
    await look();
  }

  texts.fill(document);
  document.title = say("outstanding.title", {});
  byId("count").addEventListener("click", order);
  byId("earlier").addEventListener("change", function () { render().catch(fail); });
  begin();
}(window.Loyalty = window.Loyalty || {}));

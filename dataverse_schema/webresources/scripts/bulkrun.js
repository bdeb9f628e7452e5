"use strict";

// One bulk run on its form: live counters, and the buttons that steer it. A button sets the status of the row; whoever works on
// the run reads it between two pages.
(function (Loyalty) {
  const dom = Loyalty.dom;
  const el = dom.el;
  const byId = dom.byId;
  const notice = dom.notice;
  const STATUS = Loyalty.run.STATUS;
  const LIVE = 2000;
  const IDLE = 10000;
  const FAILURES = 20;

  const page = Loyalty.readPage(window.location.search);
  const format = new Loyalty.Format(page.culture, page.offset);
  const texts = new Loyalty.Texts(page.culture, format);
  const say = texts.say.bind(texts);
  const history = new Loyalty.run.History();
  const path = "loy_bulkruns(" + page.record + ")";
  let row = null;
  let worth = null;
  let busy = false;
  let timer = 0;

  function fail(error) { notice(Loyalty.sentence(error, texts, "run.mayNot"), "error"); }

  // What a point is worth is looked up once; without it there is no money beside the points.
  async function begin() {
    worth = await Loyalty.outstanding.worth().catch(function () { return null; });
    await look();
  }

  async function look() {
    clearTimeout(timer);
    let running = true;
    try {
      row = await Loyalty.webApi.read(path);
      const now = Loyalty.webApi.now();
      history.add(row, now.getTime());
      running = row.loy_status === STATUS.RUNNING;
      await render(now);
    } catch (error) {
      fail(error);
    }
    byId("page").setAttribute("aria-busy", "false");
    timer = setTimeout(look, running && !document.hidden ? LIVE : IDLE);
  }

  async function render(now) {
    dom.put(byId("head"), [el("h1", { text: row.loy_name || say("run.title", {}) }), Loyalty.run.badge(row, texts)]);
    const opened = document.querySelector("#run details[open]");
    dom.put(byId("run"), Loyalty.run.view(row, history, now, texts, format, worth));
    if (opened && document.querySelector("#run details")) { document.querySelector("#run details").open = true; }
    ["start", "pause", "resume", "cancel"].forEach(function (name) { byId(name).hidden = !possible()[name]; });
    if (!possible().cancel) { byId("really").hidden = true; }
    await failures();
  }

  function possible() {
    const status = row.loy_status;
    return {
      start: status === STATUS.DRAFT,
      pause: status === STATUS.RUNNING,
      resume: status === STATUS.PAUSED || status === STATUS.FAILED,
      cancel: status === STATUS.RUNNING || status === STATUS.PAUSED || status === STATUS.FAILED
    };
  }

  async function failures() {
    if (!row.loy_failed && !row.loy_secondround) {  // what the second round could not do is listed too
      dom.put(byId("failures"), []);
      return;
    }
    const found = await Loyalty.webApi.read("loy_integrationlogs?$select=loy_name,loy_message,loy_nextstep,loy_said&$filter=loy_correlationid eq '" +
      page.record + "' and loy_outcome eq 482100003&$orderby=loy_occurredon desc&$top=" + FAILURES);
    dom.put(byId("failures"), found.value.length ? [
      el("h2", { text: say("run.failures", {}) }),
      el("ul", {}, found.value.map(function (log) {
        return el("li", {}, [Loyalty.record.link("loy_integrationlog", log.loy_integrationlogid, Loyalty.said.ofLog(log, texts, format).message)]);
      }))
    ] : []);
  }

  async function steer(status) {
    if (busy) { return; }
    busy = true;
    byId("really").hidden = true;
    try {
      await Loyalty.webApi.update(path, { loy_status: status, loy_endedon: null });
      notice(say("run.asked", {}));
    } catch (error) {
      fail(error);
    }
    busy = false;
    await look();
  }

  function on(id, act) { byId(id).addEventListener("click", act); }

  texts.fill(document);
  document.title = say("run.title", {});
  if (page.record) {
    on("start", function () { steer(STATUS.RUNNING); });
    on("pause", function () { steer(STATUS.PAUSED); });
    on("resume", function () { steer(STATUS.RUNNING); });
    on("cancel", function () {
      byId("really").hidden = false;
      byId("no").focus();
    });
    on("yes", function () { steer(STATUS.CANCELLED); });
    on("no", function () {
      byId("really").hidden = true;
      byId("cancel").focus();
    });
    begin();
  } else {
    byId("page").setAttribute("aria-busy", "false");
    notice(say("run.noRow", {}));
  }
}(window.Loyalty = window.Loyalty || {}));

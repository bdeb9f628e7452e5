"use strict";

// The admin's screen: what needs attention, in plain sentences; look, resume, see what became of it.
(function (Loyalty) {
  const dom = Loyalty.dom;
  const el = dom.el;
  const byId = dom.byId;
  const notice = dom.notice;
  const PAGE = 50;
  const LOOK_AGAIN = 10000;
  const COLUMNS = "loy_name,loy_outcome,loy_operation,loy_reasonclass,loy_field,loy_message,loy_nextstep,loy_customerkey," +
    "loy_recordtable,loy_recordid,loy_correlationid,loy_points,loy_attempt,loy_durationms,loy_change,loy_said,loy_resume,loy_check,loy_occurredon";
  const ANSWER = "loy_outcome,loy_resume,loy_check,loy_preview";
  const FIRST = 482100000;
  const OUTCOMES = ["applied", "nothing", "rejected", "parked", "dead"];
  const BADGES = { applied: "good", nothing: "quiet", rejected: "warn", parked: "bad", dead: "bad" };
  const ATTENTION = "(loy_outcome eq 482100003 or loy_outcome eq 482100004)";
  const FILTERS = { "tab-attention": ATTENTION, "tab-rejected": "loy_outcome eq 482100002", "tab-all": "" };

  const page = Loyalty.readPage(window.location.search);
  const format = new Loyalty.Format(page.culture, page.offset);
  const texts = new Loyalty.Texts(page.culture, format);
  const say = texts.say.bind(texts);
  const runs = new Loyalty.Runs(byId("runs"), texts, format);
  let tab = "tab-attention";
  let words = "";
  let rows = [];
  let nextLink = "";
  let chosen = new Set();
  let busy = false;

  function outcome(row) { return OUTCOMES[row.loy_outcome - FIRST] || ""; }

  function stuck(row) { return ["parked", "dead"].indexOf(outcome(row)) >= 0; }

  // A report or a message that could not be read has no change to send again.
  function resumable(row) { return Boolean(row.loy_change && row.loy_recordid); }

  // Reading

  function query() {
    const quoted = "'" + words.replace(/'/g, "''") + "'";
    const search = words ? "(loy_recordid eq " + quoted + " or loy_correlationid eq " + quoted + " or contains(loy_name," + quoted + ") or contains(loy_customerkey," + quoted + "))" : "";
    const filter = page.record ? "loy_integrationlogid eq " + page.record : [FILTERS[tab], search].filter(Boolean).join(" and ");
    return "loy_integrationlogs?$select=" + COLUMNS + (filter ? "&$filter=" + encodeURIComponent(filter) : "") + "&$orderby=loy_occurredon desc";
  }

  async function load() {
    if (tab === "tab-runs") {
      await runs.show();
      return;
    }
    const asked = query();
    const found = await Loyalty.webApi.readPages(asked, PAGE);
    if (asked !== query()) { return; }  // somebody looks for something else by now, and its answer may be here already
    rows = found.value;
    nextLink = found["@odata.nextLink"] || "";
    chosen = new Set(Array.from(chosen).filter(function (id) { return rows.some(function (row) { return row.loy_integrationlogid === id; }); }));
    render();
  }

  async function countAttention() {
    const found = await Loyalty.webApi.read("loy_integrationlogs?$select=loy_outcome&$count=true&$top=1&$filter=" + ATTENTION);
    byId("tab-attention").textContent = say("log.attention", { n: found["@odata.count"] });
  }

  async function more() {
    const link = nextLink;
    const found = await Loyalty.webApi.next(link, PAGE);
    if (link !== nextLink) { return; }
    rows = rows.concat(found.value);
    nextLink = found["@odata.nextLink"] || "";
    render();
  }

  // Showing

  function render() {
    const open = page.record ? [page.record] : Array.from(document.querySelectorAll(".sentence[aria-expanded=true]"))
      .map(function (node) { return node.dataset.id; });
    dom.put(byId("body"), [].concat.apply([], rows.map(rowOf)));
    open.forEach(function (id) {
      const button = document.querySelector(".sentence[data-id='" + id + "']");
      if (button) { unfold(button); }
    });
    byId("list").hidden = !rows.length;
    byId("empty").hidden = Boolean(rows.length);
    byId("empty").textContent = say(words ? "log.noneFound" : tab === "tab-attention" ? "log.allWell" : "log.none", {});
    byId("more").hidden = !nextLink;
    renderChosen();
  }

  function rowOf(row) {
    const id = row.loy_integrationlogid;
    const said = Loyalty.said.ofLog(row, texts, format);
    const sentence = el("button", { type: "button", "class": "sentence", "data-id": id, "aria-expanded": "false", "aria-controls": "trace-" + id, text: said.message });
    sentence.addEventListener("click", function () { unfold(sentence); });
    const box = el("input", { type: "checkbox", disabled: !resumable(row), "aria-label": say("log.choose", { sentence: said.message }) });
    box.checked = chosen.has(id);
    box.addEventListener("change", function () {
      if (box.checked) { chosen.add(id); } else { chosen.delete(id); }
      renderChosen();
    });
    const took = row.loy_durationms === null ? "" : say("log.ms", { n: row.loy_durationms });
    return [
      el("tr", { "data-id": id }, [
        el("td", {}, [box]),
        el("td", { "class": "when", text: format.instant(row.loy_occurredon) }),
        el("td", { "class": "what" }, [sentence, el("span", { "class": "next" }, [
          Loyalty.record.about(row, texts), said.next ? el("span", { text: said.next }) : null
        ])]),
        el("td", { "class": "state" }, [el("span", { "class": "badge " + (BADGES[outcome(row)] || "quiet"),
          text: row.loy_resume ? say("outcome.sending", {}) : row.loy_check ? say("outcome.checking", {}) : say("outcome." + outcome(row), {}) })]),
        el("td", { "class": "number took", text: took })
      ]),
      el("tr", { id: "trace-" + id, hidden: true }, [el("td", { colspan: "5", "class": "wide" })])
    ];
  }

  async function unfold(button) {
    const opening = button.getAttribute("aria-expanded") !== "true";
    const line = byId("trace-" + button.dataset.id);
    button.setAttribute("aria-expanded", String(opening));
    line.hidden = !opening;
    if (opening) {
      const row = rows.find(function (other) { return other.loy_integrationlogid === button.dataset.id; });
      try {
        dom.put(line.firstChild, [await Loyalty.trace(row, texts, format)]);
      } catch (error) {
        dom.put(line.firstChild, [el("p", { "class": "error", text: Loyalty.sentence(error, texts, "log.mayNot") })]);
      }
    }
  }

  function chosenRows() { return rows.filter(function (row) { return chosen.has(row.loy_integrationlogid); }); }

  function renderChosen() {
    const count = chosen.size;
    const possible = rows.filter(resumable).length;
    byId("chosen").textContent = count ? say("log.chosen", { n: count }) : "";
    byId("check").disabled = byId("resume").disabled = busy || !count;
    byId("resume").textContent = say(chosenRows().every(stuck) ? "log.resume" : "log.replay", {});
    byId("every").disabled = !possible;
    byId("every").checked = possible > 0 && count === possible;
    byId("every").indeterminate = count > 0 && count < possible;
  }

  // Acting

  function fail(error) { notice(Loyalty.sentence(error, texts, "log.mayNot"), "error"); }

  async function working(act) {
    busy = true;
    renderChosen();
    try {
      await act(chosenRows());
    } catch (error) {
      fail(error);
    }
    busy = false;
    renderChosen();
  }

  async function check(selected) {
    byId("findings").hidden = true;
    const result = await Loyalty.resume.ask(selected, "loy_check", ANSWER, function (n) { notice(say("log.checking", { n: n, all: selected.length })); });
    notice(result.waiting ? say("log.unanswered", { n: result.waiting }) : "", "warning");
    dom.put(byId("findings"), Loyalty.findings(selected, result.rows, texts, format));
    byId("findings").hidden = false;
    byId("findings-title").focus();
  }

  async function resume(selected) {
    byId("findings").hidden = true;
    const result = await Loyalty.resume.ask(selected, "loy_resume", ANSWER, function (n) { notice(say("log.sending", { n: n, all: selected.length })); });
    chosen.clear();
    await Promise.all([load(), countAttention()]);
    const answered = selected.map(function (row) { return result.rows[row.loy_integrationlogid]; }).filter(function (row) { return !row.loy_resume; });
    const still = answered.filter(stuck).length;
    const done = answered.length - still;
    notice([
      done ? say("log.done", { n: done }) : "",
      still ? say("log.stillParked", { n: still }) : "",
      result.waiting ? say("log.waiting", { n: result.waiting }) : ""
    ].filter(Boolean).join(" "), still || result.waiting ? "warning" : "good");
    byId("notice").focus(); // the button that was pressed is disabled now
  }

  async function lookAgain() {
    if (!document.hidden && !busy) {
      try {
        await countAttention();
        if (!chosen.size && tab !== "tab-runs" && !document.querySelector(".sentence[aria-expanded=true]")) { await load(); }
      } catch (error) {
        fail(error);
      }
    }
    setTimeout(lookAgain, LOOK_AGAIN);
  }

  texts.fill(document);
  document.title = say("log.title", {});
  // On the form of one row the page is about that row alone.
  ["title", "tabs", "search"].forEach(function (id) { byId(id).hidden = Boolean(page.record); });
  byId("tab-attention").textContent = say("log.attention", { n: 0 });
  dom.tabs(document.querySelector("[role=tablist]"), function (id) {
    tab = id;
    byId("findings").hidden = true;
    notice("");
    runs.stop();
    chosen.clear();
    load().catch(fail);
  }).select(tab);
  byId("search").addEventListener("submit", function (event) {
    event.preventDefault();
    words = byId("words").value.trim();
    load().catch(fail);
  });
  byId("every").addEventListener("change", function () {
    chosen = new Set(byId("every").checked ? rows.filter(resumable).map(function (row) { return row.loy_integrationlogid; }) : []);
    render();
  });
  byId("check").addEventListener("click", function () { working(check); });
  byId("resume").addEventListener("click", function () { working(resume); });
  byId("more").addEventListener("click", function () { more().catch(fail); });
  lookAgain();
}(window.Loyalty = window.Loyalty || {}));

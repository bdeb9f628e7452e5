"use strict";

// The Web API of the environment that serves this page; Dynamics has signed the user in.
(function (Loyalty) {
  const ROOT = "/api/data/v9.2/";
  const HEADERS = { Accept: "application/json", "OData-MaxVersion": "4.0", "OData-Version": "4.0", "If-None-Match": "null" };
  const TIME_OUT = 20000;
  // Two keys guard a row that is created twice: its id, and any alternate key.
  const DUPLICATE = ["0x80060892", "0x80040237"];
  const KINDS = { 401: "signedOut", 403: "forbidden", 404: "missing", 408: "busy", 429: "busy", 502: "busy", 503: "busy", 504: "busy" };
  let lead = 0;

  // `kind`: offline, busy (try again), signedOut, forbidden, missing, duplicate, refused. `message`: the server's words.
  function Problem(kind, message, wait) {
    this.name = "Problem";
    this.kind = kind;
    this.message = message;
    this.wait = wait || 0;
  }
  Problem.prototype = Object.create(Error.prototype);
  Object.defineProperty(Problem.prototype, "passing", {
    get: function () { return this.kind === "offline" || this.kind === "busy"; }
  });

  async function request(method, path, body, headers) {
    const options = { method: method, headers: Object.assign({}, HEADERS, headers), cache: "no-store" };
    if (body) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    const stop = new AbortController();
    const timer = setTimeout(function () { stop.abort(); }, TIME_OUT);
    options.signal = stop.signal;
    try {
      const response = await fetch(ROOT + path, options);
      const said = Date.parse(response.headers.get("Date") || "");
      lead = said ? said - Date.now() : lead;
      if (!response.ok) {
        throw await problem(response);
      }
      return { headers: response.headers, body: response.status === 204 ? null : await response.json() };
    } catch (error) {
      throw error instanceof Problem ? error : new Problem("offline", String(error.message || error));
    } finally {
      clearTimeout(timer);
    }
  }

  async function read(path, headers) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return (await request("GET", path, null, headers)).body;
      } catch (error) {
        if (!error.passing || attempt === 2) { throw error; }
        await Loyalty.pause(error.wait || 400 * (attempt + 1));
      }
    }
  }

  async function problem(response) {
    const body = await response.json().catch(function () { return {}; });
    const error = body.error || {};
    const wait = Number(response.headers.get("Retry-After")) * 1000 || 0;
    if (DUPLICATE.indexOf(String(error.code).toLowerCase()) >= 0) {
      return new Problem("duplicate", error.message, wait);
    }
    const kind = KINDS[response.status] || (response.status >= 500 ? "busy" : "refused");
    return new Problem(kind, error.message || String(response.status), wait);
  }

  // A failure as a sentence for the user; `forbidden` is the text for a missing right.
  Loyalty.sentence = function (error, texts, forbidden) {
    if (error.kind === "forbidden") {
      return texts.say(forbidden, {});
    }
    return error.kind === "refused" || error.kind === "duplicate" || !error.kind
      ? texts.say("error.refused", { message: error.message })
      : texts.say("error." + error.kind, {});
  };
  Loyalty.Problem = Problem;
  Loyalty.pause = function (ms) { return new Promise(function (done) { setTimeout(done, ms); }); };
  Loyalty.webApi = {
    // One row, or a page of rows under `value`.
    get: async function (path) { return (await request("GET", path)).body; },
    // The same, tried again while the failure may pass.
    read: function (path) { return read(path, {}); },
    // With the text that Dynamics shows for choices, lookups and money beside each value.
    readFormatted: function (path) { return read(path, { Prefer: "odata.include-annotations=\"OData.Community.Display.V1.FormattedValue\"" }); },
    // In pages of `size` rows, and the next page by the link in the last one.
    readPages: function (path, size) { return read(path, { Prefer: "odata.maxpagesize=" + size }); },
    next: function (link, size) { return read(link.slice(link.indexOf(ROOT) + ROOT.length), { Prefer: "odata.maxpagesize=" + size }); },
    // The id of the new row.
    create: async function (set, row) {
      const answer = await request("POST", set, row);
      const at = answer.headers.get("OData-EntityId") || "";
      return at.slice(at.lastIndexOf("(") + 1, -1);
    },
    // Changes a row that exists; never makes one.
    update: async function (path, row) { await request("PATCH", path, row, { "If-Match": "*" }); },
    // The server's clock, as far as its last answer told.
    now: function () { return new Date(Date.now() + lead); }
  };
}(window.Loyalty = window.Loyalty || {}));

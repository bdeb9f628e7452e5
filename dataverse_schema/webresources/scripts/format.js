"use strict";

// Numbers, money and dates in the user's culture. Days are ISO text ("2026-11-30") and have no time zone.
(function (Loyalty) {
  const NEVER = "9999";
  const MICRO = 1000000;

  // `offset`: minutes from UTC of the user in Dynamics, or null for the browser's own time zone.
  function Format(culture, offset) {
    this.culture = culture;
    // Where both agree the browser's zone is better: it knows summer time. Either sign: the documentation does not say which.
    const agrees = offset !== null && Math.abs(offset) === Math.abs(new Date().getTimezoneOffset());
    this._shift = offset === null || agrees ? null : offset * 60000;
    this._whole = new Intl.NumberFormat(culture, { maximumFractionDigits: 0 });
    this._signed = new Intl.NumberFormat(culture, { maximumFractionDigits: 0, signDisplay: "exceptZero" });
    this._plain = new Intl.NumberFormat(culture, { maximumFractionDigits: 4 });
    this._day = new Intl.DateTimeFormat(culture, { dateStyle: "medium", timeZone: "UTC" });
    this._month = new Intl.DateTimeFormat(culture, { month: "short", year: "numeric", timeZone: "UTC" });
    const zone = this._shift === null ? {} : { timeZone: "UTC" };
    this._instant = new Intl.DateTimeFormat(culture, Object.assign({ dateStyle: "medium", timeStyle: "short" }, zone));
    this._time = new Intl.DateTimeFormat(culture, Object.assign({ timeStyle: "medium" }, zone));
    this._money = {};
    const parts = new Intl.NumberFormat(culture).formatToParts(12345.6);
    const part = function (type) { return (parts.find(function (p) { return p.type === type; }) || {}).value; };
    this._group = part("group") || "";
    this._decimal = part("decimal") || ".";
  }

  Format.prototype = {
    points: function (count) { return this._whole.format(count); },
    signed: function (count) { return this._signed.format(count); },
    number: function (value) { return this._plain.format(value); },
    day: function (day) { return this._day.format(new Date(day.slice(0, 10) + "T00:00:00Z")); },
    month: function (day) { return this._month.format(new Date(day.slice(0, 7) + "-01T00:00:00Z")); },
    instant: function (iso) { return this._instant.format(this._local(iso)); },
    time: function (iso) { return this._time.format(this._local(iso)); },

    // `currency`: ISO code, or "" when the page may not know it.
    money: function (amount, currency) {
      const name = currency || "-";
      if (!this._money[name]) {
        const style = currency ? { style: "currency", currency: currency } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
        this._money[name] = new Intl.NumberFormat(this.culture, style);
      }
      return this._money[name].format(amount);
    },

    // Text as typed -> millionths as a whole number, or null. Money is never added up as a fraction.
    parseMicros: function (text) {
      const plain = text.trim().split(this._group).join("").replace(/[\s'\u2019\u00a0\u202f]/g, "").replace(this._decimal, ".");
      return /^\d{1,9}(\.\d{0,6})?$/.test(plain) ? Math.round(Number(plain) * MICRO) : null;
    },

    // Whole points as typed, or null.
    parsePoints: function (text) {
      const micros = this.parseMicros(text);
      return micros !== null && micros % MICRO === 0 ? micros / MICRO : null;
    },

    _local: function (iso) {
      const moment = new Date(iso);
      return this._shift === null ? moment : new Date(moment.getTime() + this._shift);
    }
  };

  Loyalty.Format = Format;
  Loyalty.micros = function (value) { return Math.round(Number(value || 0) * MICRO); };
  // Points that are worth at least an amount, both as millionths.
  Loyalty.pointsFor = function (amountMicros, valueMicros) { return Math.ceil(amountMicros / valueMicros); };
  Loyalty.valueOf = function (points, valueMicros) { return points * valueMicros / MICRO; };
  Loyalty.expires = function (day) { return day.slice(0, 4) !== NEVER; };
}(window.Loyalty = window.Loyalty || {}));

"use strict";

// On the forms of programme, earn rule and tier: what contradicts another row is said at its field before it is saved.
// The connector asks the same questions of every row however it was written (connector/loyalty/contradictions.py).
(function (Loyalty) {
  const ROLLING = 482100001;
  const TIER = "loy_tierid,loy_code,loy_rank,loy_minimumtenuremonths,loy_minimumspend,loy_minimumpoints,loy_spendwindow,loy_windowmonths,loy_ratingcode";
  const RULE = "loy_earnruleid,loy_version,loy_validfrom";
  const KINDS = {
    loy_tier: { columns: TIER, field: "loy_rank", check: ofTiers },
    loy_earnrule: { columns: RULE, field: "loy_validfrom", check: ofRules }
  };

  function sorted(rows, first, second) {
    return rows.slice().sort(function (a, b) { return a[first] < b[first] ? -1 : a[first] > b[first] ? 1 : a[second] < b[second] ? -1 : 1; });
  }

  function pairs(rows, look) {
    rows.slice(1).forEach(function (row, place) { look(rows[place], row); });
  }

  function sameMonths(a, b) {
    return a.loy_spendwindow === b.loy_spendwindow && (a.loy_spendwindow !== ROLLING || (a.loy_windowmonths || 12) === (b.loy_windowmonths || 12));
  }

  function asksNoMore(higher, lower) {
    return ["loy_minimumtenuremonths", "loy_minimumspend", "loy_minimumpoints"].every(function (column) { return (higher[column] || 0) <= (lower[column] || 0); });
  }

  function ofTiers(rows) {
    const tiers = sorted(rows, "loy_rank", "loy_code");
    const found = [];
    if (tiers.length && (tiers[0].loy_minimumtenuremonths || tiers[0].loy_minimumspend || tiers[0].loy_minimumpoints)) {
      found.push({ kind: "lowest_has_conditions", rows: [tiers[0]], values: { a: tiers[0].loy_code } });
    }
    pairs(tiers, function (lower, higher) {
      const values = { a: lower.loy_code, b: higher.loy_code, rank: String(lower.loy_rank) };
      if (lower.loy_rank === higher.loy_rank) {
        found.push({ kind: "same_rank", rows: [lower, higher], severe: true, values: values });
      } else if (sameMonths(lower, higher) && asksNoMore(higher, lower)) {
        found.push({ kind: "never_held", rows: [lower, higher], values: values });
      }
    });
    const ratings = new Map();
    tiers.forEach(function (tier) {
      const rating = tier.loy_ratingcode;
      if (rating !== null && rating !== undefined) {
        ratings.set(rating, (ratings.get(rating) || []).concat([tier]));
      }
    });
    Array.from(ratings.keys()).sort(function (a, b) { return a - b; }).forEach(function (rating) {
      const writing = ratings.get(rating);
      if (writing.length > 1) {
        const codes = writing.map(function (tier) { return tier.loy_code; }).join(", ");
        found.push({ kind: "same_rating", rows: writing, values: { a: codes, rating: String(rating) } });
      }
    });
    return found;
  }

  function ofRules(rows) {
    const found = [];
    pairs(sorted(rows, "loy_validfrom", "loy_version"), function (earlier, later) {
      const values = { a: String(earlier.loy_version), b: String(later.loy_version), day: later.loy_validfrom };
      if (earlier.loy_validfrom === later.loy_validfrom) {
        found.push({ kind: "same_day", rows: [earlier, later], severe: true, values: values });
      }
      if (later.loy_version < earlier.loy_version) {
        found.push({ kind: "against_time", rows: [earlier, later], values: values });
      }
    });
    return found;
  }

  function twoDigits(number) {
    return String(number).padStart(2, "0");
  }

  // A day column is local midnight on the form, and text in the Web API.
  function plain(value) {
    return value instanceof Date ? value.getFullYear() + "-" + twoDigits(value.getMonth() + 1) + "-" + twoDigits(value.getDate()) : value;
  }

  function valueOf(form, name) {
    const attribute = form.getAttribute(name);
    return attribute ? plain(attribute.getValue()) : null;
  }

  function Watch(form, kind, texts) {
    this._form = form;
    this._kind = kind;
    this._texts = texts;
    this._others = [];
    this._shown = [];
  }

  Watch.prototype = {
    // The other rows of the programme, as they are now.
    read: async function () {
      const program = valueOf(this._form, "loy_programid");
      const name = this._form.data.entity.getEntityName();
      if (!program || !program.length) {
        this._others = [];
        return;
      }
      const of = program[0].id.replace(/[{}]/g, "").toLowerCase();
      const own = this._own();
      const page = await Xrm.WebApi.retrieveMultipleRecords(name, "?$select=" + this._kind.columns + "&$filter=_loy_programid_value eq " + of);
      this._others = page.entities.filter(function (row) { return row[name + "id"] !== own; });
    },

    // Says what is wrong with the row as it stands on the form; whether it may be saved.
    show: function () {
      const form = this._form;
      const field = form.getControl(this._kind.field);
      const row = { own: true };
      this._kind.columns.split(",").slice(1).forEach(function (name) { row[name] = valueOf(form, name); });
      const complete = row[this._kind.field] !== null && row[this._kind.field] !== undefined;
      const found = complete ? this._kind.check(this._others.concat([row])).filter(function (each) { return each.rows.includes(row); }) : [];
      this._shown.forEach(function (id) { form.ui.clearFormNotification(id); });
      this._shown = [];
      if (field) {
        field.clearNotification("loy_terms");
      }
      found.forEach(function (each) {
        const text = this._texts.say("terms." + each.kind, each.values);
        if (each.severe && field) {
          field.setNotification(text, "loy_terms");
        } else {
          form.ui.setFormNotification(text, each.severe ? "ERROR" : "WARNING", "loy_terms_" + each.kind);
          this._shown.push("loy_terms_" + each.kind);
        }
      }, this);
      return !found.some(function (each) { return each.severe; });
    },

    _own: function () {
      return this._form.data.entity.getId().replace(/[{}]/g, "").toLowerCase();
    }
  };

  function tellProblem(form, texts) {
    const problem = valueOf(form, "loy_problem");
    form.ui.clearFormNotification("loy_problem");
    if (problem) {
      form.ui.setFormNotification(texts.say("terms.problem", { problem: problem }), "WARNING", "loy_problem");
    }
  }

  Loyalty.terms = {
    ofTiers: ofTiers,
    ofRules: ofRules,

    // The forms' onload handler.
    onLoad: async function (context) {
      const form = context.getFormContext();
      const lcid = Xrm.Utility.getGlobalContext().userSettings.languageId;
      const texts = new Loyalty.Texts(lcid === 1031 ? "de-DE" : "en-US", { points: String });
      const kind = KINDS[form.data.entity.getEntityName()];
      tellProblem(form, texts);
      if (!kind) {
        return;
      }
      if (form.data.entity.getId()) {
        form.ui.setFormNotification(texts.say("terms.forward", {}), "INFO", "loy_terms_forward");
      }
      const watch = new Watch(form, kind, texts);
      const again = function () { return watch.read().then(function () { watch.show(); }); };
      kind.columns.split(",").slice(1).forEach(function (name) {
        const attribute = form.getAttribute(name);
        if (attribute) {
          attribute.addOnChange(function () { watch.show(); });
        }
      });
      const program = form.getAttribute("loy_programid");
      if (program) {
        program.addOnChange(again);
      }
      form.data.entity.addOnSave(function (saving) {
        if (!watch.show()) {
          saving.getEventArgs().preventDefault();
        }
      });
      await again();
    }
  };
}(window.Loyalty = window.Loyalty || {}));

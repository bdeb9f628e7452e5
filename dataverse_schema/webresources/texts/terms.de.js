"use strict";

// A form runs its libraries in whatever order they arrive: this one may come before texts.js.
(function (tables) {
  tables.de = Object.assign(tables.de || {}, {
    "terms.forward": "Eine Änderung gilt ab „Gültig ab“, frühestens ab morgen. Was vorher gebucht wurde, behält seine Bedingungen.",
    "terms.problem": "Der Connector hat gefunden: {problem}",
    "terms.lowest_has_conditions": "Stufe {a} ist die unterste, jeder hat sie; trotzdem stellt sie Bedingungen.",
    "terms.same_rank": "Die Stufen {a} und {b} haben denselben Rang {rank}.",
    "terms.never_held": "Stufe {a} wird niemand je haben: Stufe {b} darüber verlangt nicht mehr.",
    "terms.same_rating": "Die Stufen {a} schreiben dieselbe Firmenbewertung {rating}.",
    "terms.same_day": "Die Regeln {a} und {b} beginnen beide am {day}.",
    "terms.against_time": "Regel {b} beginnt nach Version {a}: Die Versionen laufen gegen die Zeit."
  });
}((window.Loyalty = window.Loyalty || {}).textTables = window.Loyalty.textTables || {}));

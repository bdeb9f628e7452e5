"use strict";

// A form runs its libraries in whatever order they arrive: this one may come before texts.js.
(function (tables) {
  tables.en = Object.assign(tables.en || {}, {
    "terms.forward": "An edit counts from its \"Valid from\", tomorrow at the earliest. What was posted before keeps its terms.",
    "terms.problem": "The connector found: {problem}",
    "terms.lowest_has_conditions": "Tier {a} is the lowest, so everybody holds it, yet it has conditions.",
    "terms.same_rank": "Tiers {a} and {b} have the same rank {rank}.",
    "terms.never_held": "Nobody will ever hold tier {a}: tier {b} above it asks for no more.",
    "terms.same_rating": "Tiers {a} write the same account rating {rating}.",
    "terms.same_day": "Earn rules {a} and {b} both begin on {day}.",
    "terms.against_time": "Earn rule {b} begins after version {a}: versions run against time."
  });
}((window.Loyalty = window.Loyalty || {}).textTables = window.Loyalty.textTables || {}));

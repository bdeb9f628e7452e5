"use strict";

window.Loyalty.addTexts("en", {
  "panel.title": "Loyalty",
  "panel.noCustomer": "This panel belongs on the form of an account or a contact.",

  "tier.title": "Tier",
  "tier.since": "since {day}.",
  "tier.multiplier": "Invoices earn {factor} times the points.",
  "tier.because": "Reached by {why}.",
  "tier.next": "On the way to {tier}",
  "tier.top": "This is the highest tier.",
  "tier.tenure": "{have} as a customer ({need} needed)",
  "tier.spend": "{have} spent ({need} needed)",
  "tier.points": "{have} points earned ({need} needed)",
  "tier.years": { one: "{n} year", other: "{n} years" },
  "tier.months": { one: "{n} month", other: "{n} months" },

  "calendar.title": "When points expire",
  "calendar.later": "Later",
  "calendar.never": "Never",

  "history.title": "History",
  "history.more": "Show older entries",

  "column.line": "Line",
  "column.category": "Category",
  "column.net": "Net",

  "status.issued": "Issued",
  "status.paid": "Paid",
  "status.cancelled": "Cancelled",
  "status.gone": "Deleted or of another customer",
  "record.invoice": "The invoice",
  "record.redemption": "The redemption",
  "record.adjustment": "The adjustment",

  "explain.invoice": "Invoice",
  "explain.status": "Status then",
  "explain.record": "Cause",
  "explain.because": "Corrected because of",
  "explain.earlierInvoice": "an invoice dated before it",
  "explain.spend": "Spend then",
  "explain.date": "Date",
  "explain.spendable": "Spendable on",
  "explain.lines": "Lines of the invoice",
  "explain.excluded": "earns nothing",
  "explain.rule": "Version {version} of the earn rule:",
  "explain.rate": "{rate} per unit of net money.",
  "explain.sum": { one: "{base} × {multiplier} (tier) makes {n} point, rounded down.", other: "{base} × {multiplier} (tier) makes {n} points, rounded down." },
  "explain.difference": "{had} had been booked before, hence {change}.",
  "explain.lot": "{change} to the points that expire on {day}",
  "explain.lotForEver": "{change} to the points that never expire",
  "explain.pending": "{change} to the pending points of the invoice",
  "explain.owed": "{change} to the points owed",
  "explain.became": "Since then taken from the points with the same last day:",
  "explain.place": "Entry {n} of the ledger."
});

"use strict";

window.Loyalty.addTexts("de", {
  "panel.title": "Treuepunkte",
  "panel.noCustomer": "Dieser Bereich gehört auf das Formular einer Firma oder eines Kontakts.",

  "tier.title": "Stufe",
  "tier.since": "seit {day}.",
  "tier.multiplier": "Rechnungen bringen das {factor}-fache an Punkten.",
  "tier.because": "Erreicht durch {why}.",
  "tier.next": "Auf dem Weg zu {tier}",
  "tier.top": "Das ist die höchste Stufe.",
  "tier.tenure": "{have} als Kunde ({need} nötig)",
  "tier.spend": "{have} Umsatz ({need} nötig)",
  "tier.points": "{have} gesammelte Punkte ({need} nötig)",
  "tier.years": { one: "{n} Jahr", other: "{n} Jahre" },
  "tier.months": { one: "{n} Monat", other: "{n} Monate" },

  "calendar.title": "Wann Punkte verfallen",
  "calendar.later": "Später",
  "calendar.never": "Nie",

  "history.title": "Verlauf",
  "history.more": "Ältere Buchungen zeigen",

  "column.line": "Position",
  "column.category": "Warengruppe",
  "column.net": "Netto",

  "status.issued": "Ausgestellt",
  "status.paid": "Bezahlt",
  "status.cancelled": "Storniert",
  "status.gone": "Gelöscht oder von einem anderen Kunden",
  "record.invoice": "Die Rechnung",
  "record.redemption": "Die Einlösung",
  "record.adjustment": "Die Anpassung",

  "explain.invoice": "Rechnung",
  "explain.status": "Status damals",
  "explain.record": "Anlass",
  "explain.because": "Berichtigt wegen",
  "explain.earlierInvoice": "einer Rechnung mit früherem Datum",
  "explain.spend": "Umsatz damals",
  "explain.date": "Datum",
  "explain.spendable": "Verfügbar ab",
  "explain.lines": "Positionen der Rechnung",
  "explain.excluded": "bringt nichts",
  "explain.rule": "Version {version} der Sammelregel:",
  "explain.rate": "{rate} je Währungseinheit netto.",
  "explain.sum": { one: "{base} × {multiplier} (Stufe) ergibt abgerundet {n} Punkt.", other: "{base} × {multiplier} (Stufe) ergibt abgerundet {n} Punkte." },
  "explain.difference": "{had} waren bereits gebucht, daher {change}.",
  "explain.lot": "{change} bei den Punkten, die am {day} verfallen",
  "explain.lotForEver": "{change} bei den Punkten, die nie verfallen",
  "explain.pending": "{change} bei den vorgemerkten Punkten der Rechnung",
  "explain.owed": "{change} bei den offenen Punkten",
  "explain.became": "Seither von den Punkten mit demselben letzten Tag genommen:",
  "explain.place": "Buchung {n} im Hauptbuch."
});

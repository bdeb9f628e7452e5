"""What people are told, as codes with values: the log keeps them beside the English text.

Pages say them in the user's language: every code is in `dataverse_schema/webresources/texts/said.*.js` too.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

type Value = str | int | Decimal | date | Sequence["Sentence"]

TEXTS: Mapping[str, str] = {
    # an invoice
    "invoice": "Invoice {invoice}: {done}.",
    "invoice.gone": "Deleted or moved {document}: {done}.",
    "invoice.earned": "{points} points earned",
    "invoice.taken_back": "{points} points taken back",
    "invoice.spend_counted": "spend counted, no points earned",
    "invoice.spend_taken_off": "spend taken off, it had no points",
    "invoice.matured": "pending points became spendable",
    "invoice.owed": "{points} of them owed by the customer",
    "invoice.corrected": "{count} later invoices corrected",
    "invoice.noted": "noted",
    "invoice.settled": "nothing to do, its {points} points are in the ledger already",
    "invoice.zero": "nothing to do, its totalamount is zero",
    "invoice.earns_nothing": "nothing to do, it earns no points",
    "invoice.never_earned": "Nothing to do: {document} is gone and never earned points.",
    "invoice.deleted": "The invoice was deleted.",
    "invoice.passed_on": "Passed on to the invoice's customer.",
    "invoice.waits": "{document} waits until {customers} has given its points back.",
    "invoice.negative": "Invoice {invoice}: totalamount without tax and freight is {net}, below zero.",
    "invoice.empty": "Invoice {invoice}: {field} is empty.",
    "invoice.no_currency": "Invoice {invoice}: {field} has no currency that Dataverse knows.",
    "invoice.currency": "Invoice {invoice}: {field} is in {currency}, which did not earn on its day.",
    # the tier, and what time alone changes
    "tier": "The tier is now {tier}.",
    "review": "Review: {done}.",
    "review.matured": "{count} invoices' points became spendable",
    "review.expired": "{points} points expired",
    "review.tier": "tier looked at",
    "review.no_ledger": "Review: the customer has no ledger yet.",
    "review.nothing_due": "Review: nothing was due.",
    # what a person asks for
    "redeemed": "Redeemed {points} points with code {code}; {left} are left.",
    "voided": "Voided {code}: {points} points given back; {left} are available.",
    "adjusted": "Adjusted by {points} points.",
    "asked.deleted": "The {row} was deleted before it was decided.",
    "asked.decided": "The {row} was decided before.",
    "asked.passed_on": "Passed on to the {row}'s customer.",
    "asked.again": "Decided before: the answer was given again.",
    "asked.second": "More than {limit} points: a second person must set the status to Approved.",
    "asked.other": "More than {limit} points: somebody else than who asked for them must set the status to Approved.",
    "row.redemption": "redemption",
    "row.adjustment": "adjustment",
    "refused.points": "Points must be a whole number above zero.",
    "refused.minimum": "At least {minimum} points must be redeemed; {asked} were asked for.",
    "refused.held": "The customer's points are being written at this moment. Try again in a minute, at {until} at the latest.",
    "refused.short": "Only {available} points are available; {asked} were asked for.",
    "refused.owed": "{points} points are owed.",
    "refused.code": "loy_voidscode: {fault}.",
    "refused.forged": "The {row} was not decided by the connector: only it may set this status.",
    "refused.unknown_code": "No redemption of this customer has the transaction code {code}.",
    "refused.voided": "The redemption {code} was voided before.",
    "refused.zero": "Points must not be zero.",
    "refused.taking": "Only {available} points are available; {asked} cannot be taken.",
    # customers
    "customer.none": "{field}: there is no customer.",
    "customer.gone": "{field}: the customer {customer} does not exist any more.",
    "customer.merged": "{field}: {customer} was merged into {heir}.",
    "customer.needed": "customer: a change of kind {subject} needs one.",
    "customer.not_merged": "Nothing to do: the customer was not merged, or has no points to give.",
    "customer.handed_over": "Merged: {points} points went over to {heir}.",
    # the programme
    "rule.version_gone": "Programme {program} no longer has version {version} of its earn rule.",
    "rule.none": "Programme {program} has no earn rule in force on {day}, the date of invoice {invoice}.",
    "program.none": "There is no programme with the code {program}.",
    "program.no_rule": "Programme {program} has no earn rule.",
    "program.no_tier": "Programme {program} has no tier; it needs at least one of rank 0.",
    # the connector itself
    "ledger.broken": "The customer's ledger breaks a law: {law}.",
    "message.unreadable": "A message on {queue} could not be read: {fault}",
    "message.dead_lettered": "A message on {queue} failed at every delivery; it is sent again ({round} of {rounds}). Last: {why}",
    "message.failed": "A message on {queue} failed at every delivery, in {rounds} rounds. Last: {why}",
    "checked": "Looked at without booking anything.",
    # what Dataverse or a newer part says, in its own words
    "said": "{text}",
    # what to do
    "next.invoice": "Correct {field} of the invoice, then resume.",
    "next.invoice_total": "Correct the invoice, or cancel the invoice it was meant to correct; then resume.",
    "next.rule": "Add the earn rule to the programme, then resume.",
    "next.program": "Complete the programme, then resume.",
    "next.customer": "Set {field} to an account or contact; then resume.",
    "next.customer_of": "Set the customer of the {table}; then resume.",
    "next.merged": "Point {field} at the remaining record; then resume.",
    "next.role": "Give the application user the connector's role; then resume.",
    "next.value": "Correct the value named; then resume.",
    "next.audit": "Run `connector audit` and find out who changed the entries; then resume.",
    "next.sender": "Find out who sends to the queue; send a correct message.",
    "next.wait": "Nothing yet: it is sent again by itself.",
    "next.failure": "Find the failure in the function app's log by the correlation id; mend it; then resume.",
}


class Sentence(str):
    """English text that remembers what it was made of: `parts` are [code, values], said one after the other."""

    __slots__ = ("parts",)

    parts: list[list[Any]]

    def __new__(cls, text: str = "", parts: Sequence[list[Any]] = ()) -> "Sentence":
        made = super().__new__(cls, text)
        made.parts = list(parts)
        return made


EMPTY = Sentence()


def say(code: str, /, **values: Value) -> Sentence:
    """The sentence of a code. Sentences among the values are clauses; they are joined by commas."""
    shown = {name: _shown(value) for name, value in values.items()}
    return Sentence(TEXTS[code].format(**shown), [[code, {name: _kept(value) for name, value in values.items()}]])


def together(*sentences: str) -> Sentence:
    """Sentences one after the other; empty ones are left out."""
    full = [sentence for sentence in sentences if sentence]
    return Sentence(" ".join(full), [part for sentence in full for part in parts_of(sentence)])


def parts_of(text: str) -> list[list[Any]]:
    """What a text was made of; text from elsewhere is said as it is."""
    if isinstance(text, Sentence):
        return text.parts
    return say("said", text=text).parts if text else []


def _shown(value: Value) -> str | int | Decimal | date:
    return value if isinstance(value, str | int | Decimal | date) else ", ".join(value)


def _kept(value: Value) -> Any:
    if isinstance(value, str | int):
        return value
    return str(value) if isinstance(value, Decimal | date) else [part for clause in value for part in clause.parts]

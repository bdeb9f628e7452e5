"""The company: its customers, clerks and tills at work. What they do follows from the seed, and is written down as it happens."""

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from benchmarks.chaos.facts import Adjustment, Book, Customer, Invoice, Line, Rule, Terms, Tier, Version, Wish
from benchmarks.chaos.shelves import Shelves
from connector.dataverse import Create, Delete, Update, Write

_IDS = uuid.UUID("5d6f7c8e-1a2b-4c3d-8e9f-0a1b2c3d4e5f")
FIRST_OPTION = 482_100_000
STATUS = {"issued": (0, 1), "paid": (2, 100001), "cancelled": (3, 100003)}
_SPENDABLE = ("issue", "payment", "days after payment")
_PERIODS = ("day", "month", "quarter", "year")
_WINDOWS = ("lifetime", "rolling", "year")
BY_HAND = FIRST_OPTION + 2  # the rating that no tier has
_RATINGS = 0.02  # ratings set by hand, likewise
_LARGE = 0.02  # adjustments that need a second person, likewise
_APPROVALS = 0.1  # looks of that person
_REPAIRS = 0.05  # invoices that nobody had bought and that are given to somebody, likewise
_LADDERS = 0.01  # edits of a tier, likewise
_EXPIRIES = 0.01  # mass runs ordered for each thing that people do
_CATEGORIES = ("FOOD", "TOOLS", "Fuel", "")


class Till(Protocol):
    def redeem(self, key: str, customer: str, points: int, told: Callable[[str], None]) -> None:
        """Ask by the HTTP API's code until there is an answer; a decided one is `told`: the code, '' for a refusal."""


def terms_of(chance: random.Random) -> Terms:
    """A programme; what it says differs from seed to seed."""
    tiers = (
        Tier("BASE", "Base"),
        Tier("SILVER", "Silver", Decimal("1.1"), spend=Decimal(900), rating=FIRST_OPTION),
        Tier("GOLD", "Gold", Decimal("1.25"), 6, Decimal(2000), window="rolling", months=3),
        Tier("PLATINUM", "Platinum", Decimal("1.5"), 0, Decimal(4000), 2000, window="year", rating=FIRST_OPTION + 1),
    )
    rate = Decimal(chance.choice(("1", "0.7", "3", "1.333")))
    rules = [Rule(1, date(2025, 1, 1), rate, frozenset({"fuel"}))]
    return Terms(
        ladders=[tiers],
        rules=rules,
        spendable=chance.choice(_SPENDABLE),
        days=3,
        lifetime=chance.choice((1, 2, 3, 12)),
        period=chance.choice(_PERIODS),
        courtesy=10,
        minimum=5,
        worth=Decimal("0.01"),
        limit=500,
    )


class People(Protocol):
    """How people reach Dynamics: `DataverseClient`, or somebody who does not give up."""

    def commit(self, writes: Sequence[Write]) -> object: ...

    def request(self, method: str, path: str, body: Any) -> Any: ...

    def get(self, path: str) -> Any: ...


class Company:
    """`people` are a clerk and who approves what clerks may not decide.

    A branch has customers and invoices of its own, and the `head`'s programme.
    """

    def __init__(
        self,
        name: str,
        program: str,
        people: tuple[People, People],
        now: Callable[[], datetime],
        chance: random.Random,
        head: "Company | None" = None,
    ) -> None:
        self._name = name
        self._program = program
        self._programme = str(uuid.uuid5(_IDS, program))
        self._client, self._manager = people
        self._now = now
        self._chance = chance
        self._officer = random.Random(f"{name} officer")
        self._count = 0
        self._is_branch = head is not None
        self._alive: list[str] = []
        self._redemptions: list[Wish] = []
        self._nobodys: list[Invoice] = []
        self._unapproved: list[str] = []
        self._shelves = Shelves()
        self.book: Book = head.book.of_branch() if head else Book(terms_of(chance))

    # --- before the doors open ---

    def found(self, customers: int) -> None:
        terms = self.book.terms
        row = {
            "loy_programid": self._programme,
            "loy_code": self._program,
            "loy_name": "Chaos",
            "loy_spendableon": FIRST_OPTION + _SPENDABLE.index(terms.spendable),
            "loy_spendabledays": terms.days,
            "loy_lifetimemonths": terms.lifetime,
            "loy_expiryrounding": FIRST_OPTION + _PERIODS.index(terms.period),
            "loy_courtesydays": terms.courtesy,
            "loy_pointvalue": terms.worth,
            "loy_minimumredemption": terms.minimum,
            "loy_adjustmentlimit": terms.limit,
            "loy_writesrating": True,
            "loy_noticekinds": "redeem, void, expire, tier",
        }
        self._client.commit([Create("loy_programs", row)])
        for rank, tier in enumerate(terms.ladders[0]):
            self._client.commit([Create("loy_tiers", self._tier(rank, tier))])
        self._client.commit([Create("loy_earnrules", self._rule(rule)) for rule in terms.rules])
        self.welcome(customers)

    def welcome(self, customers: int) -> None:
        for number in range(customers):
            table = "account" if number % 3 else "contact"
            key = f"{table}:{self._new()}"
            since = self._now() - timedelta(days=self._chance.choice((0, 20, 170, 200, 400)))
            named = {"name": f"Customer {number}"} if table == "account" else {"lastname": f"Customer {number}"}
            row = {f"{table}id": key.partition(":")[2], "overriddencreatedon": since, **named}
            self._client.commit([Create(f"{table}s", row)])
            self.book.customers[key] = Customer(key, since.date())
            self._alive.append(key)

    def turn_over(self, customers: int, large: int) -> None:
        """Who has more than so many invoices leaves, with what they have; others come until there are so many customers."""
        for key in [key for key in self._alive if len(self._shelves.of(key)) > large]:
            for invoice in self._shelves.of(key):
                self._shelves.take_off(invoice)
            self._alive.remove(key)
            self.book.note(self._now(), key, "leaves")
        self.welcome(customers - len(self._alive))

    # --- a day's work ---

    def act(self, till: Till | None = None) -> None:
        """One thing that somebody does."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (26, self._issue),
            (20, self._pay),
            (8, self._amend),
            (6, self._cancel),
            (5, self._reopen),
            (3, self._delete),
            (4, self._move),
            (2, self._merge),
            (14, lambda: self._redeem(till)),
            (6, self._void),
            (6, self._adjust),
            (0 if self._is_branch else 1, self._change_rule),
            (1, self._poison),
        ]
        self._chance.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()
        if not self._is_branch and self._officer.random() < _EXPIRIES:
            self.expire()
        if not self._is_branch and self._officer.random() < _LADDERS:
            self._change_tier()
        if self._officer.random() < _RATINGS:
            self._rate()
        if self._officer.random() < _LARGE:
            self._adjust_much()
        if self._unapproved and self._officer.random() < _APPROVALS:
            self._approve()
        if self._nobodys and self._officer.random() < _REPAIRS:
            self._repair()

    def _issue(self) -> None:
        customer, at = self._somebody(), self._now()
        late = self._chance.random() < 0.15
        dated = at - timedelta(days=self._chance.randint(1, 60)) if late else at
        self._create(customer, dated.replace(microsecond=0), self._lines())

    def _create(self, customer: str | None, dated: datetime, lines: tuple[Line, ...], **more: Any) -> Invoice:
        invoice = Invoice(self._new(), dated, [])
        row = {
            "invoiceid": invoice.id,
            "name": f"Invoice {len(self.book.invoices)}",
            "overriddencreatedon": dated,
            "invoice_details": [self._line(invoice.id, number, line) for number, line in enumerate(lines)],
            **more,
        }
        self._client.commit([Create("invoices", row | (_bound("customerid", customer) if customer else {}))])
        self.book.invoices[invoice.id] = invoice
        self._version(invoice, customer, "issued", lines)
        return invoice

    def _pay(self) -> None:
        if invoice := self._invoice("issued"):
            self._set(invoice, status="paid")

    def _cancel(self) -> None:
        if invoice := self._invoice("issued", "paid"):
            self._set(invoice, status="cancelled")

    def _reopen(self) -> None:
        if invoice := self._invoice("cancelled", "paid"):
            self._set(invoice, status="issued")

    def _amend(self) -> None:
        """Another quantity, another category, or a discount; a paid invoice is reopened for it and paid again."""
        invoice = self._invoice("issued", "paid")
        if invoice is None or not invoice.now.lines:
            return
        paid = invoice.now.status == "paid"
        if paid:
            self._set(invoice, status="issued")
        place = self._chance.randrange(len(invoice.now.lines))
        line, lines = invoice.now.lines[place], list(invoice.now.lines)
        path = f"invoicedetails({self._line_id(invoice.id, place)})"
        match self._chance.choice(("quantity", "category", "discount")):
            case "quantity":
                lines[place] = replace(line, quantity=self._chance.randint(1, 9))
                self._client.commit([Update(path, {"quantity": lines[place].quantity})])
                self._version(invoice, invoice.now.customer, "issued", tuple(lines), invoice.now.discount)
            case "category":
                lines[place] = replace(line, category=self._chance.choice(_CATEGORIES))
                self._client.commit([Update(path, {"loy_productcategory": lines[place].category or None})])
                self._version(invoice, invoice.now.customer, "issued", tuple(lines), invoice.now.discount)
            case _:
                total = sum((part.quantity * part.price - part.discount for part in lines), Decimal(0))
                discount = (max(total, Decimal(0)) / self._chance.choice((3, 5, 10))).quantize(Decimal("0.01"))
                self._client.commit([Update(f"invoices({invoice.id})", {"discountamount": discount})])
                self._version(invoice, invoice.now.customer, "issued", invoice.now.lines, discount)
        if paid:
            self._set(invoice, status="paid")

    def _delete(self) -> None:
        if invoice := self._invoice("issued", "paid", "cancelled"):
            self._client.commit([Delete(f"invoices({invoice.id})")])
            self._version(invoice, invoice.now.customer, "deleted", invoice.now.lines, invoice.now.discount)

    def _move(self) -> None:
        """The invoice was meant for somebody else."""
        invoice, customer = self._invoice("issued"), self._somebody()
        if invoice and invoice.now.customer != customer:
            self._client.commit([Update(f"invoices({invoice.id})", _bound("customerid", customer))])
            was = invoice.now
            self._version(invoice, customer, was.status, was.lines, was.discount)
            self.book.note(self._now(), str(was.customer), f"invoice {invoice.id[:8]} moves to {customer}")

    def _merge(self) -> None:
        giver = self._somebody()
        others = [key for key in self._alive if key != giver and key[:4] == giver[:4]]
        if len(self._alive) <= 4 or not others:
            return
        heir = self._chance.choice(others)
        table = giver.partition(":")[0]
        party = {"@odata.type": f"Microsoft.Dynamics.CRM.{table}"}
        body = {
            "Target": party | {f"{table}id": heir.partition(":")[2]},
            "Subordinate": party | {f"{table}id": giver.partition(":")[2]},
            "PerformParentingChecks": False,
        }
        self._client.request("POST", "Merge", body)
        self.book.customers[giver].merged_into = heir
        self._alive.remove(giver)
        for invoice in self._shelves.of(giver):
            was = invoice.now
            self._version(invoice, heir, was.status, was.lines, was.discount)
        for customer in (giver, heir):
            self.book.note(self._now(), customer, f"{giver} is merged into {heir}")

    def _redeem(self, till: Till | None) -> None:
        customer, points = self._somebody(), self._chance.choice((2, 20, 50, 100, 250, 600))
        wish = Wish(self._new(), customer, points, till=till is not None and self._chance.random() < 0.4)
        self.book.wishes[wish.id] = wish
        self._redemptions.append(wish)
        self.book.note(self._now(), customer, f"redemption {wish.id[:8]} of {points} is asked for")
        if wish.till and till:
            till.redeem(wish.id, customer, points, lambda code: self.book.receipts.append((wish.id, code)))
        else:
            self._ask(wish, {"loy_points": points})

    def _void(self) -> None:
        """A clerk types a code: of a redemption of this customer, sometimes one that was voided before."""
        if not self._redemptions:
            return
        wish = self._chance.choice(self._redemptions)
        row = next(iter(self._client.get(self.redemptions(wish))), None)
        if row and row["loy_transactioncode"]:
            customer = self.book.heir(wish.customer)
            void = Wish(self._new(), customer, 0, voids=wish.id)
            self.book.wishes[void.id] = void
            self.book.note(self._now(), customer, f"void {void.id[:8]} of redemption {wish.id[:8]} is asked for")
            self._ask(void, {"loy_type": FIRST_OPTION + 1, "loy_voidscode": row["loy_transactioncode"]})

    @staticmethod
    def redemptions(wish: Wish) -> str:
        """Where the rows of a wish are: a till's has an id of its own."""
        column = f"loy_requestid eq '{wish.id}'" if wish.till else f"loy_redemptionid eq {wish.id}"
        return f"loy_redemptions?$select=loy_transactioncode&$filter={column}"

    def _ask(self, wish: Wish, columns: dict[str, Any]) -> None:
        row = {"loy_redemptionid": wish.id, "loy_requestid": wish.id, "loy_name": "Wish", **columns}
        self._client.commit([Create("loy_redemptions", row | _bound("loy_CustomerId", wish.customer))])

    def _adjust(self) -> None:
        months = self._chance.choice((None, 1, 2, 7))
        points = self._chance.choice((15, 40, 120, -10, -60))
        self._give(Adjustment(self._new(), self._somebody(), points, months))

    def _rate(self) -> None:
        """Somebody knows better than the programme: from then on nobody else changes the rating."""
        if accounts := [key for key in self._alive if key.startswith("account")]:
            key = self._officer.choice(accounts)
            self._client.commit([Update(f"accounts({key.partition(':')[2]})", {"accountratingcode": BY_HAND})])
            self.book.rated.add(key)
            self.book.note(self._now(), key, "is rated by hand")

    def _adjust_much(self) -> None:
        name = self._id(f"large adjustment {len(self.book.adjustments)}")
        points = self._officer.choice((800, 1200))
        self._give(Adjustment(name, self._officer.choice(self._alive), points, None))
        self._unapproved.append(name)

    def _approve(self) -> None:
        """What the connector has put before a second person: again, if somebody's edit made an approval void."""
        name = self._officer.choice(self._unapproved)
        row = self._client.get(f"loy_adjustments({name})?$select=loy_status")
        if row["loy_status"] == FIRST_OPTION + 1:
            self._unapproved.remove(name)
        elif row["loy_status"] == FIRST_OPTION + 3:
            self.book.approved.add(name)
            self.book.note(self._now(), self.book.adjustments[name].customer, f"adjustment {name[:8]} is approved")
            self._manager.commit([Update(f"loy_adjustments({name})", {"loy_status": FIRST_OPTION + 4})])

    def _give(self, adjustment: Adjustment) -> None:
        row = {
            "loy_adjustmentid": adjustment.id,
            "loy_name": "Adjustment",
            "loy_points": adjustment.points,
            "loy_reason": "goodwill",
            "loy_lifetimemonths": adjustment.months,
        }
        self.book.adjustments[adjustment.id] = adjustment
        self.book.note(self._now(), adjustment.customer, f"adjustment {adjustment.id[:8]} of {adjustment.points:+}")
        self._client.commit([Create("loy_adjustments", row | _bound("loy_CustomerId", adjustment.customer))])

    def _change_rule(self) -> None:
        """A new version from today, from tomorrow, or from some days ago; two of one day would contradict each other."""
        today, rules = self._now().date(), self.book.terms.rules
        rate = Decimal(self._chance.choice(("0.5", "1", "2", "2.5")))
        excluded = self._chance.choice((frozenset({"fuel"}), frozenset({"fuel", "tools"}), frozenset()))
        valid_from = today + timedelta(days=self._chance.choice((0, 1, -3)))
        apart = len(rules) // 8  # days: the more there are, the rarer they become
        if any(abs((rule.valid_from - valid_from).days) <= apart for rule in rules):
            return
        rule = Rule(len(rules) + 1, valid_from, rate, excluded)
        self._client.commit([Create("loy_earnrules", self._rule(rule))])
        rules.append(rule)
        self.book.note(
            self._now(), "", f"earn rule {rule.version} from {valid_from}: {rate}, not for {sorted(excluded)}"
        )

    def _change_tier(self) -> None:
        """Another threshold, multiplier or rating from tomorrow on, on the row itself: the past keeps what it had."""
        ladders = self.book.terms.ladders
        if self._officer.randrange(len(ladders)) > 4:  # the more there were, the rarer they become
            return
        rank = self._officer.randrange(1, len(ladders[-1]))
        tier = ladders[-1][rank]
        match self._officer.choice(("spend", "multiplier", "rating")):
            case "spend":
                spend = tier.spend + self._officer.choice((-400, 150, 300))
                edited = replace(tier, spend=max(Decimal(300) * rank, min(spend, Decimal(1600) * rank)))
            case "multiplier":
                edited = replace(tier, multiplier=Decimal(self._officer.choice(("1.05", "1.2", "1.4", "2"))))
            case _:
                edited = replace(tier, rating=self._officer.choice((None, FIRST_OPTION, FIRST_OPTION + 1)))
        row = {
            "loy_minimumspend": edited.spend,
            "loy_multiplier": edited.multiplier,
            "loy_ratingcode": edited.rating,
        }
        self._client.commit([Update(f"loy_tiers({self._id(tier.code)})", row)])
        ladders.append((*ladders[-1][:rank], edited, *ladders[-1][rank + 1 :]))
        self.book.note(
            self._now(),
            "",
            f"tier {tier.code} from tomorrow: spend {edited.spend}, times {edited.multiplier}, rating {edited.rating}",
        )

    def expire(self) -> None:
        """A mass run, beside everything else: what ended before today is cancelled."""
        run, today = self._id(f"run {len(self.book.expiries)}"), self._now().date()
        row = {"loy_bulkrunid": run, "loy_name": f"Expiry {today}", "loy_kind": FIRST_OPTION, "loy_asof": today}
        self._client.commit([Create("loy_bulkruns", row | {"loy_status": FIRST_OPTION + 1})])
        self.book.expiries.add(run)

    def _poison(self) -> None:
        """Something from which no points can follow: it must be parked, and nothing else."""
        if self._chance.random() < 0.5:
            invoice = self._create(None, self._now().replace(microsecond=0), self._lines())
        else:
            lines = (Line("FOOD", 1, Decimal("-12.50")),)
            invoice = self._create(self._somebody(), self._now().replace(microsecond=0), lines)
        if invoice.now.customer is None:
            self._nobodys.append(invoice)
        self.book.poisoned.add(invoice.id)
        self._shelves.take_off(invoice)

    def _repair(self) -> None:
        """The invoice is somebody's after all; its message in the log is resumed if it is there already."""
        invoice, alive = self._nobodys.pop(), self._alive
        customer = alive[self._officer.randrange(len(alive))]
        self._client.commit([Update(f"invoices({invoice.id})", _bound("customerid", customer))])
        self.book.poisoned.discard(invoice.id)
        self.book.repaired.add(invoice.id)
        self._version(invoice, customer, invoice.now.status, invoice.now.lines)
        self._resume({invoice.id}, f" and loy_recordid eq '{invoice.id}'")

    def tidy(self) -> None:
        """Somebody goes through what is still parked and resumes what was repaired."""
        self._resume(self.book.repaired)

    def _resume(self, records: set[str], condition: str = "") -> None:
        path = f"loy_integrationlogs?$select=loy_recordid&$filter=loy_outcome eq {FIRST_OPTION + 3}{condition}"
        for row in self._client.get(path):
            if row["loy_recordid"] in records:
                log = f"loy_integrationlogs({row['loy_integrationlogid']})"
                self._client.commit([Update(log, {"loy_resume": True})])

    # --- how it is written ---

    def _set(self, invoice: Invoice, status: str) -> None:
        state, reason = STATUS[status]
        self._client.commit([Update(f"invoices({invoice.id})", {"statecode": state, "statuscode": reason})])
        was = invoice.now
        self._version(invoice, was.customer, status, was.lines, was.discount)

    def _version(
        self,
        invoice: Invoice,
        customer: str | None,
        status: str,
        lines: tuple[Line, ...],
        discount: Decimal = Decimal(0),
    ) -> None:
        invoice.versions.append(Version(self._now(), customer, status, lines, discount))
        self._shelves.put(invoice)
        total = sum((line.quantity * line.price - line.discount for line in lines), -discount)
        if total < 0:  # fewer things than the discount was for: parked while it is so, if somebody looks then
            self.book.repaired.add(invoice.id)
        self.book.note(
            self._now(), str(customer), f"invoice {invoice.id[:8]} of {invoice.dated:%Y-%m-%d}: {status} {total}"
        )

    def _lines(self) -> tuple[Line, ...]:
        return tuple(
            Line(
                self._chance.choice(_CATEGORIES),
                self._chance.randint(1, 4),
                Decimal(self._chance.randint(99, 15000)) / 100,
                Decimal(self._chance.choice((0, 0, 50))) / 100,
            )
            for _ in range(self._chance.randint(1, 3))
        )

    def _line(self, invoice: str, number: int, line: Line) -> dict[str, Any]:
        return {
            "invoicedetailid": self._line_id(invoice, number),
            "lineitemnumber": number + 1,
            "isproductoverridden": True,
            "productdescription": "thing",
            "ispriceoverridden": True,
            "quantity": line.quantity,
            "priceperunit": line.price,
            "manualdiscountamount": line.discount,
            "loy_productcategory": line.category or None,
        }

    def _rule(self, rule: Rule) -> dict[str, Any]:
        return {
            "loy_name": f"Version {rule.version}",
            "loy_version": rule.version,
            "loy_validfrom": rule.valid_from,
            "loy_pointsperunit": rule.rate,
            "loy_excludedcategories": "\n".join(sorted(rule.excluded)) or None,
            "loy_ProgramId@odata.bind": f"/loy_programs({self._programme})",
        }

    def _tier(self, rank: int, tier: Tier) -> dict[str, Any]:
        return {
            "loy_tierid": self._id(tier.code),
            "loy_code": tier.code,
            "loy_name": tier.name,
            "loy_rank": rank,
            "loy_multiplier": tier.multiplier,
            "loy_minimumtenuremonths": tier.tenure,
            "loy_minimumspend": tier.spend,
            "loy_minimumpoints": tier.points,
            "loy_spendwindow": FIRST_OPTION + _WINDOWS.index(tier.window),
            "loy_windowmonths": tier.months,
            "loy_ratingcode": tier.rating,
            "loy_ProgramId@odata.bind": f"/loy_programs({self._programme})",
        }

    def _somebody(self) -> str:
        """A few customers come often."""
        return self._alive[int(len(self._alive) * self._chance.random() ** 2)]

    def _invoice(self, *statuses: str) -> Invoice | None:
        return self._shelves.any(self._chance, *statuses)

    def _new(self) -> str:
        self._count += 1
        return self._id(str(self._count))

    def _id(self, what: str) -> str:
        return str(uuid.uuid5(_IDS, f"{self._name} {what}"))

    def _line_id(self, invoice: str, number: int) -> str:
        return self._id(f"{invoice} line {number}")


def _bound(lookup: str, customer: str) -> dict[str, str]:
    table, _, row = customer.partition(":")
    return {f"{lookup}_{table}@odata.bind": f"/{table}s({row})"}

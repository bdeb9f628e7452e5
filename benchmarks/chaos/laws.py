"""What must hold when everything has come to rest. Reads the rows as they are and judges them by the model and the audit."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import batched
from typing import Any

from benchmarks.chaos.facts import Adjustment, Book, Tier, Wish
from benchmarks.chaos.holding import Holding
from benchmarks.chaos.model import Edition, Model, Step
from benchmarks.chaos.scenario import BY_HAND
from benchmarks.chaos.terms import net
from connector.audit import Audit
from connector.dataverse import DataverseClient
from connector.rows.programs import read_program

_CENT = Decimal("0.01")
_FIRST = 482_100_000
_DEFAULT_RATING = 1
_KINDS = ("earn", "mature", "takeback", "redeem", "void", "expire", "adjust", "tier")
_REQUESTED, _COMPLETED, _REJECTED, _VOIDED = range(_FIRST, _FIRST + 4)
_PARKED = _DONE = _AWAITING = _FIRST + 3
_AT_ONCE, _TOLD = 25, 10  # memberships in one question, customers of whom everything is told
_ENTRY = (
    "loy_sequence,loy_kind,loy_points,loy_cause,loy_idempotencykey,loy_occurredon,loy_movements,loy_explanation,"
    "loy_ruleversion,createdon,_loy_membershipid_value"
)
_REDEMPTION = (
    "loy_requestid,loy_status,loy_reasoncode,loy_reason,loy_transactioncode,loy_decidedon,loy_balanceafter,loy_points,"
    "loy_value,createdon,modifiedon"
)
_SHOWN = ("loy_pointsbalance", "loy_pointspending", "loy_tiername", "loy_suggestedrating")
_ADJUSTMENT = "loy_status,loy_decidedon,createdon,modifiedon"
type Row = dict[str, Any]


@dataclass(slots=True)
class Verdict:
    """`broken` are sentences by customer ('' for nobody's); `steps`, `model` and `messages` are for the trace."""

    broken: list[tuple[str, str]] = field(default_factory=list)
    steps: dict[str, list[Row]] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    members: dict[str, Row] = field(default_factory=dict)
    messages: dict[str, list[Row]] = field(default_factory=dict)
    entries: int = 0


class Laws:
    def __init__(self, client: DataverseClient, program: str, book: Book, now: datetime) -> None:
        self._client = client
        self._program = program
        self._book = book
        self._now = now
        self.verdict = Verdict()

    def judge(self) -> Verdict:
        """Only what concerns the customers of the book: several branches may share an environment."""
        self._read()
        wishes = self._wishes()
        asked = {row: wish for row, (wish, _) in wishes.items()}
        adjustments = [
            (self._book.adjustments[row["loy_adjustmentid"]], row)
            for row in self._all(f"loy_adjustments?$select={_ADJUSTMENT}")
            if row["loy_adjustmentid"] in self._book.adjustments
        ]
        refused: dict[str, set[date]] = defaultdict(set)
        answered: list[tuple[Wish | Adjustment, Row]] = [*wishes.values(), *adjustments]
        for wanted, row in answered:
            if row["loy_status"] == _REJECTED and row["loy_decidedon"]:
                for customer in self._line(wanted.customer):
                    refused[customer].add(_day(row["loy_decidedon"]))
        model = Model(self._book, self._steps(), asked, self._editions(), self._now.date(), refused)
        model.run()
        self.verdict.holdings = model.holdings
        self.verdict.broken += model.differences
        ladder = {tier.code: tier for tier in model.edition(self._now.date()).ladder}
        for customer in self._book.customers:
            self._membership(customer, model.holdings.get(customer, Holding()), ladder)
        self._answers(wishes, model)
        self._receipts(wishes)
        self._adjustments(adjustments, model)
        self._expiries()
        self._logs()
        self._hear()
        return self.verdict

    # --- reading ---

    def _all(self, path: str) -> Iterator[Row]:
        """Page by page: what is not kept takes no room."""
        for page in self._client.pages(path, max_page_size=2000):
            yield from page

    def _read(self) -> None:
        keys = {}
        for row in self._all("loy_memberships"):
            if row["loy_customerkey"] in self._book.customers:
                self.verdict.members[row["loy_customerkey"]] = row
                keys[row["loy_membershipid"]] = row["loy_customerkey"]
        found = defaultdict(list)
        for some in batched(keys, _AT_ONCE, strict=False):
            theirs = " or ".join(f"_loy_membershipid_value eq {member}" for member in some)
            path = f"loy_entries?$select={_ENTRY}&$filter={theirs}&$orderby=loy_sequence,loy_entryid"
            for row in self._all(path):
                found[keys[row["_loy_membershipid_value"]]].append(row)
                self.verdict.entries += 1
        self.verdict.steps = dict(found)

    def _hear(self) -> None:
        """What the connector said about customers with whom something is wrong."""
        for customer in list(dict.fromkeys(customer for customer, _ in self.verdict.broken if customer))[:_TOLD]:
            path = f"loy_integrationlogs?$filter=loy_customerkey eq '{customer}'&$orderby=loy_occurredon,createdon"
            self.verdict.messages[customer] = list(self._all(path))

    def _steps(self) -> list[Step]:
        steps = []
        for customer, rows in self.verdict.steps.items():
            for place, row in enumerate(rows, 1):
                if row["loy_sequence"] != place:
                    self._broken(customer, f"entry {place} is missing, or there are two")
                kind, explained = _KINDS[row["loy_kind"] - _FIRST], json.loads(row["loy_explanation"] or "{}")
                moved = json.loads(row["loy_movements"] or "{}").get("lots", {})
                decided = row["createdon"] if kind in ("earn", "takeback", "mature") else row["loy_occurredon"]
                spendable_on, version = explained.get("spendable_on"), row["loy_ruleversion"]
                steps.append(
                    Step(
                        customer=customer,
                        sequence=place,
                        kind=kind,
                        cause=row["loy_cause"],
                        key=row["loy_idempotencykey"],
                        points=row["loy_points"],
                        on=date.fromisoformat(str(decided)[:10]),
                        spendable_on=date.fromisoformat(spendable_on) if spendable_on else None,
                        rule=int(version) if version else None,
                        moved={date.fromisoformat(day): points for day, points in moved.items()},
                    )
                )
        return steps

    def _editions(self) -> list[Edition]:
        """Published terms count forward only, and in the end all that was edited is published."""
        found: list[Edition] = []
        path = f"loy_programversions?$filter=loy_ProgramId/loy_code eq '{self._program}'&$orderby=loy_version"
        for row in self._all(path):
            begins = date.fromisoformat(row["loy_validfrom"][:10]) if row["loy_validfrom"] else date.min
            if found and begins <= date.fromisoformat(row["createdon"][:10]):
                self._broken(
                    "", f"version {row['loy_version']} of the programme counts from {begins}, before it was published"
                )
            terms = json.loads(row["loy_terms"])
            rules = frozenset(rule["version"] for rule in terms["rules"])
            found.append(Edition(begins, rules, tuple(map(_tier, terms["tiers"]))))
            if found[-1].ladder not in self._book.terms.ladders:
                self._broken("", f"version {row['loy_version']} has tiers that nobody made: {found[-1].ladder}")
        there = (frozenset(rule.version for rule in self._book.terms.rules), self._book.terms.ladders[-1])
        if found and (found[-1].rules, found[-1].ladder) != there:
            self._broken("", f"there are rules and tiers {there}, published is {found[-1]}")
        return found

    def _wishes(self) -> dict[str, tuple[Wish, Row]]:
        """By the id of the row. Each wish must have become exactly one row, and each row must have been wished for."""
        found, seen = {}, set()
        for row in self._all(f"loy_redemptions?$select={_REDEMPTION}"):
            wish = self._book.wishes.get(row["loy_requestid"])
            if wish is None:
                continue
            if wish.id in seen:
                self._broken(wish.customer, f"redemption {wish.id} has become two rows")
            seen.add(wish.id)
            found[row["loy_redemptionid"]] = (wish, row)
        for wish in self._book.wishes.values():
            if wish.id not in seen:
                self._broken(wish.customer, f"redemption {wish.id} was answered and has no row")
        return found

    # --- judging ---

    def _membership(self, customer: str, model: Holding, ladder: dict[str, Tier]) -> None:
        row, merged = self.verdict.members.get(customer), self._book.customers[customer].merged_into
        if row is None:
            if model != Holding(tier=model.tier):
                self._broken(customer, "should have points and has no membership")
            return
        state = json.loads(row["loy_state"] or "{}")
        told = {
            "lots": {day.isoformat(): points for day, points in model.lots.items()},
            "owed": model.owed,
            "pending": model.pending,
            "spend": {month: str(money.quantize(_CENT)) for month, money in model.spend.items()},
            "earned": model.earned,
            "tier": model.tier,
        }
        has = {
            "lots": state.get("lots", {}),
            "owed": state.get("owed", 0),
            "pending": {document: points for document, (points, _) in state.get("pending", {}).items()},
            "spend": {month: str(Decimal(money).quantize(_CENT)) for month, money in state.get("spend", {}).items()},
            "earned": state.get("earned", {}),
            "tier": state.get("tier", ""),
        }
        for name in told:
            if merged and name == "tier":
                continue
            if has[name] != told[name]:
                self._broken(customer, f"{name} should be {told[name]}, is {has[name]}")
        if merged and any((model.lots, model.owed, model.pending, model.spend)):
            self._broken(customer, f"was merged into {merged} and still has something")
        table, _, row_id = customer.partition(":")
        if merged:
            return
        columns = (*_SHOWN, "accountratingcode") if table == "account" else _SHOWN
        shown, tier = self._client.get(f"{table}s({row_id})?$select={','.join(columns)}"), ladder[model.tier]
        expected = (model.balance, sum(model.pending.values()), tier.name, tier.rating)
        if tuple(shown[column] for column in _SHOWN) != expected:
            self._broken(customer, f"its {table} should show {expected}, shows {shown}")
        if table == "account":
            self._rating(customer, tier.rating, shown["accountratingcode"])

    def _rating(self, customer: str, of_tier: int | None, shown: int | None) -> None:
        """What somebody has set stays; otherwise it follows from the tier."""
        expected = (BY_HAND if customer in self._book.rated else of_tier) or _DEFAULT_RATING
        if (shown or _DEFAULT_RATING) != expected:
            self._broken(customer, f"its rating should be {expected}, is {shown}")

    def _answers(self, wishes: dict[str, tuple[Wish, Row]], model: Model) -> None:
        """Each wish has an answer, the answer fits the ledger, and a refusal was right at some moment."""
        spent: Counter[str] = Counter()
        voided: Counter[str] = Counter()
        for customer in self._book.customers:
            for row in self.verdict.steps.get(customer, []):
                kind, cause = _KINDS[row["loy_kind"] - _FIRST], row["loy_cause"].partition(":")[2]
                spent[cause] += kind == "redeem"
                voided[cause] += kind == "void"
        by_wish = {wish.id: row_id for row_id, (wish, _) in wishes.items()}
        voids: Counter[str] = Counter()
        for wish, row in wishes.values():
            if wish.voids and row["loy_status"] == _COMPLETED:
                voids[by_wish[wish.voids]] += 1
        for row_id, (wish, row) in wishes.items():
            status = row["loy_status"]
            if status in (_COMPLETED, _VOIDED):
                self._told(wish, row, by_wish[wish.voids] if wish.voids else row_id, wishes, model)
            if status == _REQUESTED:
                self._broken(wish.customer, f"redemption {row_id} was never answered")
            elif wish.voids:
                if status == _REJECTED and not (
                    row["loy_reasoncode"] == "already_voided" and voids[by_wish[wish.voids]]
                ):
                    self._broken(wish.customer, f"void {row_id} was rejected: {row['loy_reason']}")
                if spent[row_id] or voided[row_id]:
                    self._broken(wish.customer, f"void {row_id} has entries of its own")
            else:
                wanted = (int(status in (_COMPLETED, _VOIDED)), int(status == _VOIDED))
                if (spent[row_id], voided[row_id]) != wanted or voids[row_id] != wanted[1]:
                    self._broken(
                        wish.customer,
                        f"redemption {row_id} has {spent[row_id]} entries, {voided[row_id]} voids, status {status}",
                    )
                if bool(row["loy_transactioncode"]) != bool(wanted[0]):
                    self._broken(
                        wish.customer, f"redemption {row_id} has code {row['loy_transactioncode']} and status {status}"
                    )
                if status == _REJECTED:
                    self._refused(wish, row, model)
        for row_id in (spent.keys() | voided.keys()) - wishes.keys():
            if spent[row_id] or voided[row_id]:
                self._broken("", f"there are entries of redemption {row_id}, which nobody asked for")

    def _told(self, wish: Wish, row: Row, original: str, wishes: dict[str, tuple[Wish, Row]], model: Model) -> None:
        """A completed row tells of the redemption that was made, or undone: its points, their worth, and what was left."""
        points = wishes[original][0].points
        left = model.left.get(("void" if wish.voids else "redeem", original))
        expected = (points, points * self._book.terms.worth, left, wishes[original][1]["loy_transactioncode"])
        found = (row["loy_points"], row["loy_value"], row["loy_balanceafter"], row["loy_transactioncode"])
        if found != expected:
            told, true = (", ".join(map(str, answer)) for answer in (found, expected))
            self._broken(wish.customer, f"{wish.id} was answered with points, value, balance, code {told}, not {true}")

    def _receipts(self, wishes: dict[str, tuple[Wish, Row]]) -> None:
        """What tills were told is what the rows say, and each code is that of one entry."""
        rows = {wish.id: (row_id, row) for row_id, (wish, row) in wishes.items()}
        redeemed: dict[str, list[str]] = defaultdict(list)
        for entries in self.verdict.steps.values():
            for entry in entries:
                if _KINDS[entry["loy_kind"] - _FIRST] == "redeem":
                    redeemed[json.loads(entry["loy_explanation"])["code"]].append(entry["loy_cause"])
        for wish_id, code in self._book.receipts:
            row_id, row = rows.get(wish_id, ("", {}))
            paid = [f"redemption:{row_id}"] if code else []
            if row.get("loy_transactioncode") != (code or None) or redeemed[code] != paid:
                self._broken(
                    self._book.wishes[wish_id].customer,
                    f"a till was told {code or 'no'} for redemption {row_id}: it has {row.get('loy_transactioncode')},"
                    f" and the code is that of {redeemed[code]}",
                )

    def _refused(self, wish: Wish, row: Row, model: Model) -> None:
        minimum = self._book.terms.minimum
        if row["loy_reasoncode"] == "customer_merged":
            right = self._book.customers[wish.customer].merged_into is not None
        else:
            small, left = wish.points < minimum, row["loy_balanceafter"]
            right = row["loy_reasoncode"] == ("below_minimum" if small else "insufficient_points")
            right = right and (small or left < wish.points) and left in self._had(wish.customer, row, model)
        if not right:
            self._broken(
                wish.customer, f"redemption of {wish.points} was refused: {row['loy_reason']} It could not be so."
            )

    def _had(self, customer: str, row: Row, model: Model) -> set[int]:
        """What could be spent on the day of an answer, at some moment between its row's creation and its last edit."""
        found, on = set(), _day(row["loy_decidedon"])
        for who in self._line(customer):
            made = [entry["createdon"] for entry in self.verdict.steps.get(who, ())]
            for since, until, points in zip(["", *made], [*made, "9"], model.seen[who, on], strict=False):
                if since <= row["modifiedon"] and until >= row["createdon"]:
                    found.add(points)
        return found

    def _line(self, customer: str) -> list[str]:
        """The customer and those they were merged into."""
        line = [customer]
        while following := self._book.customers[line[-1]].merged_into:
            line.append(following)
        return line

    def _adjustments(self, adjustments: list[tuple[Adjustment, Row]], model: Model) -> None:
        entries: Counter[str] = Counter()
        for rows in self.verdict.steps.values():
            for row in rows:
                entries[row["loy_cause"]] += 1
        for wanted, row in adjustments:
            # A merger edits the row: whoever merged is not the second person.
            merged = self._book.customers[wanted.customer].merged_into and row["loy_status"] == _AWAITING
            if abs(wanted.points) > self._book.terms.limit and (merged or wanted.id not in self._book.approved):
                if row["loy_status"] != _AWAITING or entries[f"adjustment:{wanted.id}"]:
                    self._broken(wanted.customer, f"adjustment {wanted.id} has status {row['loy_status']} unapproved")
                continue
            done = row["loy_status"] == _COMPLETED
            if row["loy_status"] not in (_COMPLETED, _REJECTED) or entries[f"adjustment:{wanted.id}"] != int(done):
                self._broken(
                    wanted.customer,
                    f"adjustment {wanted.id} has status {row['loy_status']} and {entries[f'adjustment:{wanted.id}']} entries",
                )
            elif not done and all(points >= -wanted.points for points in self._had(wanted.customer, row, model)):
                self._broken(wanted.customer, f"adjustment {wanted.id} of {wanted.points:+} was refused")

    def _expiries(self) -> None:
        """Mass runs end, and nobody fails in them."""
        for run in sorted(self._book.expiries):
            row = self._client.get(f"loy_bulkruns({run})?$select=loy_status,loy_failed,loy_message")
            if row["loy_status"] != _DONE or row["loy_failed"]:
                self._broken(
                    "", f"run {run} has status {row['loy_status']}, {row['loy_failed']} failed: {row['loy_message']}"
                )

    def _logs(self) -> None:
        """Parked is what was poisoned, all of it, and nothing else: what is all right again was resumed."""
        parked = set()
        for row in self._all(f"loy_integrationlogs?$filter=loy_outcome eq {_PARKED}"):
            record, customer = row["loy_recordid"] or row["loy_change"], row["loy_customerkey"] or ""
            parked.add(record)
            invoice = self._book.invoices.get(record)
            poison = record in self._book.poisoned or (
                record in self._book.repaired and (invoice is None or net(invoice.now) < 0)
            )
            if not poison and (not customer or customer in self._book.customers):
                self._broken(customer, f"parked: {row['loy_message']}")
        for record in sorted(self._book.poisoned - parked):
            self._broken("", f"{record} was poisoned and is not parked")

    def _broken(self, customer: str, sentence: str) -> None:
        self.verdict.broken.append((customer, sentence))


def _day(moment: str) -> date:
    return date.fromisoformat(str(moment)[:10])


def _tier(raw: Row) -> Tier:
    """A tier as it was published."""
    return Tier(
        code=raw["code"],
        name=raw["name"],
        multiplier=Decimal(raw["multiplier"]),
        tenure=raw["minimum_tenure_months"],
        spend=Decimal(raw["minimum_spend"]),
        points=raw["minimum_points"],
        window={"rolling_months": "rolling", "calendar_year": "year"}.get(raw["window"], "lifetime"),
        months=raw["window_months"],
        rating=raw["rating_code"],
    )


def audited(client: DataverseClient, program: str, now: datetime) -> list[tuple[str, str]]:
    """What the connector's own audit says of everybody."""
    told: list[str] = []
    Audit(client, read_program(client, program), now, told=told.append).run()
    return [("", f"audit: {violation}") for violation in told]

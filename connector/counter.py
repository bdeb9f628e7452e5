"""What tills, shops and portals ask for: redeem, void, look. The rows they make take the same path as a clerk's."""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connector.dataverse import Create, DataverseClient, DuplicateKey, DuplicateRecord, Get, NotFound
from connector.dataverse.odata import bind, guid
from connector.identity import Customer, derived_id
from connector.loyalty.codes import parse_code
from connector.rows import customers, ledger, wishes
from connector.rows.choices import KIND_OF, RedemptionStatus, RedemptionType
from connector.rows.programs import Programs
from connector.rows.values import Row

RECENT = 20
LONGEST_WAIT = 30.0
_FIRST_LOOK, _LAST_LOOK = 0.05, 0.5  # seconds between looks at a row that is waiting


class Refused(Exception):
    """A request that cannot be fulfilled: HTTP status, a stable code, a sentence, and the field it is about."""

    def __init__(self, status: int, code: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class RedemptionRequest(Body):
    customer: Annotated[str, AfterValidator(lambda text: str(Customer.parse(text)))]
    points: int = Field(gt=0, le=2_147_483_647, strict=True)
    description: str = Field(default="", max_length=400)
    channel: str = Field(default="api", max_length=40)


class VoidRequest(Body):
    reason: str = Field(min_length=1, max_length=400)


class Counter:
    """`clock` and `sleep` are for waiting only."""

    def __init__(
        self,
        client: DataverseClient,
        programs: Programs,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._programs = programs
        self._clock = clock
        self._sleep = sleep

    def redeem(self, request: RedemptionRequest, key: str, wait: float) -> dict[str, Any]:
        """The redemption behind an idempotency key, made now if there is none; waits for its answer up to `wait` seconds."""
        customer = Customer.parse(request.customer)
        asked = {
            "loy_type": RedemptionType.REDEEM.value,
            "loy_points": request.points,
            "loy_description": request.description or None,
            "loy_channel": request.channel,
            **_of(customer),
        }
        return self._ask(key, customer, f"Redeem {request.points}", asked, wait, same=("loy_points",))

    def void(self, code_text: str, request: VoidRequest, key: str, wait: float) -> dict[str, Any]:
        """Undo the redemption that a transaction code stands for, at whoever its customer is by now."""
        code, original = self._by_code(code_text)
        owner = original["_loy_membershipid_value"]
        member = self._client.get(f"loy_memberships({owner})?$select=loy_customerkey")
        customer = Customer.parse(member["loy_customerkey"])
        *_, heir = self._line(customer)
        asked = {
            "loy_type": RedemptionType.VOID.value,
            "loy_points": 0,
            "loy_voidscode": code,
            "loy_description": request.reason,
            "loy_channel": "api",
            **_of(heir),
        }
        return self._ask(key, customer, f"Void {code}", asked, wait, same=("loy_voidscode",))

    def redemption(self, redemption_id: str) -> dict[str, Any]:
        """Refused (404) when there is none."""
        try:
            row = self._client.get(wishes.redemption_path(guid(redemption_id)))
        except ValueError:
            row = None
        if row is None:
            raise Refused(404, "not_found", "There is no redemption with this id.", "id")
        return _redemption(row)

    def customer(self, customer_key: str) -> dict[str, Any]:
        """Balance, tier, lots and the newest entries of a customer."""
        try:
            customer = Customer.parse(customer_key)
        except ValueError as error:
            raise Refused(400, "invalid_customer", str(error), "id") from None
        entries_path = (
            f"loy_entries?$select={ledger.ENTRY}&$filter=_loy_membershipid_value eq {customer.membership_id}"
            f"&$orderby=loy_sequence desc&$top={RECENT}"
        )
        row, member, entries = self._client.read(
            Get(customers.customer_path(customer)),
            Get(ledger.membership_path(customer)),
            Get(entries_path),
        )
        if row is None and member is None:
            raise Refused(404, "not_found", f"There is no {customer.table} with this id.", "id")
        program = self._programs.current()
        state = ledger.membership_of(customer, member).state
        tier = program.tier(state.tier)
        return {
            "id": str(customer),
            "name": (row or {}).get("name") or (row or {}).get("fullname") or "",
            "balance": state.balance,
            "pending": state.pending_points,
            "owed": state.owed,
            "value": _plain(max(0, state.balance) * program.point_value),
            "tier": {"code": tier.code, "name": tier.name},
            "member_since": state.since and state.since.isoformat(),
            "lots": [
                {"points": points, "expires_on": None if day.year == 9999 else day.isoformat()}
                for day, points in sorted(state.lots.items())
            ],
            "entries": [
                {
                    "sequence": entry["loy_sequence"],
                    "kind": KIND_OF[entry["loy_kind"]].value,
                    "points": entry["loy_points"],
                    "cause": entry["loy_cause"],
                    "occurred_on": entry["loy_occurredon"],
                }
                for entry in entries
            ],
        }

    def _ask(
        self, key: str, customer: Customer, name: str, asked: dict[str, Any], wait: float, same: tuple[str, ...]
    ) -> dict[str, Any]:
        redemption_id = derived_id("redemption", key)
        row = {
            "loy_redemptionid": redemption_id,
            "loy_requestid": key,
            "loy_name": name,
            "loy_status": RedemptionStatus.REQUESTED.value,
            **asked,
        }
        try:
            self._client.commit([Create("loy_redemptions", row)])
        except (DuplicateRecord, DuplicateKey):
            self._same_request(redemption_id, customer, {column: asked[column] for column in ("loy_type", *same)})
        except NotFound:
            raise Refused(404, "unknown_customer", f"There is no {customer}.", "customer") from None
        else:
            if wait > _FIRST_LOOK:  # a row that was only just made is not decided yet
                self._sleep(_FIRST_LOOK)
        return self._answered(redemption_id, wait)

    def _same_request(self, redemption_id: str, customer: Customer, asked: dict[str, Any]) -> None:
        found = self._client.get(wishes.redemption_path(redemption_id))
        if found is None or all(one.id != found["_loy_customerid_value"] for one in self._line(customer)):
            same = False
        else:
            # A void's points are filled in when it is decided; what was asked for stays as it was.
            same = all(found[column] == value for column, value in asked.items())
        if not same:
            raise Refused(
                422, "key_reused", "This Idempotency-Key was used for another request before.", "Idempotency-Key"
            )

    def _line(self, customer: Customer) -> Iterator[Customer]:
        """The customer, and whom they were merged into, one after the other: rows follow those who are merged."""
        seen = set[str]()
        while customer.id not in seen:
            yield customer
            seen.add(customer.id)
            row = self._client.get(f"{customer.entity_set}({customer.id})?$select=merged,_masterid_value")
            if not row or not row["merged"] or not row["_masterid_value"]:
                return
            customer = Customer(customer.table, row["_masterid_value"])

    def _answered(self, redemption_id: str, wait: float) -> dict[str, Any]:
        until = self._clock() + min(wait, LONGEST_WAIT)
        pause = _FIRST_LOOK
        while True:
            found = self.redemption(redemption_id)
            if found["status"] != "requested" or self._clock() + pause > until:
                return found
            self._sleep(pause)
            pause = min(_LAST_LOOK, pause * 1.5)

    def _by_code(self, text: str) -> tuple[str, Row]:
        try:
            code = parse_code(text)
        except ValueError as error:
            raise Refused(400, "invalid_code", str(error), "code") from None
        entry = self._client.get(f"loy_entries({ledger.code_entry_id(code)})?$select={ledger.ENTRY}")
        if entry is None:
            raise Refused(404, "unknown_code", f"No redemption has the transaction code {code}.", "code")
        return code, entry


def _of(customer: Customer) -> dict[str, str]:
    return {f"loy_CustomerId_{customer.table}@odata.bind": bind(customer.entity_set, customer.id)}


def _redemption(row: Row) -> dict[str, Any]:
    table = "account" if row.get("loy_CustomerId_account") else "contact"
    return {
        "id": row["loy_redemptionid"],
        "type": RedemptionType(row["loy_type"]).name.lower(),
        "status": RedemptionStatus(row["loy_status"]).name.lower(),
        "customer": f"{table}:{row['_loy_customerid_value']}" if row["_loy_customerid_value"] else None,
        "points": row["loy_points"],
        "code": row["loy_transactioncode"] or row["loy_voidscode"],
        "value": None if row["loy_value"] is None else _plain(row["loy_value"]),
        "balance_after": row["loy_balanceafter"],
        "reason_code": row["loy_reasoncode"],
        "reason": row["loy_reason"],
        "description": row["loy_description"],
        "requested_on": row["createdon"],
        "decided_on": row["loy_decidedon"],
    }


def _plain(amount: Decimal) -> str:
    """Digits as a person writes them: no exponent, no zeros at the end."""
    return format(amount.normalize(), "f") if amount else "0"

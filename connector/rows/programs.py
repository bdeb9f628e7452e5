"""Programme, earn rules and tiers, read together and kept for a minute."""

import threading
import time
from collections.abc import Callable

from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import text
from connector.loyalty.program import EarnRule, Program, Tier
from connector.rows import choices
from connector.rows.values import Row, Unusable, day, decimal, integer

_KEPT_SECONDS = 60.0
_PROGRAM = (
    "loy_programid,loy_code,loy_spendableon,loy_spendabledays,loy_lifetimemonths,loy_expiryrounding,loy_courtesydays,"
    "loy_pointvalue,loy_minimumredemption,loy_adjustmentlimit,loy_writesrating,loy_currencies,loy_noticekinds"
)
_RULE = "loy_version,loy_validfrom,loy_pointsperunit,loy_excludedcategories"
_TIER = (
    "loy_tierid,loy_name,loy_code,loy_rank,loy_multiplier,loy_minimumtenuremonths,loy_minimumspend,loy_minimumpoints,"
    "loy_spendwindow,loy_windowmonths,loy_ratingcode"
)


class Programs:
    """The programme this app runs. An edit is seen within a minute."""

    def __init__(self, client: DataverseClient, code: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._code = code
        self._clock = clock
        self._lock = threading.Lock()
        self._program: Program | None = None
        self._read_at = 0.0

    def current(self) -> Program:
        """Unusable when the programme, its rules or its tiers are missing."""
        with self._lock:
            if self._program is None or self._clock() - self._read_at > _KEPT_SECONDS:
                self._program = read_program(self._client, self._code)
                self._read_at = self._clock()
            return self._program


def read_program(client: DataverseClient, code: str) -> Program:
    of_program = f"$filter=loy_ProgramId/loy_code eq {text(code)}"
    programs, rules, tiers = client.read(
        Get(f"loy_programs?$select={_PROGRAM}&$filter=loy_code eq {text(code)}"),
        Get(f"loy_earnrules?$select={_RULE}&{of_program}"),
        Get(f"loy_tiers?$select={_TIER}&{of_program}"),
    )
    if not programs:
        raise _misconfigured(f"There is no programme with the code {code}.", "loy_code")
    if not rules:
        raise _misconfigured(f"Programme {code} has no earn rule.", "loy_earnrule")
    if not tiers:
        raise _misconfigured(f"Programme {code} has no tier; it needs at least one of rank 0.", "loy_tier")
    return program_of(programs[0], rules, tiers)


def program_of(row: Row, rules: list[Row], tiers: list[Row]) -> Program:
    return Program(
        id=row["loy_programid"],
        code=row["loy_code"],
        rules=tuple(sorted(map(_rule, rules), key=lambda rule: (rule.valid_from, rule.version))),
        tiers=tuple(sorted(map(_tier, tiers), key=lambda tier: (tier.rank, tier.code))),
        spendable_on=choices.SPENDABLE_ON[row["loy_spendableon"]],
        spendable_days=integer(row, "loy_spendabledays"),
        lifetime_months=integer(row, "loy_lifetimemonths"),
        rounding=choices.ROUNDING[row["loy_expiryrounding"]],
        courtesy_days=integer(row, "loy_courtesydays"),
        point_value=decimal(row, "loy_pointvalue"),
        minimum_redemption=integer(row, "loy_minimumredemption", 1),
        adjustment_limit=row.get("loy_adjustmentlimit"),
        writes_rating=bool(row["loy_writesrating"]),
        currencies=_listed(row.get("loy_currencies")),
        notice_kinds=_listed(row.get("loy_noticekinds")),
    )


def _rule(row: Row) -> EarnRule:
    valid_from = day(row, "loy_validfrom")
    assert valid_from is not None
    excluded = (row.get("loy_excludedcategories") or "").splitlines()
    return EarnRule(
        version=row["loy_version"],
        valid_from=valid_from,
        points_per_unit=decimal(row, "loy_pointsperunit"),
        excluded_categories=frozenset(name.strip().casefold() for name in excluded if name.strip()),
    )


def _tier(row: Row) -> Tier:
    return Tier(
        id=row["loy_tierid"],
        code=row["loy_code"],
        name=row["loy_name"],
        rank=row["loy_rank"],
        multiplier=decimal(row, "loy_multiplier", 1),
        minimum_tenure_months=integer(row, "loy_minimumtenuremonths"),
        minimum_spend=decimal(row, "loy_minimumspend"),
        minimum_points=integer(row, "loy_minimumpoints"),
        window=choices.WINDOW[row["loy_spendwindow"]],
        window_months=integer(row, "loy_windowmonths", 12),
        rating_code=row.get("loy_ratingcode"),
    )


def _listed(value: str | None) -> frozenset[str]:
    return frozenset(part.strip() for part in (value or "").split(",") if part.strip())


def _misconfigured(message: str, field: str) -> Unusable:
    return Unusable(message, reason="program", field=field, next_step="Complete the programme, then resume.")

"""Programme, earn rules, tiers and their published versions: read together, kept for a minute.

Earn rules, tiers and settings of accrual are terms: decisions use published versions of them (`loyalty/versions.py`), never the
rows that people edit. The first version is published when it is first needed. Other settings (value of a point, limits,
notices) count from when they are saved.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from connector.dataverse import Conflict, Create, DataverseClient, Get
from connector.dataverse.odata import bind, text
from connector.identity import derived_id
from connector.loyalty.program import Accrual, EarnRule, Program, Tier
from connector.loyalty.sentences import Sentence, say
from connector.loyalty.versions import Published, Terms, accrual_in_force, rules_in_force, tiers_in_force
from connector.rows import choices
from connector.rows.values import Row, Unusable, day, decimal, integer

_KEPT_SECONDS = 60.0
_PROGRAM = (
    "loy_programid,loy_code,loy_spendableon,loy_spendabledays,loy_lifetimemonths,loy_expiryrounding,loy_courtesydays,"
    "loy_pointvalue,loy_minimumredemption,loy_adjustmentlimit,loy_writesrating,loy_currencies,loy_noticekinds,"
    "loy_problem"
)
_RULE = "loy_name,loy_problem,loy_version,loy_validfrom,loy_pointsperunit,loy_excludedcategories"
_TIER = (
    "loy_tierid,loy_name,loy_code,loy_rank,loy_multiplier,loy_minimumtenuremonths,loy_minimumspend,loy_minimumpoints,"
    "loy_spendwindow,loy_windowmonths,loy_gracemonths,loy_softlanding,loy_ratingcode,loy_validfrom,loy_problem"
)
_VERSION = "loy_version,loy_validfrom,loy_terms"


@dataclass(frozen=True, slots=True)
class Reading:
    """What Dataverse holds of a programme: its row, the rows of its terms as people edit them, and the published versions."""

    program: Row
    rules: Sequence[Row]
    tiers: Sequence[Row]
    versions: tuple[Published, ...]

    @property
    def id(self) -> str:
        return str(self.program["loy_programid"])

    def draft(self) -> Terms:
        """The rows as they are. Unusable when one of them lacks what it needs."""
        return Terms(
            rules=tuple(sorted(map(rule_of, self.rules), key=lambda rule: rule.version)),
            tiers=tuple(sorted(map(tier_of, self.tiers), key=lambda tier: (tier.rank, tier.code))),
            accrual=accrual_of(self.program),
        )


class Programs:
    """The programme this app runs. An edit of its settings is seen within a minute."""

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
                reading = read(self._client, self._code)
                if not reading.versions:
                    publish(self._client, reading, date.min, "first version")
                    reading = read(self._client, self._code)
                self._program = program_of(reading)
                self._read_at = self._clock()
            return self._program


def read(client: DataverseClient, code: str) -> Reading:
    """Unusable when the programme, its rules or its tiers are missing."""
    of_program = f"$filter=loy_ProgramId/loy_code eq {text(code)}"
    programs, rules, tiers, versions = client.read(
        Get(f"loy_programs?$select={_PROGRAM}&$filter=loy_code eq {text(code)}"),
        Get(f"loy_earnrules?$select={_RULE}&{of_program}"),
        Get(f"loy_tiers?$select={_TIER}&{of_program}"),
        Get(f"loy_programversions?$select={_VERSION}&{of_program}&$orderby=loy_version"),
    )
    if not programs:
        raise _misconfigured(say("program.none", program=code), "loy_code")
    if not rules:
        raise _misconfigured(say("program.no_rule", program=code), "loy_earnrule")
    if not tiers:
        raise _misconfigured(say("program.no_tier", program=code), "loy_tier")
    return Reading(programs[0], rules, tiers, tuple(map(_published, versions)))


def read_program(client: DataverseClient, code: str) -> Program:
    """The programme as it decides; as its rows say when nothing was published yet."""
    return program_of(read(client, code))


def publish(client: DataverseClient, reading: Reading, begins: date, changes: str) -> Published | None:
    """Make the rows the next version of the programme; `date.min` is a version that begins before all days.

    None when somebody else was faster.
    """
    version = reading.versions[-1].version + 1 if reading.versions else 1
    published = Published(version, begins, reading.draft())
    row = {
        "loy_programversionid": derived_id("programversion", reading.id, str(version)),
        "loy_name": f"{reading.program['loy_code']} {version}",
        "loy_version": version,
        "loy_validfrom": None if begins == date.min else begins,
        "loy_terms": published.terms.to_json(),
        "loy_changes": changes,
        "loy_ProgramId@odata.bind": bind("loy_programs", reading.id),
    }
    try:
        client.commit([Create("loy_programversions", row)])
    except Conflict:
        return None
    return published


def program_of(reading: Reading) -> Program:
    row = reading.program
    versions = reading.versions or (Published(0, date.min, reading.draft()),)
    present = {tier["loy_tierid"] for tier in reading.tiers}
    history = tuple(
        (begins, tuple(tier if tier.id in present else replace(tier, id=None) for tier in tiers))
        for begins, tiers in tiers_in_force(versions)
    )
    accruals = accrual_in_force(versions)
    _, accrual = accruals[-1]
    return Program(
        id=reading.id,
        code=row["loy_code"],
        rules=rules_in_force(versions),
        tiers=history[-1][1],
        tier_history=history,
        accrual_history=accruals,
        spendable_on=accrual.spendable_on,
        spendable_days=accrual.spendable_days,
        lifetime_months=accrual.lifetime_months,
        rounding=accrual.rounding,
        currencies=accrual.currencies,
        courtesy_days=integer(row, "loy_courtesydays"),
        point_value=decimal(row, "loy_pointvalue"),
        minimum_redemption=integer(row, "loy_minimumredemption", 1),
        adjustment_limit=row.get("loy_adjustmentlimit"),
        writes_rating=bool(row["loy_writesrating"]),
        notice_kinds=_listed(row.get("loy_noticekinds")),
    )


def accrual_of(row: Row) -> Accrual:
    return Accrual(
        spendable_on=choices.SPENDABLE_ON[row["loy_spendableon"]],
        spendable_days=integer(row, "loy_spendabledays"),
        lifetime_months=integer(row, "loy_lifetimemonths"),
        rounding=choices.ROUNDING[row["loy_expiryrounding"]],
        currencies=_listed(row.get("loy_currencies")),
    )


def rule_of(row: Row) -> EarnRule:
    valid_from = day(row, "loy_validfrom")
    version = row.get("loy_version")
    if valid_from is None or version is None:
        raise _incomplete("Earn rule", row, "loy_version" if version is None else "loy_validfrom")
    excluded = (row.get("loy_excludedcategories") or "").splitlines()
    return EarnRule(
        version=version,
        valid_from=valid_from,
        points_per_unit=decimal(row, "loy_pointsperunit"),
        excluded_categories=frozenset(name.strip().casefold() for name in excluded if name.strip()),
    )


def tier_of(row: Row) -> Tier:
    for field in ("loy_code", "loy_rank"):
        if row.get(field) is None:
            raise _incomplete("Tier", row, field)
    return Tier(
        id=row["loy_tierid"],
        code=row["loy_code"],
        name=row.get("loy_name") or row["loy_code"],
        rank=row["loy_rank"],
        multiplier=decimal(row, "loy_multiplier", 1),
        minimum_tenure_months=integer(row, "loy_minimumtenuremonths"),
        minimum_spend=decimal(row, "loy_minimumspend"),
        minimum_points=integer(row, "loy_minimumpoints"),
        window=choices.WINDOW[integer(row, "loy_spendwindow", choices.LIFETIME)],
        window_months=integer(row, "loy_windowmonths", 12),
        grace_months=integer(row, "loy_gracemonths"),
        soft_landing=bool(row.get("loy_softlanding")),
        rating_code=row.get("loy_ratingcode"),
        valid_from=day(row, "loy_validfrom") or date.min,
    )


def _published(row: Row) -> Published:
    return Published(row["loy_version"], day(row, "loy_validfrom") or date.min, Terms.from_json(row["loy_terms"]))


def _listed(value: str | None) -> frozenset[str]:
    return frozenset(part.strip() for part in (value or "").split(",") if part.strip())


def _misconfigured(sentence: Sentence, field: str) -> Unusable:
    return Unusable(sentence, reason="program", field=field, next_step=say("next.program"))


def _incomplete(what: str, row: Row, field: str) -> Unusable:
    return _misconfigured(
        say("said", text=f"{what} {row.get('loy_name') or 'without a name'}: {field} is empty."), field
    )

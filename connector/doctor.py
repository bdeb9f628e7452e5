"""Is this environment as the connector needs it? Plain sentences: what is wrong, and what to do about it.

Reads only, unless it is told to probe. What is installed in Dataverse is compared with the source of the solution, so that both
cannot drift apart.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from connector.dataverse import DataverseClient, DataverseError, Forbidden
from connector.dataverse.odata import moment, text
from connector.doctor_probe import check_round_trip
from connector.doctor_queues import check_queues
from connector.findings import Finding, Level
from connector.publishing import edits, problems
from connector.rows import programs
from connector.rows.values import Unusable
from connector.settings import Settings

# A token is refused five minutes before or after its time; warn long before that.
_SKEW = timedelta(seconds=30)
_LONG_IDLE = timedelta(seconds=2)
_ROLE = "Loyalty connector"
_WAITING_JOB, _FAILED_JOB = 10, 31
_NEVER_AT_RUN_TIME = {"System Administrator", "System Customizer", "Environment Maker"}


def examine(
    client: DataverseClient, settings: Settings, root: Path, now: Callable[[], datetime], *, probe: bool = False
) -> Iterator[Finding]:
    """Every finding, good ones too, as it is made. `root` is the folder of the app, with its host.json; `probe` tries events."""
    yield from check_host(root / "host.json")
    yield from check_queues(settings)
    try:
        who = client.request("GET", "WhoAmI")
    except DataverseError as error:
        yield Finding(
            Level.WRONG,
            "Dataverse",
            f"it does not let the connector in: {error.message}",
            "Check DATAVERSE_URL, the client id and secret, and that the application user exists and is enabled.",
        )
        return
    yield from check_clock(who.headers, now)
    yield from check_installation(client, settings)
    yield from check_roles(client, str(who.json()["UserId"]))
    yield from check_program(client, settings)
    yield from check_partitions(client)
    yield from check_deliveries(client, now)
    if probe:
        yield from check_round_trip(client, settings)


def check_host(path: Path) -> Iterator[Finding]:
    """The session settings that decide whether many customers are served at once."""
    about = "host.json"
    try:
        host = json.loads(path.read_text(encoding="utf-8"))
        bus = host["extensions"]["serviceBus"]
        idle = _span(str(bus.get("sessionIdleTimeout", "00:01:00")))
        sessions = int(bus.get("maxConcurrentSessions", 8))
        calls = int(bus.get("maxConcurrentCallsPerSession", 1))
    except (OSError, ValueError, KeyError, TypeError):
        yield Finding(Level.WRONG, about, f"{path} has no readable extensions.serviceBus", "Take it from the release.")
        return
    if idle > _LONG_IDLE:
        yield Finding(
            Level.WRONG,
            about,
            f"sessionIdleTimeout is {idle.total_seconds():g} s: each slot sleeps that long after each customer",
            'Set it to "00:00:00.3000000".',
        )
    if sessions < 16:
        yield Finding(
            Level.WARNING, about, f"maxConcurrentSessions is {sessions}: few customers at once", "Set it to 64."
        )
    if calls != 1:
        yield Finding(
            Level.WRONG,
            about,
            f"maxConcurrentCallsPerSession is {calls}: the changes of one customer would overtake each other",
            "Set it to 1.",
        )
    if not bus.get("autoCompleteMessages", True):
        yield Finding(Level.WRONG, about, "autoCompleteMessages is off: every change comes back", "Set it to true.")
    if idle <= _LONG_IDLE and sessions >= 16 and calls == 1:
        yield Finding(Level.GOOD, about, f"{sessions} customers at once, {idle.total_seconds():g} s between them")


def _span(value: str) -> timedelta:
    """`00:00:00.3000000` of .NET."""
    hours, minutes, seconds = value.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def check_clock(headers: Any, now: Callable[[], datetime]) -> Iterator[Finding]:
    date = headers.get("Date") or headers.get("date")
    if not date:
        return
    skew = abs(now() - parsedate_to_datetime(date))
    if skew > _SKEW:
        yield Finding(
            Level.WARNING,
            "clock",
            f"this machine and Dataverse are {skew.total_seconds():.0f} s apart",
            "Synchronise this machine's clock: tokens will be refused at five minutes.",
        )
    else:
        yield Finding(Level.GOOD, "clock", "agrees with Dataverse's")


def check_installation(client: DataverseClient, settings: Settings) -> Iterator[Finding]:
    """Tables, keys, forms, endpoint and steps: whatever the installer would still do is a finding."""
    about = "installation"
    try:
        # Not part of the deployed app: an administrator runs the doctor from the release.
        from dataverse_schema.api import InstallError, WebApi
        from dataverse_schema.deploy import Choices, plan
        from dataverse_schema.eventing import Queue
        from dataverse_schema.interface import load_interface
        from dataverse_schema.model import load
    except ImportError:
        yield Finding(
            Level.UNKNOWN, about, "the source of the solution is not here", "Run the doctor from the release's folder."
        )
        return
    model = load()
    connection = settings.events_send_connection or settings.service_bus_connection
    queue = Queue.from_connection_string(connection, settings.events_queue) if connection else None
    if queue is None:
        yield Finding(
            Level.UNKNOWN,
            "events",
            "Dataverse's endpoint and steps are not looked at: its key for sending is not known here",
            "Set EventsSendConnection and run the doctor again.",
        )
    try:
        actions = plan(client, WebApi(client), model, Choices(interface=load_interface(model), queue=queue)).actions
    except InstallError as error:
        yield Finding(Level.WRONG, about, str(error), "Repair this, then run: python -m dataverse_schema deploy")
        return
    except Forbidden as error:
        yield Finding(
            Level.UNKNOWN,
            about,
            f"the connector's user may not read it ({error.message})",
            "Run the doctor once with the user that installs.",
        )
        return
    for action in actions[:20]:
        yield Finding(Level.WRONG, about, f"missing: {action.title}", "Run: python -m dataverse_schema deploy")
    if len(actions) > 20:
        yield Finding(Level.WRONG, about, f"and {len(actions) - 20} more", "Run: python -m dataverse_schema deploy")
    if not actions:
        yield Finding(Level.GOOD, about, "tables, keys, forms, roles, endpoint and steps are as the source says")


def check_roles(client: DataverseClient, user_id: str) -> Iterator[Finding]:
    about = "roles"
    try:
        rows = client.get(f"systemusers({user_id})/systemuserroles_association?$select=name")
    except DataverseError as error:
        yield Finding(Level.UNKNOWN, about, f"cannot be read: {error.message}", "Look at the application user's roles.")
        return
    names = {row["name"] for row in rows or []}
    if _ROLE not in names:
        yield Finding(
            Level.WARNING,
            about,
            f'the application user has no role "{_ROLE}"',
            "Give it that role: it is what the connector needs and nothing else.",
        )
    for name in sorted(names & _NEVER_AT_RUN_TIME):
        yield Finding(
            Level.WARNING,
            about,
            f'the application user has the role "{name}", far more than the connector needs',
            f'Take that role away once "{_ROLE}" is given.',
        )
    if names == {_ROLE}:
        yield Finding(Level.GOOD, about, f'the application user has "{_ROLE}" and nothing else')


def check_program(client: DataverseClient, settings: Settings) -> Iterator[Finding]:
    about, code = "programme", settings.loyalty_program
    try:
        reading = programs.read(client, code)
        found = list(problems(reading))
        edited = [] if any(problem.severe for problem in found) else list(edits(reading))
    except Unusable as error:
        yield Finding(Level.WRONG, about, str(error), str(error.next_step))
        return
    except DataverseError as error:
        yield Finding(Level.WRONG, about, f"cannot be read: {error.message}", "Install first, or give the role.")
        return
    for problem in found:
        yield Finding(
            Level.WRONG if problem.severe else Level.WARNING,
            about,
            f"{code}: {problem.says}",
            "Correct the row in the Loyalty app, under Programme.",
        )
    for edit in edited:
        yield Finding(
            Level.WARNING,
            about,
            f"{code}: an edit is not published yet: {edit}",
            "The timer PickUpWaiting publishes it within minutes; if it does not, look at its log.",
        )
    if not found and not edited:
        yield Finding(Level.GOOD, about, f"{code} has {len(reading.tiers)} tiers and {len(reading.rules)} earn rules")


def check_partitions(client: DataverseClient) -> Iterator[Finding]:
    """Mass runs walk through memberships by partition and would pass by one that has none."""
    about = "memberships"
    try:
        found = client.get("loy_memberships?$select=loy_customerkey&$filter=loy_partition eq null&$top=1")
    except DataverseError as error:
        yield Finding(Level.WARNING, about, f"cannot be read: {error.message}", "Install first, or give the role.")
        return
    if found:
        yield Finding(
            Level.WARNING,
            about,
            f"no mass run visits {found[0]['loy_customerkey']}, and perhaps others: loy_partition is empty",
            "Run: python -m connector audit --repair",
        )
    else:
        yield Finding(Level.GOOD, about, "mass runs find all of them")


def check_deliveries(client: DataverseClient, now: Callable[[], datetime]) -> Iterator[Finding]:
    """Could Dataverse post its events lately? Nobody sees these jobs unless they look."""
    since = moment((now() - timedelta(days=1)).astimezone(UTC).replace(microsecond=0))
    ours = f"startswith(name,{text('Loyalty: ')}) and createdon ge {since}"
    fields = "asyncoperations?$select=name,friendlymessage&$top=200&$filter="
    try:
        failed = client.get(f"{fields}statuscode eq {_FAILED_JOB} and {ours}")
        waiting = client.get(f"{fields}statuscode eq {_WAITING_JOB} and retrycount gt 0 and {ours}")
    except DataverseError as error:
        yield Finding(Level.UNKNOWN, "events", f"system jobs cannot be read: {error.message}", "Look at System Jobs.")
        return
    repair = (
        "Check the service endpoint's address and key: python -m dataverse_schema deploy --rotate-key writes them anew"
    )
    for jobs, what, then in (
        (failed, "could not post", "; the nightly sweep repairs what was missed."),
        (waiting, "is trying again to post", "; the events come by themselves afterwards."),
    ):
        if jobs:
            reason = jobs[0].get("friendlymessage") or "no reason given"
            count = f"{len(jobs)} events" if len(jobs) > 1 else "one event"
            yield Finding(Level.WRONG, "events", f"Dataverse {what} {count} of the last day: {reason}", repair + then)
    if not failed and not waiting:
        yield Finding(Level.GOOD, "events", "Dataverse posted all of the last day")

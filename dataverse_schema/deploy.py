"""Installation through the Web API: read, plan, do. A second run finds nothing to do; a run after a failure does the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from connector.dataverse import DataverseClient

from .api import InstallError, Json, WebApi, explained, text
from .application_user import plan_assignment
from .components import plan_components
from .environment import provisioned_languages
from .eventing import Queue, plan_events
from .importing import import_solution, older
from .interface import Interface
from .model import Model
from .render.xml import braces, el, leaf, to_text
from .rows import Program, plan_program
from .tables import Action, plan_tables, wait_for_keys
from .tracking import plan_tracking

_UNFINISHED = "The installation is not finished: run the installer again."


@dataclass(frozen=True)
class Choices:
    """What the caller wants installed beside the tables: without `interface` no forms and roles, without `queue` no
    endpoint and steps, without `program` no rows.
    """

    interface: Interface | None = None
    queue: Queue | None = None
    rotate_key: bool = False
    program: Program | None = None
    # Client id of the app registration whose application user gets the connector's role.
    application_user: str | None = None
    # The managed zip to import instead of making components one by one.
    package: bytes | None = None


def deploy(
    client: DataverseClient,
    model: Model,
    choices: Choices,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Bring the environment to the state of the source; returns the titles of what was (or would be) done.

    `say` gets one line for each. Raises `InstallError`; whatever was done until then stays, and a second run does the
    rest.
    """
    reader = WebApi(client)
    planned = explained("Reading what is installed", lambda: plan(client, reader, model, choices))
    actions = planned.actions
    if not actions:
        say("Nothing to do: the environment is as the source says.")
    writer = WebApi(client, planned.solution)
    for number, action in enumerate(actions, 1):
        say(f"[{number}/{len(actions)}] {'would: ' if dry_run else ''}{action.title}")
        if not dry_run:
            explained(action.title, partial(action.run, writer))
    return [action.title for action in actions]


@dataclass(frozen=True)
class Plan:
    """`solution`: the unmanaged solution that new components belong to; None where a managed one is installed."""

    actions: list[Action]
    solution: str | None


def plan(client: DataverseClient, api: WebApi, model: Model, choices: Choices) -> Plan:
    """All that is missing or different, in the order in which it must be done. Reads only."""
    model = model.only(provisioned_languages(api))
    solution = read_solution(api, model)
    managed = choices.package is not None or bool(solution and solution["ismanaged"])
    if choices.package and solution and not solution["ismanaged"]:
        raise InstallError(
            f"Solution {model.solution.unique_name} is installed unmanaged here; a managed one cannot take its place. "
            "Run without --managed, or uninstall first."
        )
    actions: list[Action] = []
    if managed:
        # What a managed solution brings is changed by importing its next version, not piece by piece.
        if choices.package and (solution is None or older(solution["version"], model.solution.version)):
            actions.append(_import(model, choices.package))
    else:
        actions += plan_tables(api, model)
        if choices.interface:
            actions += plan_components(api, model, choices.interface)
    actions += plan_tracking(api, model)
    if choices.queue:
        actions += plan_events(api, model, choices.queue, rotate_key=choices.rotate_key)
    if choices.application_user and choices.interface:
        actions += plan_assignment(api, choices.application_user, choices.interface.role("Loyalty connector"))
    if choices.program:
        actions += plan_program(api, client, choices.program)
    if managed:
        return Plan(actions, None)
    source = model.solution
    finish = _finish(api, model, choices.interface)
    if solution is None:
        return Plan([*_create_solution(api, model), *actions, finish], source.unique_name)
    if actions or (solution["description"], solution["version"]) != (source.description, source.version):
        actions = [*_mark(api, solution), *actions, finish]
    return Plan(actions, source.unique_name)


def _import(model: Model, package: bytes) -> Action:
    def run(api: WebApi) -> None:
        import_solution(WebApi(api.client), package)
        wait_for_keys(api, model)

    return Action(f"Import the managed solution, version {model.solution.version}, and wait for its keys", run)


def read_solution(api: WebApi, model: Model) -> Json | None:
    """Our solution as installed. Raises `InstallError` if somebody else's things carry our names."""
    publisher, name = model.solution.publisher, model.solution.unique_name
    for row in api.rows(
        "publishers?$select=uniquename,friendlyname,customizationprefix,customizationoptionvalueprefix"
        f"&$filter=customizationprefix eq {text(publisher.prefix)} or uniquename eq {text(publisher.unique_name)}"
    ):
        ours = (publisher.unique_name, publisher.prefix, publisher.option_value_prefix)
        theirs = (row["uniquename"], row["customizationprefix"], row["customizationoptionvalueprefix"])
        if theirs != ours:
            raise InstallError(
                f"Publisher {row['uniquename']} ({row['friendlyname']}) already uses the prefix {theirs[1]} and option range "
                f"{theirs[2]}; the connector needs {ours[1]} and {ours[2]} as publisher {ours[0]}. Two publishers cannot "
                "share these names in one environment."
            )
    found = api.rows(
        "solutions?$select=solutionid,version,ismanaged,description&$expand=publisherid($select=uniquename)"
        f"&$filter=uniquename eq {text(name)}"
    )
    if not found:
        return None
    owner = (found[0].get("publisherid") or {}).get("uniquename")
    if owner != publisher.unique_name:
        raise InstallError(
            f"A solution {name} of publisher {owner} exists already; it is not the connector's. Remove it first."
        )
    return found[0]


def _mark(api: WebApi, solution: Json) -> list[Action]:
    """Until the last action has published, the environment says itself that it is not finished."""
    if solution["description"] == _UNFINISHED:
        return []
    path = f"solutions({solution['solutionid']})"
    title = "Mark the solution as being changed"
    return [Action(title, lambda _: api.update(path, {"description": _UNFINISHED}))]


def _create_solution(api: WebApi, model: Model) -> list[Action]:
    solution, publisher = model.solution, model.solution.publisher
    actions = []
    publishers = api.rows(f"publishers?$select=publisherid&$filter=uniquename eq {text(publisher.unique_name)}")
    publisher_id = publishers[0]["publisherid"] if publishers else str(publisher.id)
    if not publishers:
        row = {
            "publisherid": publisher_id,
            "uniquename": publisher.unique_name,
            "friendlyname": publisher.display,
            "customizationprefix": publisher.prefix,
            "customizationoptionvalueprefix": publisher.option_value_prefix,
        }
        actions.append(Action(f"Create publisher {publisher.unique_name}", lambda _: api.create("publishers", row)))
    body = {
        "solutionid": str(solution.id),
        "uniquename": solution.unique_name,
        "friendlyname": solution.display,
        "version": solution.version,
        "description": _UNFINISHED,
        "publisherid@odata.bind": f"/publishers({publisher_id})",
    }
    actions.append(Action(f"Create solution {solution.unique_name}", lambda _: api.create("solutions", body)))
    return actions


def _finish(api: WebApi, model: Model, interface: Interface | None) -> Action:
    def run(_: WebApi) -> None:
        wait_for_keys(api, model)
        api.call("PublishXml", {"ParameterXml": publish_xml(model, interface)})
        row = read_solution(api, model)
        if row is None:
            raise InstallError(f"Solution {model.solution.unique_name} has gone while it was being installed.")
        done = {"description": model.solution.description, "version": model.solution.version}
        api.update(f"solutions({row['solutionid']})", done)

    return Action("Wait for the keys, publish, and record the version", run)


def publish_xml(model: Model, interface: Interface | None) -> str:
    """Only what is ours: somebody else's unpublished work stays unpublished."""
    tables = {table.logical_name for table in model.tables} | {option.table for option in model.solution.options}
    root = el("importexportxml", None, el("entities", None, *(leaf("entity", name) for name in sorted(tables))))
    if interface:
        root.append(el("dashboards", None, leaf("dashboard", braces(interface.dashboard.id))))
        root.append(el("sitemaps", None, leaf("sitemap", braces(interface.app.site_map_id))))
        pages = [leaf("webresource", braces(resource.id)) for resource in interface.web_resources]
        root.append(el("webresources", None, *pages))
    return to_text(root)

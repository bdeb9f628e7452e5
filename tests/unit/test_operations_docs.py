"""The pages for operators speak of what exists."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from connector.cli import COMMANDS
from connector.dataverse.transport import Counters
from connector.telemetry import Telemetry
from connector.watch import ALERT_ABOVE, ALERT_BELOW, Figures, alerts

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
THREATS = (ROOT / "docs/threat-model.md").read_text()


def test_every_command_is_described() -> None:
    described = set(re.findall(r"`python -m connector ([a-z-]+)", OPERATIONS))
    assert described == set(COMMANDS)


def test_every_figure_is_described_and_every_described_figure_exists() -> None:
    figures = Figures(1, 1, 1, Counter(no_rule=1), {"q": 1}, 1.0, 1.0, {"requests": 1, "seconds": 1})
    names = {name for name, _, _ in figures.flat()}
    with mock.patch("opentelemetry.metrics.get_meter") as get_meter:
        Telemetry(True, SimpleNamespace(counters=Counters()), SimpleNamespace(conflicts=0))  # type: ignore[arg-type]
    names |= {call.args[0] for call in get_meter.return_value.method_calls}
    assert set(re.findall(r"`(loyalty\.[a-z_.]+)`", OPERATIONS)) == names


def test_figures_alert_in_status_from_where_the_page_says() -> None:
    rows = [line.split(" | ") for line in OPERATIONS.splitlines() if line.startswith("| `loyalty.")]
    for sign, limits in (">", ALERT_ABOVE), ("<", ALERT_BELOW):
        for name, limit in limits.items():
            (when,) = [row[1] for row in rows if f"`{name}`" in row[0]]
            assert not limit or f"{sign} {limit:,.0f}" in when
            assert not alerts(name, limit)
            assert alerts(name, limit + (1 if sign == ">" else -1))


def test_every_runbook_that_an_alert_points_to_is_there() -> None:
    headings = re.findall(r"^### (.+)$", OPERATIONS, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    wanted = set(re.findall(r"\]\(#([a-z-]+)\)", OPERATIONS))
    assert wanted == anchors


def test_every_line_of_the_threat_model_names_a_test_that_exists() -> None:
    lines = [line for line in THREATS.splitlines() if re.match(r"\| \d+ \|", line)]
    tests = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    for line in lines:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", line)
        assert named, line
        for file, test in named:
            assert f"def {test}(" in tests[file], f"{file}::{test}"

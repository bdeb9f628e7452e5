"""Every sentence of the connector exists in every language of the pages, and is said by its code."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connector.loyalty.sentences import TEXTS, Sentence, parts_of, say, together

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "dataverse_schema" / "webresources" / "texts"
_PLACE = re.compile(r"\{(\w+)\}")
# Where sentences begin, and at which argument.
_SAYING = {"nothing": 1, "parked": 1, "applied": 1, "rejected": 4, "Unusable": 0, "settled": 1}


def texts(language: str) -> dict[str, Any]:
    """The texts of a file as the page has them; the file is JSON but for the unquoted names of plural forms."""
    text = (PAGES / f"said.{language}.js").read_text()
    table = re.sub(r"\b(one|other):", r'"\1":', text[text.index("{") : text.rindex("}") + 1])
    found: dict[str, Any] = json.loads(table)
    return {name.removeprefix("said."): value for name, value in found.items()}


def places(text: str | dict[str, str]) -> list[set[str]]:
    return [set(_PLACE.findall(form)) for form in (text.values() if isinstance(text, dict) else [text])]


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_code_has_its_text_with_the_same_values(language: str) -> None:
    table = texts(language)
    assert set(table) == set(TEXTS)
    for code, text in TEXTS.items():
        for found in places(table[code]):
            assert found == set(_PLACE.findall(text)), (language, code)


def _calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for path in sorted((ROOT / "connector").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield path, node, node.func.id


def test_codes_and_values_of_every_call_fit_their_text() -> None:
    used = set()
    for path, call, name in _calls():
        if name != "say" or not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        code = call.args[0].value
        where = f"{path.relative_to(ROOT)}:{call.lineno}: {code}"
        assert code in TEXTS, where
        used.add(code)
        if all(keyword.arg for keyword in call.keywords):
            assert {keyword.arg for keyword in call.keywords} == set(_PLACE.findall(TEXTS[code])), where
    assert len(used) > 50


def test_no_decision_is_told_in_bare_text() -> None:
    """A bare string could be said in one language only."""
    bare = []
    for path, call, name in _calls():
        place = _SAYING.get(name)
        if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Constant | ast.JoinedStr):
            bare.append(f"{path.relative_to(ROOT)}:{call.lineno}")
        bare += [
            f"{path.relative_to(ROOT)}:{call.lineno}"
            for keyword in call.keywords
            if keyword.arg == "next_step" and isinstance(keyword.value, ast.Constant | ast.JoinedStr)
        ]
    assert bare == []


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_reason_for_a_refusal_is_told_at_the_counter(language: str) -> None:
    page = (PAGES / f"{language}.js").read_text()
    reasons = {"no_customer", "customer_merged"}  # what may be wrong with the row itself
    for _, call, name in _calls():
        if name == "rejected" and isinstance(call.args[2], ast.Constant):
            reasons.add(call.args[2].value)
    assert len(reasons) > 6
    assert {reason for reason in reasons if f'"reason.{reason}":' not in page} == set()


def test_a_sentence_is_its_text_and_remembers_what_it_was_made_of() -> None:
    clauses = [say("invoice.earned", points=120), say("invoice.corrected", count=2)]
    sentence = together(say("invoice", invoice="INV-1", done=clauses), Sentence(), say("tier", tier="Gold"))
    assert sentence == "Invoice INV-1: 120 points earned, 2 later invoices corrected. The tier is now Gold."
    assert parts_of(sentence) == [
        [
            "invoice",
            {"invoice": "INV-1", "done": [["invoice.earned", {"points": 120}], ["invoice.corrected", {"count": 2}]]},
        ],
        ["tier", {"tier": "Gold"}],
    ]
    dated = say("rule.none", program="MAIN", day=date(2024, 12, 31), invoice="{x}")
    assert dated == "Programme MAIN has no earn rule in force on 2024-12-31, the date of invoice {x}."
    assert json.loads(json.dumps(dated.parts)) == [
        ["rule.none", {"program": "MAIN", "day": "2024-12-31", "invoice": "{x}"}]
    ]
    assert say("invoice.negative", invoice="7", net=Decimal("-0.01")).parts[0][1]["net"] == "-0.01"


def test_words_from_elsewhere_are_said_as_they_are() -> None:
    assert parts_of("Dataverse: no") == [["said", {"text": "Dataverse: no"}]]
    assert parts_of("") == []

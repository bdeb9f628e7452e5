"""The source itself, and what is said about a source with a mistake."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dataverse_schema.model import SOURCE, SourceError, component_id, load
from dataverse_schema.rows import load_program, programs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source that a test may spoil."""
    for name in ("tables", "data"):
        shutil.copytree(SOURCE / name, tmp_path / name)
    for path in SOURCE.glob("*.toml"):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} no longer contains {old!r}"
    path.write_text(text.replace(old, new, 1))


def test_entity_sets_and_navigation_properties_are_those_that_the_connector_uses() -> None:
    model = load()
    assert {table.entity_set for table in model.own_tables} == {
        "loy_programs",
        "loy_programversions",
        "loy_earnrules",
        "loy_tiers",
        "loy_memberships",
        "loy_entries",
        "loy_redemptions",
        "loy_adjustments",
        "loy_integrationlogs",
        "loy_bulkruns",
    }
    ends = {(end.table, end.navigation) for table in model.tables for end in model.relationships(table)}
    assert ("loy_membership", "loy_CustomerId_contact") in ends
    assert ("loy_entry", "loy_MembershipId") in ends


def test_a_table_comes_after_the_tables_its_lookups_point_to() -> None:
    names = [table.logical_name for table in load().tables]
    assert (
        names.index("loy_program") < names.index("loy_tier") < names.index("loy_membership") < names.index("loy_entry")
    )


def test_the_ledger_is_protected_by_its_two_keys() -> None:
    keys = {key.columns for key in load().by_name["loy_entry"].keys}
    assert keys >= {("loy_membershipid", "loy_sequence"), ("loy_idempotencykey",)}


def test_component_ids_are_the_same_in_every_release() -> None:
    # A changed id would be a second component beside the first in every company's environment.
    assert str(component_id("publisher", "loyaltyconnector")) == "c79f12a1-4c44-59b1-919a-16da2c6f3b47"
    assert str(component_id("step", "Update/invoice")) == "d947fa4d-46b0-5caf-898e-cad611f4548f"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "tables/loy_entry.toml",
            "minimum = 1\nmaximum = 2147483647",
            "minimum = 9\nmaximum = 1",
            "tables/loy_entry.toml: column loy_Sequence: minimum is above maximum",
        ),
        (
            "tables/loy_entry.toml",
            "max_length = 120\n",
            "",
            "tables/loy_entry.toml: column loy_IdempotencyKey: a String column needs max_length",
        ),
        (
            "tables/loy_entry.toml",
            "max_length = 120\n",
            "max_length = 900\n",
            "key loy_EntryIdempotencyKey: 900 characters of text, the index holds 450",
        ),
        (
            "tables/loy_entry.toml",
            'columns = ["loy_idempotencykey"]',
            'columns = ["loy_idempotency"]',
            "key loy_EntryIdempotencyKey names column loy_idempotency, which the table has not",
        ),
        (
            "tables/loy_tier.toml",
            'type = "Lookup"',
            'type = "Link"',
            "tables/loy_tier.toml: column loy_ProgramId: type",
        ),
        ("tables/loy_tier.toml", '"loy_program"', '"loy_programme"', "points to loy_programme, which has no file"),
        ("tables/loy_tier.toml", "482100001", "1", "column loy_SpendWindow: Rolling months = 1 is not in our range"),
        ("tables/loy_tier.toml", 'display = "Tier"', 'display = "Tier"\ncolour = "red"', "colour: Extra inputs"),
        (
            "tables/loy_tier.toml",
            'schema_name = "loy_Rank"',
            'schema_name = "loy_Code"',
            "column loy_code occurs twice",
        ),
        ("tables/loy_tier.toml", 'schema_name = "loy_Rank"', 'schema_name = "abc_Rank"', "does not begin with loy_"),
        ("tables/loy_tier.toml", "[[columns]]", "[[columns]", "loy_tier.toml: Expected"),
        ("tables/account.toml", "extends = true", "extends = true\nownership = 'UserOwned'", "holds columns only"),
        ("steps.toml", 'filtering = ["loy_resume", "loy_check"]', "", "step 8: filtering attributes belong to Update"),
        ("steps.toml", 'filtering = ["loy_resume", "loy_check"]', 'filtering = ["loy_rsm"]', "no column loy_rsm"),
        ("steps.toml", 'table = "loy_adjustment"', 'table = "loy_redemption"', "Create of loy_redemption occurs twice"),
        ("solution.toml", 'prefix = "loy"', 'prefix = "L"', "solution.toml: publisher: prefix"),
        ("solution.toml", "value = 482100002", "value = 482100001", "an option occurs twice"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_place(source: Path, file: str, old: str, new: str, said: str) -> None:
    change(source / file, old, new)
    with pytest.raises(SourceError, match=re.escape(said)):
        load(source)


def test_a_lookup_circle_is_refused(source: Path) -> None:
    change(
        source / "tables/loy_program.toml",
        "[[keys]]",
        '[[columns]]\nschema_name = "loy_TopId"\ndisplay = "Top"\ntype = "Lookup"\ntargets = ["loy_tier"]\n\n[[keys]]',
    )
    with pytest.raises(SourceError, match="circle"):
        load(source)


def test_a_missing_file_is_named(source: Path) -> None:
    (source / "steps.toml").unlink()
    with pytest.raises(SourceError, match=r"steps\.toml: no such file"):
        load(source)


def test_the_example_gives_gold_and_platinum_as_described() -> None:
    writes = programs(load())["MAIN"].writes
    tiers = {write.row["loy_code"]: write.row for write in writes if write.path == "loy_tiers"}
    assert (tiers["GOLD"]["loy_minimumtenuremonths"], tiers["GOLD"]["loy_minimumspend"]) == (60, 3_000_000)
    assert (tiers["PLATINUM"]["loy_minimumtenuremonths"], tiers["PLATINUM"]["loy_minimumspend"]) == (60, 5_000_000)
    ratings = {option.value for option in load().solution.options}
    assert {row["loy_ratingcode"] for row in tiers.values() if "loy_ratingcode" in row} == ratings


def test_every_tier_and_rule_belongs_to_its_programme() -> None:
    for program in programs(load()).values():
        parent, *rest = program.writes
        bound = {write.row["loy_ProgramId@odata.bind"] for write in rest}
        assert bound == {f"/loy_programs({parent.row['loy_programid']})"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'loy_expiryrounding = "Month"',
            'loy_expiryrounding = "Moon"',
            "data/main.toml: program: loy_expiryrounding: 'Moon'",
        ),
        ("loy_rank = 1", 'loy_rank = "one"', "tiers SILVER: loy_rank: 'one' is no value of a Integer column"),
        ("loy_rank = 1", "loy_rank = 5000", "loy_rank: 5000 is not between 0 and 1000"),
        ("loy_rank = 1\n", "", "tiers SILVER: loy_rank is missing"),
        ("loy_rank = 1", "loy_rang = 1", "loy_tier has no column loy_rang"),
        ('loy_code = "MAIN"\n', "", "program: loy_code is missing"),
        ("[[earn_rules]]", "[[rules]]", "unknown part rules"),
        ("loy_writesrating = true", "loy_writesrating = 1", "loy_writesrating: 1 is no value of a Boolean column"),
    ],
)
def test_a_mistake_in_a_programme_is_named(source: Path, old: str, new: str, said: str) -> None:
    change(source / "data/main.toml", old, new)
    with pytest.raises(SourceError, match=re.escape(said)):
        load_program(load(source), source / "data/main.toml")

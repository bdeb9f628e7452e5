"""Roles stay as narrow as they are meant; mistakes in views, forms and the like are named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dataverse_schema.components import holds, with_tab, without_tab
from dataverse_schema.interface import load_interface
from dataverse_schema.model import SOURCE, SourceError, load
from dataverse_schema.render.xml import parse

# Table -> verbs and their level by the first letter: c create, r read, w write, d delete, a append, t append to.
# A right that is not here is a right that somebody added without saying why.
RIGHTS = {
    "Loyalty clerk": {
        "Account": "rG tG",
        "Contact": "rG tG",
        "loy_Membership": "rG",
        "loy_Entry": "rG",
        "loy_Redemption": "cB rG aB",
        "loy_Adjustment": "cB rL aB",
        "loy_Program": "rG",
        "loy_Tier": "rG",
        "loy_ProgramVersion": "rG",
        "WebResource": "rG",
        "AppModule": "rG",
        "EnvironmentVariableDefinition": "rG",
    },
    "Loyalty admin": {
        "Account": "rG tG",
        "Contact": "rG tG",
        "loy_Program": "cG rG wG tG",
        "loy_Tier": "cG rG wG dG aG",
        "loy_EarnRule": "cG rG wG aG",
        "loy_ProgramVersion": "rG",
        "loy_Membership": "rG wG",
        "loy_Entry": "rG",
        "loy_Redemption": "cB rG aB",
        "loy_Adjustment": "cB rG wG aB",
        "loy_IntegrationLog": "rG wG dG",
        "loy_BulkRun": "cG rG wG aG",
        "WebResource": "rG",
        "AppModule": "rG",
        "EnvironmentVariableDefinition": "rG wG",
        "Bulk": "dG",
    },
    "Loyalty connector": {
        "Account": "rG wG tG",
        "Contact": "rG wG tG",
        "Invoice": "rG",
        "loy_Program": "rG wG tG",
        "loy_Tier": "rG wG tG",
        "loy_EarnRule": "rG wG",
        "loy_ProgramVersion": "cG rG aG",
        "loy_Membership": "cG rG wG aG tG",
        "loy_Entry": "cG rG wG aG",
        "loy_Redemption": "cG rG wG aG",
        "loy_Adjustment": "cG rG wG aG",
        "loy_IntegrationLog": "cG rG wG",
        "loy_BulkRun": "cG rG wG aG tG",
        "Query": "rG",
        "UserQuery": "rB",
        "TransactionCurrency": "rG",
        "Organization": "rG",
        "User": "rG",
        "BusinessUnit": "rG",
    },
}
VERBS = {"c": "Create", "r": "Read", "w": "Write", "d": "Delete", "a": "Append", "t": "AppendTo"}
LEVELS = {"B": "Basic", "L": "Local", "D": "Deep", "G": "Global"}


@pytest.mark.parametrize("name", RIGHTS)
def test_a_role_has_exactly_the_rights_it_is_meant_to_have(name: str) -> None:
    model = load()
    interface = load_interface(model)
    meant = {
        ("prvBulkDelete" if table == "Bulk" else f"prv{VERBS[right[0]]}{table}"): LEVELS[right[1]]
        for table, rights in RIGHTS[name].items()
        for right in rights.split()
    }
    assert interface.privileges(model, interface.role(name)) == meant


def test_there_is_no_other_role() -> None:
    assert {role.name for role in load_interface(load()).roles} == set(RIGHTS)


def test_only_the_connector_completes_redemptions_and_writes_the_ledger() -> None:
    model = load()
    interface = load_interface(model)
    for role in interface.roles:
        rights = interface.privileges(model, role)
        for right in ("prvWriteloy_Redemption", "prvCreateloy_Entry", "prvWriteloy_Entry", "prvCreateloy_Membership"):
            assert (right in rights) == (role.name == "Loyalty connector"), f"{role.name}: {right}"
        assert not {
            right for right in rights if re.match(r"prv(Delete|Assign|Share)loy_(Entry|Membership|Redemption)", right)
        }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "views/loy_entry.toml",
            '["loy_kind", 100]',
            '["loy_kindd", 100]',
            "view Ledger entries: loy_entry has no column loy_kindd",
        ),
        (
            "views/loy_entry.toml",
            'order = "-loy_occurredon"',
            'order = "-loy_spend"',
            "ordered by loy_spend, which it does not show",
        ),
        ("views/loy_entry.toml", 'operator="this-month" />', 'operator="this-month">', "filter is not XML"),
        (
            "views/loy_entry.toml",
            'attribute="loy_occurredon"',
            'attribute="loy_when"',
            "loy_entry has no column loy_when",
        ),
        ("views/loy_entry.toml", "default = true\n", "", "views/loy_entry.toml: the table needs a default view"),
        ("forms/loy_tier.toml", '"loy_rank"', '"loy_rnk"', "forms/loy_tier.toml: main: loy_tier has no column loy_rnk"),
        ("forms/loy_tier.toml", "[main]", "[tab]", "forms/loy_tier.toml: "),
        (
            "forms/loy_program.toml",
            '"loy_programid", view = "Tiers"',
            '"loy_rank", view = "Tiers"',
            "does not point to loy_program",
        ),
        ("forms/account.toml", 'view = "Redemptions"', 'view = "All"', "loy_redemption has no view All"),
        ("charts/charts.toml", 'chart = "Members by tier"', 'chart = "Tiers"', "loy_membership has no chart Tiers"),
        (
            "charts/charts.toml",
            'group = "loy_kind"',
            'group = "loy_sort"',
            "Points by kind: loy_entry has no column loy_sort",
        ),
        (
            "roles/clerk.toml",
            "loy_program = ",
            "loy_programme = ",
            "roles: Loyalty clerk: there is no table loy_programme",
        ),
        (
            "roles/clerk.toml",
            'loy_program = { read = "Global" }',
            'loy_program = { read = "Basic" }',
            "can only be Global",
        ),
        (
            "roles/clerk.toml",
            'loy_tier = { read = "Global" }',
            'loy_tier = { see = "Global" }',
            "see is not one of create, read",
        ),
        (
            "roles/clerk.toml",
            'loy_tier = { read = "Global" }',
            'loy_tier = { read = "All" }',
            "roles/clerk.toml: tables",
        ),
        ("app.toml", '"Loyalty clerk"', '"Clerk"', "app.toml: there is no role Clerk"),
        ("app.toml", '"loy_entry"', '"loy_entri"', "app.toml: there is no table loy_entri"),
        ("command.toml", "loyalty.svg", "gift.svg", "command.toml: there is no web resource loy_/images/gift.svg"),
        ("variables.toml", 'type = "Number"', 'type = "Secret"', "variables.toml: variables 2: type"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_place(source: Path, file: str, old: str, new: str, said: str) -> None:
    path = source / file
    text = path.read_text()
    assert old in text, f"{file} no longer contains {old!r}"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SourceError, match=re.escape(said)):
        load_interface(load(source), source)


def test_a_file_that_dynamics_cannot_hold_is_refused(source: Path) -> None:
    (source / "webresources/page.ts").write_text("")
    with pytest.raises(SourceError, match="no web resource of this type"):
        load_interface(load(source), source)


COMPANY_FORM = '<form><tabs><tab name="SUMMARY_TAB" id="{1}"><labels /></tab></tabs><header id="{2}" /></form>'


def test_the_tab_is_added_once_and_the_company_s_form_stays_as_it_was() -> None:
    tab = parse(
        '<tab name="loy_tab" id="{AB}"><labels><label description="Loyalty" languagecode="1033" /></labels></tab>'
    )
    once = with_tab(COMPANY_FORM, tab)
    assert once is not None
    assert [each.get("name") for each in parse(once).findall("tabs/tab")] == ["SUMMARY_TAB", "loy_tab"]
    assert with_tab(once, tab) is None
    removed = without_tab(once, "loy_tab")
    assert removed is not None
    assert holds(parse(COMPANY_FORM), parse(removed))
    assert holds(parse(removed), parse(COMPANY_FORM))


def test_what_dynamics_adds_to_a_form_is_no_difference() -> None:
    ours = parse('<tab id="{ab}" name="t"><labels><label description="x" /></labels><columns /></tab>')
    theirs = parse(
        '<tab id="AB" name="t" labelid="9"><labels><label description="x" languagecode="1033"/></labels><events/><columns/></tab>'
    )
    assert holds(theirs, ours)
    assert not holds(ours, theirs)


def test_an_outdated_tab_is_replaced_in_its_place() -> None:
    old = with_tab(COMPANY_FORM, parse('<tab name="loy_tab" id="{ab}" showlabel="false" />'))
    assert old is not None
    new = with_tab(old, parse('<tab name="loy_tab" id="{ab}" showlabel="true" />'))
    assert new is not None
    assert [each.get("showlabel") for each in parse(new).findall("tabs/tab[@name='loy_tab']")] == ["true"]

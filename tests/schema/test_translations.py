"""German: every label that we bring has its translation, and the environment shows it; a language that it lacks is left out."""

from collections.abc import Iterator

import pytest

from connector.dataverse import DataverseClient, DataverseError
from dataverse_schema.api import WebApi
from dataverse_schema.components import plan_components
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.interface import Interface, load_interface
from dataverse_schema.metadata import label
from dataverse_schema.model import Model, load
from tests.office import Office

GERMAN = 1031


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


@pytest.fixture(scope="module")
def interface(model: Model) -> Interface:
    return load_interface(model)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataverseClient]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office.client
    office.close()


def shown(model: Model, interface: Interface) -> set[str]:
    """What people read of us on screens of Dynamics."""
    found = {interface.command.label, interface.command.tooltip, interface.dashboard.name, interface.app.name}
    for table in model.tables:
        found |= {table.display, table.plural} if not table.extends else set()
        found |= {table.primary_name.display} if table.primary_name else set()
        found |= {column.display for column in table.columns}
        found |= {words for column in table.columns for _, words in column.options}
    for form in interface.forms:
        found |= {form.label, *(section.label for section in form.sections)}
    found |= {view.name for view in interface.views} | {chart.name for chart in interface.charts}
    found |= {tile.label for tile in interface.dashboard.tiles} | {option.label for option in model.solution.options}
    for area in interface.app.areas:
        found |= {area.name, *(group.name for group in area.groups)}
        found |= {page.title for group in area.groups for page in group.pages}
    return found | {"Yes", "No"}


def test_every_label_has_a_german_word_and_no_word_is_left_over(model: Model, interface: Interface) -> None:
    words = model.translations[GERMAN]
    labels = shown(model, interface)
    assert labels - words.keys() == set(), "they want a line in dataverse_schema/translations/1031.toml"
    assert words.keys() - labels == set(), "nothing shows them any more"
    assert all(word.strip() == word != "" for word in words.values())


def test_a_language_that_the_environment_lacks_is_left_out(model: Model) -> None:
    german, english = model.only([1033, GERMAN]), model.only([1033])
    codes = [
        [each["LanguageCode"] for each in label("Tier", one.languages)["LocalizedLabels"]] for one in (german, english)
    ]
    assert codes == [[1033, GERMAN], [1033]]
    assert model.languages.spoken == (1033, GERMAN), "the package carries all"


def test_rows_are_translated_once(client: DataverseClient, model: Model, interface: Interface) -> None:
    def translations() -> list[str]:
        return [action.title for action in plan_components(api, model, interface) if action.title.startswith("Tran")]

    api = WebApi(client)
    assert any("Punkte einlösen" in title for title in translations())
    deploy(client, model, Choices(interface=interface), say=lambda line: None)
    assert translations() == []
    command = interface.command.action_id("account")
    moniker = {"@odata.type": "Microsoft.Dynamics.CRM.appaction", "appactionid": str(command)}
    body = {"EntityMoniker": moniker, "AttributeName": "buttonlabeltext"}
    api.call("SetLocLabels", body | {"Labels": [{"Label": "Anders", "LanguageCode": GERMAN}]})
    (again,) = translations()
    assert again == "Translate appaction Customer Redemption on account (Punkte einlösen)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AttributeName": "uniquename"}, "no localized labels"),
        ({"Labels": [{"Label": "Échanger", "LanguageCode": 1036}]}, "1036 is not a valid language"),
        ({"Labels": "Einlösen"}, "Labels"),
        ({"EntityMoniker": {"@odata.type": "Microsoft.Dynamics.CRM.appaction"}}, "EntityMoniker"),
    ],
)
def test_the_local_dataverse_refuses_wrong_labels(
    client: DataverseClient, change: dict[str, object], said: str
) -> None:
    moniker = {
        "@odata.type": "Microsoft.Dynamics.CRM.appaction",
        "appactionid": "0" * 8 + "-0000-4000-8000-" + "0" * 12,
    }
    body = {"EntityMoniker": moniker, "AttributeName": "buttonlabeltext", "Labels": []}
    with pytest.raises(DataverseError, match=said):
        client.request("POST", "SetLocLabels", body | change)

"""`local.settings.example.json` names every setting with a word on each, and what it proposes is accepted."""

from __future__ import annotations

import json
from pathlib import Path

from connector.settings import Settings, read_settings

EXAMPLE = json.loads((Path(__file__).parents[2] / "local.settings.example.json").read_text())
# What the Functions host itself reads, and what the platform sets where there is a managed identity.
OF_THE_HOST = {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage", "PYTHON_THREADPOOL_THREAD_COUNT"}
OF_THE_PLATFORM = {"IDENTITY_ENDPOINT", "IDENTITY_HEADER"}


def test_every_setting_is_there_and_explained() -> None:
    known = {str(field.alias) for field in Settings.model_fields.values()}
    assert set(EXAMPLE["Values"]) == (known - OF_THE_PLATFORM) | OF_THE_HOST
    assert set(EXAMPLE["About"]) == set(EXAMPLE["Values"])
    assert all(EXAMPLE["About"].values())


def test_what_it_proposes_is_accepted_and_is_the_default_where_there_is_one() -> None:
    read_settings(EXAMPLE["Values"])
    for field in Settings.model_fields.values():
        proposed = EXAMPLE["Values"].get(str(field.alias))
        if proposed and field.default and not field.is_required():
            assert proposed == str(field.default), field.alias

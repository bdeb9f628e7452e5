"""All configuration, from the environment. An error names the setting and never shows its value."""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError("no such file")
    return path


class SettingsError(Exception):
    """One line that names every setting that is missing or malformed."""


class Settings(BaseModel):
    """What `local.settings.example.json` explains. Secrets are kept out of `repr`."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="ignore", regex_engine="python-re")

    dataverse_url: str = Field(
        alias="DATAVERSE_URL", pattern=r"^https://[^/\s]+/?$", description="an https address without a path"
    )
    dataverse_tenant_id: str = Field(
        alias="DATAVERSE_TENANT_ID", pattern=r"^[0-9A-Za-z.-]+$", description="a tenant's id or domain"
    )
    dataverse_client_id: str = Field(
        alias="DATAVERSE_CLIENT_ID",
        pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
        description="an application (client) id: a GUID",
    )
    dataverse_client_secret: str = Field(alias="DATAVERSE_CLIENT_SECRET", min_length=1, repr=False)
    dataverse_authority: str = Field(
        alias="DATAVERSE_AUTHORITY",
        default="https://login.microsoftonline.com",
        pattern=r"^https://\S+$",
        description="an https address",
    )
    dataverse_ca_file: Annotated[str, AfterValidator(_existing)] | None = Field(
        alias="DATAVERSE_CA_FILE", default=None, description="a file that exists"
    )
    dataverse_slots: int = Field(alias="DATAVERSE_SLOTS", default=2, ge=1, le=52)
    service_bus_connection: str = Field(
        alias="ServiceBusConnection",
        repr=False,
        pattern=r"(?i)^Endpoint=sb://[^;]+;(?=.*SharedAccessKeyName=[^;]+)(?=.*SharedAccessKey=[^;]+)",
        description="a connection string with Endpoint, SharedAccessKeyName and SharedAccessKey",
    )
    events_queue: str = Field(alias="EVENTS_QUEUE", default="dataverse-events", min_length=1)
    changes_queue: str = Field(alias="CHANGES_QUEUE", default="loyalty-changes", min_length=1)
    notices_queue: str = Field(alias="NOTICES_QUEUE", default="loyalty-notices", min_length=1)
    log_format: Literal["text", "json"] = Field(alias="LOG_FORMAT", default="text")
    telemetry: Literal["none", "opentelemetry"] = Field(alias="TELEMETRY", default="none")
    loyalty_program: str = Field(
        alias="LOYALTY_PROGRAM", default="MAIN", pattern=r"^[A-Z0-9]{1,20}$", description="capital letters and digits"
    )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, wherever it turns up."""
        keys = re.findall(r"(?i)SharedAccessKey=([^;]+)", self.service_bus_connection)
        return (self.dataverse_client_secret, *keys)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from a mapping; empty values count as missing. SettingsError when something is wrong."""
    try:
        return Settings.model_validate({name: value for name, value in environment.items() if value})
    except ValidationError as error:
        faults = [_sentence(fault) for fault in error.errors(include_input=False, include_url=False)]
        raise SettingsError(f"settings: {'; '.join(faults)}") from None


def _sentence(fault: ErrorDetails) -> str:
    name = str(fault["loc"][0])
    if fault["type"] == "missing":
        return f"{name} is missing"
    field = next(field for field in Settings.model_fields.values() if field.alias == name)
    return f"{name}: {f'{field.description} is expected' if field.description else fault['msg']}"


@cache
def settings() -> Settings:
    """The settings of this process."""
    return read_settings(os.environ)

"""All configuration, from the environment. An error names the setting and never shows its value."""

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class SettingsError(Exception):
    """One line that names every setting that is missing or malformed."""


class Settings(BaseModel):
    """What `local.settings.example.json` explains. Secrets are kept out of `repr`."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="ignore")

    dataverse_url: str = Field(alias="DATAVERSE_URL", pattern=r"^https://[^/\s]+/?$")
    dataverse_tenant_id: str = Field(alias="DATAVERSE_TENANT_ID", pattern=r"^[0-9A-Za-z.-]+$")
    dataverse_client_id: str = Field(alias="DATAVERSE_CLIENT_ID", pattern=r"^[0-9A-Fa-f-]{36}$")
    dataverse_client_secret: str = Field(alias="DATAVERSE_CLIENT_SECRET", min_length=1, repr=False)
    dataverse_authority: str = Field(
        alias="DATAVERSE_AUTHORITY", default="https://login.microsoftonline.com", pattern=r"^https://\S+$"
    )
    dataverse_ca_file: str | None = Field(alias="DATAVERSE_CA_FILE", default=None)
    dataverse_slots: int = Field(alias="DATAVERSE_SLOTS", default=2, ge=1, le=52)
    service_bus_connection: str = Field(
        alias="ServiceBusConnection", repr=False, pattern=r"(?i)^Endpoint=sb://[^;]+;.*SharedAccessKey"
    )
    events_queue: str = Field(alias="EVENTS_QUEUE", default="dataverse-events", min_length=1)
    changes_queue: str = Field(alias="CHANGES_QUEUE", default="loyalty-changes", min_length=1)
    notices_queue: str = Field(alias="NOTICES_QUEUE", default="loyalty-notices", min_length=1)
    log_format: Literal["text", "json"] = Field(alias="LOG_FORMAT", default="text")
    telemetry: Literal["none", "opentelemetry"] = Field(alias="TELEMETRY", default="none")
    loyalty_program: str = Field(alias="LOYALTY_PROGRAM", default="MAIN", pattern=r"^[A-Z0-9]{1,20}$")

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
        faults = []
        for fault in error.errors(include_input=False, include_url=False):
            name = ".".join(str(part) for part in fault["loc"])
            faults.append(f"{name} is missing" if fault["type"] == "missing" else f"{name}: {fault['msg']}")
        raise SettingsError(f"settings: {'; '.join(faults)}") from None


@cache
def settings() -> Settings:
    """The settings of this process."""
    return read_settings(os.environ)

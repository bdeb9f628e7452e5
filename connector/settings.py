"""All configuration, from the environment. An error names the setting and never shows its value."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError("no such file")
    return path


def _certificate(value: str) -> str:
    """PEM text, whether it was given itself, with its line ends written as \\n, or as the path of a file."""
    text = value.replace("\\n", "\n") if "-----BEGIN" in value else Path(_existing(value)).read_text(encoding="ascii")
    if "PRIVATE KEY-----" not in text or "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError("no certificate with its private key")
    return text


_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_CONNECTION = r"(?i)^(Endpoint=sb://[^;]+;(?=.*SharedAccessKeyName=[^;]+)(?=.*SharedAccessKey=[^;]+).*)?$"
_CONNECTION_PARTS = "a connection string with Endpoint, SharedAccessKeyName and SharedAccessKey"


class SettingsError(Exception):
    """One line that names every setting that is missing or malformed."""


class Settings(BaseModel):
    """What `local.settings.example.json` explains. Secrets are kept out of `repr`."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="ignore", regex_engine="python-re")

    dataverse_url: str = Field(
        alias="DATAVERSE_URL", pattern=r"^https://[^/\s]+/?$", description="an https address without a path"
    )
    dataverse_tenant_id: str = Field(
        alias="DATAVERSE_TENANT_ID", default="", pattern=r"^[0-9A-Za-z.-]*$", description="a tenant's id or domain"
    )
    dataverse_client_id: str = Field(
        alias="DATAVERSE_CLIENT_ID",
        default="",
        pattern=rf"^({_GUID})?$",
        description="an application (client) id: a GUID",
    )
    dataverse_client_secret: str = Field(alias="DATAVERSE_CLIENT_SECRET", default="", repr=False)
    dataverse_client_certificate: Annotated[str, AfterValidator(_certificate)] = Field(
        alias="DATAVERSE_CLIENT_CERTIFICATE",
        default="",
        repr=False,
        description="a certificate with its private key, in PEM form or as a PEM file that exists,",
    )
    identity_endpoint: str = Field(alias="IDENTITY_ENDPOINT", default="")
    identity_header: str = Field(alias="IDENTITY_HEADER", default="", repr=False)
    dataverse_authority: str = Field(
        alias="DATAVERSE_AUTHORITY",
        default="https://login.microsoftonline.com",
        pattern=r"^https://\S+$",
        description="an https address",
    )
    dataverse_ca_file: Annotated[str, AfterValidator(_existing)] | None = Field(
        alias="DATAVERSE_CA_FILE", default=None, description="a file that exists"
    )
    dataverse_helpers: str = Field(
        alias="DATAVERSE_HELPERS",
        default="",
        repr=False,
        pattern=rf"^({_GUID}=[^;\s]+(;{_GUID}=[^;\s]+)*)?$",
        description="pairs of client id and secret, <id>=<secret>;<id>=<secret>,",
    )
    dataverse_slots: int = Field(alias="DATAVERSE_SLOTS", default=8, ge=1, le=52)
    service_bus_connection: str = Field(
        alias="ServiceBusConnection", default="", repr=False, pattern=_CONNECTION, description=_CONNECTION_PARTS
    )
    service_bus_namespace: str = Field(
        alias="ServiceBusConnection__fullyQualifiedNamespace",
        default="",
        pattern=r"^([0-9A-Za-z.-]+(:\d{1,5})?)?$",
        description="a host name such as contoso.servicebus.windows.net",
    )
    service_bus_client_id: str = Field(
        alias="ServiceBusConnection__clientId", default="", pattern=rf"^({_GUID})?$", description="a client id: a GUID"
    )
    service_bus_management: str = Field(
        alias="SERVICE_BUS_MANAGEMENT",
        default="",
        pattern=r"^(https?://[^/\s@]+/?)?$",
        description="an address without a path, such as http://localhost:5300",
    )
    events_send_connection: str = Field(
        alias="EventsSendConnection", default="", repr=False, pattern=_CONNECTION, description=_CONNECTION_PARTS
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
    def helpers(self) -> tuple["Settings", ...]:
        """These settings for each of the application users who help with mass jobs."""
        pairs = (pair.partition("=") for pair in self.dataverse_helpers.split(";") if pair)
        changed = {"dataverse_client_certificate": "", "dataverse_helpers": ""}
        return tuple(
            self.model_copy(update=changed | {"dataverse_client_id": client_id, "dataverse_client_secret": secret})
            for client_id, _, secret in pairs
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown, wherever it turns up."""
        keys = re.findall(
            r"(?i)SharedAccessKey=([^;]+)", f"{self.service_bus_connection};{self.events_send_connection}"
        )
        # A log line holds a PEM key line by line at most.
        lines = (line for line in self.dataverse_client_certificate.splitlines() if len(line) > 40)
        helpers = (pair.partition("=")[2] for pair in self.dataverse_helpers.split(";"))
        return tuple(filter(None, (self.dataverse_client_secret, self.identity_header, *keys, *lines, *helpers)))


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from a mapping; empty values count as missing. SettingsError when something is wrong."""
    given = {name: value for name, value in environment.items() if value}
    faults = list(_unresolved(given))
    if not faults:
        try:
            found = Settings.model_validate(given)
        except ValidationError as error:
            faults = [_sentence(fault) for fault in error.errors(include_input=False, include_url=False)]
        else:
            faults = list(_contradictions(found))
    if faults:
        raise SettingsError(f"settings: {'; '.join(faults)}")
    return found


def _unresolved(given: Mapping[str, str]) -> Iterator[str]:
    """Key Vault references that the platform hands over as they were written: it could not read the vault."""
    for name in (str(field.alias) for field in Settings.model_fields.values()):
        if given.get(name, "").startswith("@Microsoft.KeyVault("):
            yield (
                f"{name}: its Key Vault reference is not resolved;"
                " give the app's identity the role Key Vault Secrets User, and look at the setting's status in the portal"
            )


def _contradictions(found: Settings) -> Iterator[str]:
    """Settings that are right one by one and wrong together."""
    secret, certificate = bool(found.dataverse_client_secret), bool(found.dataverse_client_certificate)
    if secret and certificate:
        yield "DATAVERSE_CLIENT_SECRET and DATAVERSE_CLIENT_CERTIFICATE are both there: one is enough"
    if secret or certificate:
        if not found.dataverse_tenant_id:
            yield "DATAVERSE_TENANT_ID is missing"
        if not found.dataverse_client_id:
            yield "DATAVERSE_CLIENT_ID is missing"
    elif not found.identity_endpoint:
        yield (
            "DATAVERSE_CLIENT_SECRET is missing, and so is DATAVERSE_CLIENT_CERTIFICATE;"
            " without them the app needs a managed identity, and has none here"
        )
    if found.service_bus_connection and found.service_bus_namespace:
        yield "ServiceBusConnection and ServiceBusConnection__fullyQualifiedNamespace are both there: one is enough"
    elif not (found.service_bus_connection or found.service_bus_namespace):
        yield "ServiceBusConnection is missing, and so is ServiceBusConnection__fullyQualifiedNamespace"
    elif found.service_bus_namespace and not found.identity_endpoint:
        yield "ServiceBusConnection__fullyQualifiedNamespace: needs a managed identity, and there is none here"


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

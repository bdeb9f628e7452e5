"""How triggers reach the local Service Bus: by a connection string, or with a managed identity; and the tokens for it."""

import base64
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import requests

TOKEN_LIFETIME = 3600  # seconds


@dataclass(frozen=True)
class ConnectionString:
    """A parsed Service Bus connection string. ValueError names the part that is missing or wrong."""

    host: str
    port: int
    key_name: str
    key: str

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"

    token_type: ClassVar = "servicebus.windows.net:sastoken"

    @classmethod
    def parse(cls, text: str) -> Self:
        parts = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
        found = {name.strip().lower(): value.strip() for name, value in parts.items()}
        for name in ("Endpoint", "SharedAccessKeyName", "SharedAccessKey"):
            if not found.get(name.lower()):
                raise ValueError(f"{name} is missing")
        if found.get("usedevelopmentemulator") != "true":
            raise ValueError("UseDevelopmentEmulator=true is missing: this host only talks to a local Service Bus")
        address = urllib.parse.urlsplit(found["endpoint"])
        if address.scheme != "sb" or not address.hostname:
            raise ValueError("Endpoint must look like sb://localhost:5672")
        return cls(address.hostname, address.port or 5672, found["sharedaccesskeyname"], found["sharedaccesskey"])

    def token(self, path: str, now: float) -> tuple[str, float]:
        """A SAS token for the entity, and its end: an hour from `now` (Unix seconds)."""
        resource = urllib.parse.quote_plus(f"sb://{self.host}:{self.port}/{path}")
        expiry = int(now) + TOKEN_LIFETIME
        digest = hmac.new(self.key.encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
        signature = urllib.parse.quote_plus(base64.b64encode(digest))
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={self.key_name}", expiry


@dataclass(frozen=True)
class IdentityConnection:
    """The settings `<name>__fullyQualifiedNamespace` and `<name>__clientId`, on a platform that gives the app an identity.

    `endpoint` and `header` are IDENTITY_ENDPOINT and IDENTITY_HEADER of this process.
    """

    host: str
    port: int
    client_id: str
    endpoint: str
    header: str = field(repr=False)

    token_type: ClassVar = "jwt"

    @classmethod
    def read(cls, name: str, settings: Mapping[str, str]) -> Self:
        """ValueError names the setting that is missing or wrong."""
        namespace = f"{name}__fullyQualifiedNamespace"
        address = urllib.parse.urlsplit(f"sb://{settings[namespace]}")
        if address.hostname not in ("localhost", "127.0.0.1") or not address.port:
            raise ValueError(f"{namespace} must look like localhost:5672: this host only talks to a local Service Bus")
        for platform in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            if not settings.get(platform):
                raise ValueError(f"{platform} is missing: there is no managed identity here")
        client_id = settings.get(f"{name}__clientId", "")
        if client_id and settings.get(f"{name}__credential", "").lower() != "managedidentity":
            raise ValueError(f"{name}__clientId needs {name}__credential=managedidentity")
        identity = (client_id, settings["IDENTITY_ENDPOINT"], settings["IDENTITY_HEADER"])
        return cls(address.hostname, address.port, *identity)

    def token(self, path: str, now: float) -> tuple[str, float]:
        """A token for Service Bus, and its end (Unix seconds). OSError when the platform gives none."""
        parameters = {"api-version": "2019-08-01", "resource": "https://servicebus.azure.net"}
        if self.client_id:
            parameters["client_id"] = self.client_id
        answer = requests.get(self.endpoint, params=parameters, headers={"X-IDENTITY-HEADER": self.header}, timeout=10)
        answer.raise_for_status()
        return answer.json()["access_token"], float(answer.json()["expires_on"])


type ServiceBusAddress = ConnectionString | IdentityConnection

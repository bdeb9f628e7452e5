"""Service Bus connection strings of the local kind, and the tokens made from them."""

import base64
import hashlib
import hmac
import urllib.parse
from dataclasses import dataclass
from typing import Self

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

    def token(self, path: str, now: float) -> str:
        """A SAS token for the entity, good for an hour from `now` (Unix seconds)."""
        resource = urllib.parse.quote_plus(f"sb://{self.host}:{self.port}/{path}")
        expiry = int(now) + TOKEN_LIFETIME
        digest = hmac.new(self.key.encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
        signature = urllib.parse.quote_plus(base64.b64encode(digest))
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={self.key_name}"

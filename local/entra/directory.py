"""The tenant: its id, signing key and client registrations, kept in HOME/entra."""

import json
import secrets
import threading
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.files import write_private


@dataclass(frozen=True)
class Registration:
    """A client application with its one secret and its certificates in PEM form, or a managed identity, which has neither.

    `object_id` is its service principal's id, the token's `oid`.
    """

    client_id: str
    object_id: str
    name: str
    secret: str
    certificates: tuple[str, ...] = ()
    managed: bool = False

    def __repr__(self) -> str:
        return f"Registration({self.client_id}, {self.name!r})"


class Directory:
    """One tenant in a folder, made on first use. Changes are on disk before a method returns; safe between threads."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "entra"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = self._folder / "directory.json"
        content = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.tenant_id: str = content.get("tenant_id") or str(uuid.uuid4())
        # Whoever knows it gets tokens of the managed identities: the platform tells it to the app alone.
        self.identity_header: str = content.get("identity_header") or secrets.token_hex(16).upper()
        self._registrations = {
            r["client_id"]: Registration(**r | {"certificates": tuple(r.get("certificates", ()))})
            for r in content.get("registrations", [])
        }
        self.signing_key = self._signing_key()
        if "identity_header" not in content:
            self._save()

    def find(self, client_id: str) -> Registration | None:
        return self._registrations.get(client_id.lower())

    def named(self, name: str, *, managed: bool = False) -> Registration:
        """The registration of that name, made if there is none."""
        with self._lock:
            found = next((r for r in self._registrations.values() if r.name == name), None)
        return found or self.register(name, managed=managed)

    def register(self, name: str, client_id: str | None = None, *, managed: bool = False) -> Registration:
        """Adds a client; ValueError if `client_id` is no GUID or is taken."""
        chosen = str(uuid.UUID(client_id)) if client_id else str(uuid.uuid4())
        with self._lock:
            if chosen in self._registrations:
                raise ValueError(f"client_id {chosen} is registered already")
            made = Registration(chosen, str(uuid.uuid4()), name, "" if managed else _new_secret(), managed=managed)
            self._registrations[chosen] = made
            self._save()
        return made

    def renew_secret(self, client_id: str) -> Registration:
        """Gives the client another secret, the old one ends at once; KeyError if there is no such client."""
        with self._lock:
            old = self._registrations[client_id.lower()]
            if old.managed:
                raise KeyError(client_id)
            made = replace(old, secret=_new_secret())
            self._registrations[old.client_id] = made
            self._save()
        return made

    def add_certificate(self, client_id: str, pem: str) -> Registration:
        """Lets the client sign with the key of a certificate; KeyError without such a client, ValueError for what is none."""
        x509.load_pem_x509_certificate(pem.encode())
        with self._lock:
            old = self._registrations[client_id.lower()]
            made = replace(old, certificates=(*old.certificates, pem))
            self._registrations[old.client_id] = made
            self._save()
        return made

    def _save(self) -> None:
        content = {
            "tenant_id": self.tenant_id,
            "identity_header": self.identity_header,
            "registrations": [asdict(r) for r in self._registrations.values()],
        }
        write_private(self._file, json.dumps(content, indent=1).encode())

    def _signing_key(self) -> rsa.RSAPrivateKey:
        file = self._folder / "signing.key"
        if file.exists():
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
            if not isinstance(key, rsa.RSAPrivateKey):
                raise ValueError(f"{file} does not hold an RSA key")
            return key
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        write_private(file, key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return key


def _new_secret() -> str:
    return secrets.token_urlsafe(30)  # 40 characters, as long as Entra's own

"""Access tokens for one Dataverse environment."""

from __future__ import annotations

from typing import Protocol


class TokenProvider(Protocol):
    """Where bearer tokens come from. Calls may come from any thread."""

    def token(self) -> str:
        """A token that is valid now."""
        ...

    def renew(self, rejected: str) -> str:
        """A token other than ``rejected``, which the server has just refused."""
        ...


class ClientSecretTokens:
    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        secret: str,
        resource_url: str,
        authority: str = "https://login.microsoftonline.com",
        ca_file: str | None = None,
    ) -> None: ...

    def token(self) -> str:
        raise NotImplementedError

    def renew(self, rejected: str) -> str:
        raise NotImplementedError

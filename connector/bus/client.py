"""The connection to Service Bus: with a key, or with the app's managed identity."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from connector.dataverse import ManagedIdentityTokens
from connector.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.servicebus import ServiceBusClient
    from azure.servicebus.management import ServiceBusAdministrationClient

_RESOURCE = "https://servicebus.azure.net"


class IdentityCredential:
    """What Azure's SDKs ask for tokens: a managed identity's, for Service Bus alone."""

    def __init__(self, client_id: str = "") -> None:
        self._tokens = ManagedIdentityTokens(_RESOURCE, client_id)

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """Unauthorized when the platform gives none, Transient when it does not answer."""
        from azure.core.credentials import AccessToken

        token, seconds = self._tokens.lease()
        return AccessToken(token, int(time.time() + seconds))


def service_bus(settings: Settings, **options: Any) -> ServiceBusClient:
    """A client of the namespace that the settings name; `options` are the SDK's."""
    from azure.servicebus import ServiceBusClient

    if settings.service_bus_connection:
        return ServiceBusClient.from_connection_string(settings.service_bus_connection, **options)
    namespace = settings.service_bus_namespace
    # On this machine as with the emulator's connection strings: another port, and no TLS.
    here = namespace.partition(":")[0] in ("localhost", "127.0.0.1")
    credential = IdentityCredential(settings.service_bus_client_id)
    return ServiceBusClient(namespace, credential, use_tls=not here, **options)


def service_bus_management(settings: Settings) -> ServiceBusAdministrationClient:
    """The same for reading the properties of queues; an emulator has them at an address of its own, without TLS."""
    from azure.servicebus.management import ServiceBusAdministrationClient

    address = urlsplit(settings.service_bus_management)
    options: dict[str, Any] = {"transport": _plain_transport()} if address.scheme == "http" else {}
    if settings.service_bus_connection:
        connection = settings.service_bus_connection
        if address.netloc:
            connection = re.sub(r"(?i)^Endpoint=sb://[^;/]+", f"Endpoint=sb://{address.netloc}", connection)
        return ServiceBusAdministrationClient.from_connection_string(connection, **options)
    credential = IdentityCredential(settings.service_bus_client_id)
    return ServiceBusAdministrationClient(address.netloc or settings.service_bus_namespace, credential, **options)


def _plain_transport() -> Any:
    """The SDK knows no management without TLS."""
    from azure.core.pipeline.transport import RequestsTransport

    class Plain(RequestsTransport):  # type: ignore[misc]  # lazily exported, so its type is not seen
        def send(self, request: Any, **kwargs: Any) -> Any:
            request.url = request.url.replace("https://", "http://", 1)
            return super().send(request, **kwargs)

    return Plain()

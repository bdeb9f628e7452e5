"""How this app signs in to Dataverse: with a managed identity, a certificate, or a client secret."""

from connector.dataverse import CertificateTokens, ClientSecretTokens, ManagedIdentityTokens, TokenProvider
from connector.settings import Settings


def dataverse_tokens(settings: Settings) -> TokenProvider:
    """Tokens for the environment that the settings name. Without secret and certificate they are the managed identity's."""
    url = settings.dataverse_url.rstrip("/")
    tenant, client = settings.dataverse_tenant_id, settings.dataverse_client_id
    authority, ca_file = settings.dataverse_authority, settings.dataverse_ca_file
    if settings.dataverse_client_certificate:
        return CertificateTokens(tenant, client, settings.dataverse_client_certificate, url, authority, ca_file)
    if settings.dataverse_client_secret:
        return ClientSecretTokens(tenant, client, settings.dataverse_client_secret, url, authority, ca_file)
    return ManagedIdentityTokens(url, client)

"""Dataverse Web API client: coalesced reads, atomic change sets, one retry layer."""

from .auth import CertificateTokens, ClientSecretTokens, ManagedIdentityTokens, TokenProvider
from .client import DataverseClient
from .errors import (
    BadRequest,
    ConcurrencyMismatch,
    Conflict,
    DataverseError,
    DuplicateKey,
    DuplicateRecord,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    Terminal,
    Transient,
    Unauthorized,
)
from .odata import Create, Delete, Get, Row, Update, Upsert, Write

__all__ = [
    "BadRequest",
    "CertificateTokens",
    "ClientSecretTokens",
    "ConcurrencyMismatch",
    "Conflict",
    "Create",
    "DataverseClient",
    "DataverseError",
    "Delete",
    "DuplicateKey",
    "DuplicateRecord",
    "Forbidden",
    "Get",
    "ManagedIdentityTokens",
    "NotFound",
    "OutcomeUnknown",
    "Row",
    "Terminal",
    "TokenProvider",
    "Transient",
    "Unauthorized",
    "Update",
    "Upsert",
    "Write",
]

"""Shared access signatures, made as clients make them."""

import base64
import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote_plus


def token(resource: str, end: datetime, name: str = "RootManageSharedAccessKey", key: str = "SAS_KEY_VALUE") -> str:
    quoted, until = quote_plus(resource), str(int(end.timestamp()))
    digest = hmac.new(key.encode(), f"{quoted}\n{until}".encode(), hashlib.sha256).digest()
    signature = quote_plus(base64.b64encode(digest))
    return f"SharedAccessSignature sr={quoted}&sig={signature}&se={until}&skn={name}"

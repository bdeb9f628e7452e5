"""How tests and benchmarks start a Chromium that trusts the local stack."""

import base64
import hashlib
import os
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def chromium() -> str | None:
    """The program, by the variable CHROMIUM or on PATH; None when there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def arguments(ca_file: str) -> list[str]:
    """Trusts exactly the certificate of the stack: were errors ignored instead, Chromium would cache nothing."""
    certificate = x509.load_pem_x509_certificate((Path(ca_file).parent / "server.pem").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
    # Chromium refuses its sandbox to root, which is who runs in many containers.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return [f"--ignore-certificate-errors-spki-list={pin}", *sandbox]

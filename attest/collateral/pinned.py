"""Certificates that are installed with the package and pinned a second time in the code."""

from __future__ import annotations

import base64
import binascii
import hashlib
from importlib import resources

from attest.refusal import Refused


def pinned_certificate(file_name: str, sha256: str) -> bytes:
    """The certificate in ``attest/collateral/roots/{file_name}``, DER.

    Args:
        file_name: a PEM file with one certificate.
        sha256: digest of the DER, lower-case hex.

    Raises:
        Refused: ``pinned-root-altered`` if the installed file is not the one pinned.
    """
    pem = (resources.files("attest.collateral") / "roots" / file_name).read_bytes()
    der = _certificate_of(pem)
    got = hashlib.sha256(der).hexdigest()
    if got != sha256:
        raise Refused("pinned-root-altered", f"attest/collateral/roots/{file_name}", expected=sha256, got=got)
    return der


def _certificate_of(pem: bytes) -> bytes:
    lines = pem.strip().splitlines()
    try:
        return base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except binascii.Error:
        return b""  # matches no pin

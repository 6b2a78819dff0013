"""What a SEV-SNP verification stands on: AMD's pinned certificates, and who else may be a root.

The pinned files are read once per process and compared with the digests below, so a changed file in an
installation refuses instead of trusting.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal

from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp_tcb import Product
from attest.refusal import Refused

LeafKind = Literal["vcek", "vlek"]

AMD_ARK_SHA256: Final[dict[Product, str]] = {
    "Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}
AMD_INTERMEDIATE_SHA256: Final[dict[tuple[Product, LeafKind], str]] = {
    ("Milan", "vcek"): "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
    ("Milan", "vlek"): "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
    ("Genoa", "vcek"): "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
    ("Genoa", "vlek"): "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
    ("Turin", "vcek"): "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
    ("Turin", "vlek"): "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
}
_INTERMEDIATE_FILE: Final[dict[LeafKind, str]] = {"vcek": "ask", "vlek": "asvk"}


@dataclass(frozen=True, slots=True)
class SnpRoots:
    """Which roots a verification may end in. Nothing is accepted unless it is named here.

    Args:
        amd: AMD's pinned roots.
        mock_ark_sha256: digest (lower-case hex) of one mock vendor's root, or ``None``.
    """

    amd: bool
    mock_ark_sha256: str | None = None


@cache
def amd_ark(product: Product) -> bytes:
    """AMD's root for a product line, DER.

    Raises:
        Refused: ``pinned-root-altered`` if the installed file is not the one pinned here.
    """
    return _pinned(f"amd-{product.lower()}-ark.pem", AMD_ARK_SHA256[product])


@cache
def amd_intermediate(product: Product, kind: LeafKind) -> bytes:
    """AMD's ASK (for a VCEK) or ASVK (for a VLEK) of a product line, DER.

    Raises:
        Refused: ``pinned-root-altered`` if the installed file is not the one pinned here.
    """
    file_name = f"amd-{product.lower()}-{_INTERMEDIATE_FILE[kind]}.pem"
    return _pinned(file_name, AMD_INTERMEDIATE_SHA256[product, kind])


def _pinned(file_name: str, sha256: str) -> bytes:
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


__all__ = ["AMD_ARK_SHA256", "LeafKind", "SnpCollateral", "SnpRoots", "amd_ark", "amd_intermediate"]

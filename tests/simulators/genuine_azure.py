"""The genuine Azure evidence under shared/vectors/azure-hcl, out of its three envelopes.

The envelopes (texts of base64url and hex, or lists of numbers) are another project's and not ours to accept;
what is inside is Azure's. Outcome and times are those of shared/vectors/SOURCES.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.evidence.tpm import TpmQuote
from attest.verify.azure import PcrPolicy

SUMMER_2026 = datetime(2026, 6, 1, tzinfo=UTC)
NONCES = {
    "snp-milan-v1": b"challenge",
    "snp-milan-v2": bytes.fromhex(
        "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef"
    ),
    "snp-genoa": bytes.fromhex(
        "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938ca05475f8b46094de6b64270ea35d950f"
    ),
    "tdx-v1": b"challenge",
}


@dataclass(frozen=True)
class AzureCase:
    """One (file, moment, nonce).

    Args:
        name: file under azure-hcl/ without its suffix.
        now: time of verification.
        nonce: what the quote must carry; ``None`` for the file's own.
        code: the refusal, empty for a case that verifies.
    """

    name: str
    now: datetime
    nonce: bytes | None = None
    code: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.now:%Y-%m-%d}-{self.code or 'verifies'}"


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


EARLY, LATE = "certificate-not-yet-valid", "certificate-expired"
CASES: tuple[AzureCase, ...] = (
    AzureCase("snp-milan-v1", SUMMER_2026),
    AzureCase("snp-milan-v1", _day(2025, 1, 27), code=EARLY),
    AzureCase("snp-milan-v1", _day(2032, 1, 29), code=LATE),
    AzureCase("snp-milan-v1", SUMMER_2026, b"another", "azure-quote-nonce"),
    AzureCase("snp-milan-v2", SUMMER_2026),
    AzureCase("snp-milan-v2", SUMMER_2026, b"challenge", "azure-quote-nonce"),
    AzureCase("snp-genoa", SUMMER_2026),
    AzureCase("snp-genoa", _day(2025, 1, 23), code=EARLY),
    AzureCase("snp-genoa", _day(2032, 1, 25), code=LATE),
    AzureCase("tdx-v1", SUMMER_2026, code="azure-tdx-quote"),
)


@dataclass(frozen=True)
class AzureFile:
    """What one file holds.

    Args:
        hcl_report: the paravisor's report.
        quote: of the vTPM.
        leaf: the chip's certificate, DER; empty for TDX.
        td_quote: empty for SEV-SNP.
    """

    hcl_report: bytes
    quote: TpmQuote
    leaf: bytes
    td_quote: bytes

    @property
    def policy(self) -> PcrPolicy:
        """That it booted as it did: PCR 0 to 7."""
        return PcrPolicy({index: frozenset({self.quote.pcrs[index]}) for index in range(8)})


def read(folder: Path, name: str) -> AzureFile:
    """One file of the folder."""
    document = json.loads((folder / f"{name}.json").read_bytes())
    quote = document.get("tpm_quote") or document["quote"]
    return AzureFile(
        hcl_report=_decoded(document.get("hcl_report") or document["report"]),
        quote=TpmQuote(
            _hex(quote["message"]), _hex(quote["signature"]), tuple(_hex(value) for value in quote["pcrs"])
        ),
        leaf=_certificate(document["vcek"]) if "vcek" in document else b"",
        td_quote=_decoded(document["td_quote"]) if "td_quote" in document else b"",
    )


def sha256(path: Path) -> str:
    """Digest of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hex(value: Any) -> bytes:
    return bytes(value) if isinstance(value, list) else bytes.fromhex(value)


def _decoded(value: Any) -> bytes:
    return bytes(value) if isinstance(value, list) else base64.urlsafe_b64decode(value + "==")


def _certificate(text: str) -> bytes:
    if text.startswith("-----BEGIN"):
        return x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
    return _decoded(text)

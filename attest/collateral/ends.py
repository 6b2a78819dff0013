"""When a kept document says that it ends: a hint for freshness, read without judging anything.

Who believes it loses nothing: a document that lies about its end is judged by the verifier all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.x509 import ocsp

from attest import strict_json
from attest.collateral.items import parted
from attest.evidence.rim import rim_certificates
from attest.evidence.tdx_evidence import MAX_DOCUMENT_BYTES
from attest.refusal import Refused

_MEMBERS: Final = ("tcbInfo", "enclaveIdentity")


def ends(kept: bytes) -> datetime | None:
    """The end that a certificate, list, answer, manifest or document of Intel's names, or None."""
    if kept.startswith(b"<"):
        return _earliest(_rim_certificates(kept))
    if kept.startswith(b"{"):
        return _intels(kept)
    return _of_der(kept)


def _rim_certificates(kept: bytes) -> tuple[bytes, ...]:
    try:
        return rim_certificates(kept)
    except Refused:
        return ()


def _earliest(certificates: tuple[bytes, ...]) -> datetime | None:
    return min((end for end in map(_of_der, certificates) if end is not None), default=None)


def _intels(kept: bytes) -> datetime | None:
    try:
        body, _ = parted(kept)
    except Refused:
        return None  # a key set, which has no end of its own
    if not body.startswith(b"{"):
        return _of_der(body)
    try:
        answer = strict_json.loads(body, name="collateral", max_bytes=MAX_DOCUMENT_BYTES)
        document: Any = next((answer[name] for name in _MEMBERS if name in answer), {})
        end = datetime.strptime(document["nextUpdate"], "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - made aware below
    except (Refused, ValueError, TypeError, KeyError):
        return None
    return end.replace(tzinfo=UTC)


_READERS: Final[tuple[Callable[[bytes], datetime | None], ...]] = (
    lambda der: x509.load_der_x509_certificate(der).not_valid_after_utc,
    lambda der: x509.load_der_x509_crl(der).next_update_utc,
    lambda der: ocsp.load_der_ocsp_response(der).next_update_utc,
)


def _of_der(der: bytes) -> datetime | None:
    for read in _READERS:
        try:
            return read(der)
        except (ValueError, x509.InvalidVersion):
            continue
    return None

"""What a TDX verification stands on: Intel's pinned root, who else may be a root, and Intel's PCS answers.

The pinned file is read once per process and compared with the digest below, as for AMD's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from attest.evidence.tdx_evidence import MAX_DOCUMENT_BYTES, TdxCollateral
from attest.refusal import Malformed, Refused

INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
_ROOT_FILE: Final = "intel-sgx-root-ca.pem"
_SIGNATURE_HEX: Final = 128


@dataclass(frozen=True, slots=True)
class TdxRoots:
    """Which roots a verification may end in. Nothing is accepted unless it is named here.

    Args:
        intel: Intel's pinned root.
        mock_root_sha256: digest (lower-case hex) of one mock vendor's root, or ``None``.
    """

    intel: bool
    mock_root_sha256: str | None = None


@cache
def intel_root() -> bytes:
    """Intel's root, DER.

    Raises:
        Refused: ``pinned-root-altered`` if the installed file is not the one pinned here.
    """
    pem = (resources.files("attest.collateral") / "roots" / _ROOT_FILE).read_bytes()
    der = _certificate_of(pem)
    got = hashlib.sha256(der).hexdigest()
    if got != INTEL_ROOT_SHA256:
        raise Refused(
            "pinned-root-altered",
            f"attest/collateral/roots/{_ROOT_FILE}",
            expected=INTEL_ROOT_SHA256,
            got=got,
        )
    return der


def signed_text(body: bytes, member: str) -> tuple[str, bytes]:
    """Part an answer of Intel's PCS: the text that was signed, exactly as it stands, and its signature.

    The signature is over bytes, so the value is cut out, never parsed and written again.

    Args:
        body: the whole answer, ``{"<member>":{...},"signature":"<hex>"}``.
        member: ``tcbInfo`` or ``enclaveIdentity``.

    Raises:
        Malformed: ``tdx-pcs-answer``.
    """
    head, tail = b'{"' + member.encode() + b'":', b',"signature":"'
    end = len(body) - _SIGNATURE_HEX - len(b'"}')
    text = body[len(head) : end - len(tail)]
    if (
        len(body) > MAX_DOCUMENT_BYTES
        or not body.startswith(head)
        or body[end - len(tail) : end] != tail
        or body[-2:] != b'"}'
        or (text[:1], text[-1:]) != (b"{", b"}")
    ):
        raise Malformed("tdx-pcs-answer", f"not {member} and its signature", clause="Intel PCS API v4")
    try:
        return text.decode("ascii"), bytes.fromhex(body[end:-2].decode("ascii"))
    except ValueError as error:
        raise Malformed("tdx-pcs-answer", "not ASCII, or not hex", clause="Intel PCS API v4") from error


def _certificate_of(pem: bytes) -> bytes:
    lines = pem.strip().splitlines()
    try:
        return base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except binascii.Error:
        return b""  # matches no pin


__all__ = ["INTEL_ROOT_SHA256", "TdxCollateral", "TdxRoots", "intel_root", "signed_text"]

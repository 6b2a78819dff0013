"""The question to an instance of Azure Attestation, and its answer, a token.

The token is not believed here; the key store judges it. So this module bounds what it reads, asks again
where the service is busy, and follows no redirect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest import strict_json
from attest.evidence.cpu import AzureSnpEvidence, CpuEvidence
from attest.evidence.tdx_evidence import TdxEvidence
from attest.evidence.tokens import MAX_TOKEN_BYTES
from attest.refusal import Malformed, Refused, Unsupported

API_VERSION: Final = "2025-06-01"
CLAUSE: Final = "Azure Attestation REST API, Attestation"
BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
ATTEMPTS: Final = 3
MAX_PAUSE_S: Final = 10.0
"""Longest wait before asking again, whatever ``Retry-After`` says: a service must not hold an enclave."""

_OK: Final = 200
_MAX_ANSWER: Final = 2 * MAX_TOKEN_BYTES
_DEFAULT_PAUSE_S: Final = 1.0
_PLAIN: Final = {"Accept-Encoding": "identity"}
"""Bounds are on what comes over the wire, so nothing may unfold."""


def attestation_request(
    evidence: CpuEvidence, runtime_data: bytes, chain: tuple[bytes, ...]
) -> tuple[str, dict[str, Any]]:
    """Path and body of the question to the attestation service.

    Args:
        evidence: over the SHA-256 of ``runtime_data``.
        runtime_data: the JSON that the report's data are the digest of.
        chain: DER certificates above a SEV-SNP chip's own.

    Raises:
        Unsupported: ``key-release-evidence`` for a paravisor's report: the service takes it by another way.
        Refused: ``key-release-leaf`` for a report without the chip's certificate.
    """
    data = {"data": strict_json.b64url_encode(runtime_data), "dataType": "JSON"}
    if isinstance(evidence, AzureSnpEvidence):
        raise Unsupported("key-release-evidence", CLAUSE, expected="a raw report", got=evidence.kind)
    if isinstance(evidence, TdxEvidence):
        return "TdxVm", {"quote": strict_json.b64url_encode(evidence.quote), "runtimeData": data}
    leaf = evidence.collateral.leaf
    if leaf is None:
        raise Refused("key-release-leaf", CLAUSE, expected="the chip's certificate", got="none")
    above = chain or tuple(filter(None, (evidence.collateral.intermediate, evidence.collateral.ark)))
    report = {
        "SnpReport": strict_json.b64url_encode(evidence.report),
        "VcekCertChain": strict_json.b64url_encode(b"".join(map(_pem, (leaf, *above)))),
    }
    return "SevSnpVm", {
        "report": strict_json.b64url_encode(strict_json.canonical(report)),
        "runtimeData": data,
    }


def attested_token(
    issuer: str,
    question: tuple[str, dict[str, Any]],
    client: httpx2.Client,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """The service's token.

    Args:
        issuer: address of the instance.
        question: of ``attestation_request``.
        client: with a timeout.
        pause: waits for so many seconds.

    Raises:
        Refused: ``key-release-unreachable``, ``key-release-busy``, ``key-release-attestation``.
        Malformed: ``key-release-*``.
    """
    kind, body = question
    url = f"{issuer}/attest/{kind}?api-version={API_VERSION}"
    for attempt in range(1, ATTEMPTS + 1):
        status, wait_s, answer = _answer(client, url, body)
        if status == _OK:
            return _token(answer)
        if status not in BUSY:
            raise Refused("key-release-attestation", CLAUSE, expected="200", got=str(status))
        if attempt < ATTEMPTS:
            pause(wait_s)
    raise Refused("key-release-busy", CLAUSE, expected="an answer", got=f"status {status}, {ATTEMPTS} times")


def _answer(client: httpx2.Client, url: str, body: dict[str, Any]) -> tuple[int, float, bytes]:
    answer = bytearray()
    try:
        with client.stream("POST", url, json=body, headers=_PLAIN, follow_redirects=False) as response:
            for part in response.iter_raw():
                answer += part
                if len(answer) > _MAX_ANSWER:
                    raise Refused("key-release-attestation", CLAUSE, expected="a token", got="too much")
    except httpx2.HTTPError as error:
        raise Refused(
            "key-release-unreachable", CLAUSE, expected="the attestation service", got=type(error).__name__
        ) from error
    return response.status_code, _seconds(response.headers.get("retry-after")), bytes(answer)


def _seconds(text: str | None) -> float:
    """``Retry-After`` in seconds, within bounds; a date there is not worth its clock."""
    if text is None or not text.isascii() or not text.isdigit():
        return _DEFAULT_PAUSE_S
    return MAX_PAUSE_S if len(text) > len(str(MAX_PAUSE_S)) else min(float(text), MAX_PAUSE_S)


def _token(answer: bytes) -> str:
    value = strict_json.loads(answer, name="key-release", max_bytes=_MAX_ANSWER)
    token = value.get("token") if isinstance(value, dict) else None
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise Malformed("key-release-members", "the answer holds no token", clause=CLAUSE)
    return token


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)

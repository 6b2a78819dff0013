"""Evidence from a runtime that answers."""

from __future__ import annotations

import time

import httpx2

from gateway.cli.failure import Exit, Failure
from gateway.errors import RuntimeRefused, RuntimeUnreachable
from gateway.upstream import outer


def fetch_evidence(url: str, nonce: str) -> bytes:
    """Ask a runtime for evidence that answers ``nonce``.

    Raises:
        Failure: ``runtime_unreachable`` (exit 1), or a refusal's code if it answers with something else.
    """
    patience = outer.Patience()
    request = outer.evidence_request(url.rstrip("/"), nonce, patience)
    deadline = time.monotonic() + patience.evidence_s
    try:
        with outer.asking_for_evidence(), httpx2.HTTPTransport() as transport:
            response = transport.handle_request(request)
            try:
                outer.check_evidence_head(response.status_code, response.headers)
                return _read(response, deadline)
            finally:
                response.close()
    except RuntimeUnreachable as error:
        raise Failure(
            error.detail,
            f"nothing usable answers at {url}: is the runtime up? ('sealgate up' starts one)",
            code=error.code,
        ) from error
    except RuntimeRefused as error:
        raise Failure(
            f"refused: {error.detail}",
            "what answers there does not behave like a Sealgate runtime",
            code=error.refusal or error.code,
            exit_code=Exit.REFUSED,
        ) from error


def _read(response: httpx2.Response, deadline: float) -> bytes:
    evidence = bytearray()
    for data in response.iter_raw():
        evidence += data
        outer.check_evidence_size(len(evidence))
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(evidence)

"""The runtime's outer HTTP, as the gateway sees it: what to ask, and what to make of how it is answered.

Nothing here is authenticated: whoever is on the line can write all of it. So it decides only between kinds
of failure. What is believed comes from the evidence (attest) or from inside the seal (exchange).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import anyio
import httpx2

from attest import strict_json
from attest.appraise import AttestedRuntime
from attest.protocol import paths, problems
from attest.refusal import Malformed, Refused
from gateway.errors import (
    GatewayError,
    RuntimeBusy,
    RuntimeInterrupted,
    RuntimeTimeout,
    RuntimeUnreachable,
    misbehaved,
    refused,
)

MAX_EVIDENCE_BYTES = 1 << 22  # attest.evidence.bundle refuses more
MAX_PROBLEM_BYTES = 16 << 10  # a problem document is a few hundred bytes


@dataclass(frozen=True)
class Patience:
    """How long to wait for a runtime, in seconds, and how much to take from it, in bytes."""

    connect_s: float = 5.0
    evidence_s: float = 10.0  # for the whole evidence, however slowly it drips
    collateral_s: float = 90.0  # for what judging the evidence takes, however slowly vendors answer
    first_event_s: float = 120.0  # a long prompt is read before the first token
    idle_s: float = 60.0  # between two events of a stream
    whole_s: float = 900.0  # for the whole answer, however steadily it drips
    max_response_bytes: int = 64 << 20

    def extensions(self, read_s: float) -> dict[str, object]:
        """The transport's request extension for these times."""
        connect_s = self.connect_s
        return {"timeout": {"connect": connect_s, "pool": connect_s, "write": self.idle_s, "read": read_s}}


class KeyUnknown(RuntimeBusy):
    """The runtime says that it did not open the request, because the key is not (any more) its own.

    Nobody signs this: it comes from before the seal is opened. A host could pass the request on and claim it.
    """

    keyset_digest: str | None = None
    """Of the keys that the request was sealed to."""

    def require_other_keys(self, runtime: AttestedRuntime) -> None:
        """Raise this again if the new verdict binds the same keys: then the claim is false."""
        if runtime.keyset_digest == self.keyset_digest:
            raise self


def evidence_request(url: str, nonce: str, patience: Patience) -> httpx2.Request:
    """Ask for evidence that answers ``nonce`` (64 hex digits)."""
    return httpx2.Request(
        "GET",
        f"{url}{paths.ATTESTATION_PATH}?{paths.NONCE_PARAMETER}={nonce}",
        headers={"accept": paths.MEDIA_BUNDLE, "accept-encoding": "identity"},
        extensions=patience.extensions(patience.evidence_s),
    )


def check_evidence_head(status: int, headers: Mapping[str, str]) -> None:
    """Refuse an answer that is not evidence, before reading it.

    Raises:
        RuntimeUnreachable: status 5xx: something in between answers for a runtime that is down.
        RuntimeRefused: ``evidence-http-status`` (redirects too: evidence is asked for where it was
            configured, and nowhere else), ``evidence-media-type``.
    """
    if status >= httpx2.codes.INTERNAL_SERVER_ERROR:
        raise RuntimeUnreachable(f"The runtime answered the request for its evidence with HTTP {status}.")
    if status != httpx2.codes.OK:
        raise refused(Refused("evidence-http-status", expected="200", got=str(status)))
    if _media_type(headers) != paths.MEDIA_BUNDLE or "content-encoding" in headers:
        raise refused(Refused("evidence-media-type", expected=paths.MEDIA_BUNDLE, got="another"))


def check_evidence_size(size: int) -> None:
    """Refuse evidence beyond its bound while it arrives.

    Raises:
        RuntimeRefused: ``evidence-too-large``.
    """
    if size > MAX_EVIDENCE_BYTES:
        raise refused(Refused("evidence-too-large", expected=f"at most {MAX_EVIDENCE_BYTES} bytes"))


def sealed_request(url: str, content: bytes, patience: Patience) -> httpx2.Request:
    """Deliver one sealed request."""
    target, headers = _sealed_head(url)
    return httpx2.Request(
        "POST",
        target,
        headers=[*headers, (b"content-length", b"%d" % len(content))],
        stream=httpx2.ByteStream(content),
        extensions=patience.extensions(patience.first_event_s),
    )


@lru_cache(maxsize=16)
def _sealed_head(url: str) -> tuple[httpx2.URL, list[tuple[bytes, bytes]]]:
    """What all sealed requests to one runtime begin with."""
    target = httpx2.URL(f"{url}{paths.SEALED_PATH}")
    return target, [
        (b"host", target.netloc),
        (b"content-type", paths.MEDIA_SEALED_REQUEST.encode()),
        (b"accept", paths.MEDIA_SEALED_RESPONSE.encode()),
        (b"accept-encoding", b"identity"),
        # Asks whoever is on the way not to buffer (draft-ietf-ohai-chunked-ohttp section 3).
        (b"incremental", b"?1"),
    ]


def is_sealed(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the answer claims to be sealed; the seal itself is for ``SealedExchange`` to judge."""
    return (
        status == httpx2.codes.OK
        and _media_type(headers) == paths.MEDIA_SEALED_RESPONSE
        and "content-encoding" not in headers
    )


def unsealed_answer(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """What an answer that is not sealed means.

    Args:
        status: HTTP status.
        headers: of the answer.
        body: at most ``MAX_PROBLEM_BYTES`` of it.

    Returns:
        ``KeyUnknown`` for the one problem after which the request may be sealed anew, ``RuntimeBusy`` where
        the problem says *not processed*, and otherwise ``RuntimeMisbehaved``.
    """
    not_sealed = Refused("answer-not-sealed", expected=paths.MEDIA_SEALED_RESPONSE, got=f"HTTP {status}")
    if _media_type(headers) != problems.MEDIA_PROBLEM:
        return misbehaved(not_sealed)
    try:
        document = strict_json.loads(body, name="problem", max_bytes=MAX_PROBLEM_BYTES)
    except Malformed as error:
        return misbehaved(error)
    if not isinstance(document, dict):
        return misbehaved(not_sealed)
    if document.get("type") == problems.OHTTP_KEY:
        return KeyUnknown("The runtime does not hold the key that the request was sealed to.")
    if document.get("processed") is False:
        return RuntimeBusy(f"The runtime did not process the request (HTTP {status}).")
    return misbehaved(not_sealed)


@contextmanager
def asking_for_evidence() -> Iterator[None]:
    """Any failure of the network is *unreachable*: a question holds no data.

    Raises:
        RuntimeUnreachable: for every transport error inside the block.
    """
    try:
        yield
    except _TRANSPORT_ERRORS as error:
        raise RuntimeUnreachable(f"The runtime gave no evidence ({type(error).__name__}).") from error


@contextmanager
def sending_sealed() -> Iterator[None]:
    """Tell a request that never left from one that may have run.

    Raises:
        RuntimeUnreachable: no connection was made.
        RuntimeTimeout: no progress in time.
        RuntimeInterrupted: any other transport error inside the block.
    """
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise RuntimeUnreachable(f"No connection to the runtime ({type(error).__name__}).") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise RuntimeTimeout("The runtime made no progress in the time allowed.") from error
    except _TRANSPORT_ERRORS as error:
        raise RuntimeInterrupted(f"The connection to the runtime ended ({type(error).__name__}).") from error


# EndOfStream leaves the transport unmapped where TLS ends without a close_notify.
_TRANSPORT_ERRORS = (httpx2.TransportError, OSError, anyio.EndOfStream)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()

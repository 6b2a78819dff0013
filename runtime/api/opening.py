"""From the bytes of ``POST /sealed`` to an opened request, or a problem document.

Nothing is dispatched before the whole request has arrived and its last chunk has opened: until then it might
have been cut, and whatever is answered here is answered in the clear, so it says nothing of the inside.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope

from attest.channel.chunked import ChunkedRequestOpener, ChunkedResponseSealer
from attest.protocol import paths, problems
from attest.protocol.problems import Problem
from attest.refusal import Malformed, Refused
from runtime.api.asgi import ClientGone, header
from runtime.identity import Epoch, RuntimeIdentity

_KEY = Problem(
    problems.OHTTP_KEY,
    400,
    "The request is sealed to a key that this runtime does not hold",
    processed=False,
    detail=f"Verify the evidence at {paths.ATTESTATION_PATH} again and seal to the key that it names.",
)
_TOO_LARGE = Problem(problems.TOO_LARGE, 413, "The sealed request is too large", processed=False)
_TRUNCATED = Problem(problems.TRUNCATED, 400, "The sealed request was cut off", processed=False)
_MALFORMED = Problem(problems.MALFORMED, 400, "The sealed request cannot be opened", processed=False)
_REPLAYED = Problem(
    problems.REPLAYED, 409, "The sealed request was received before", processed="unknown",
    detail="Seal every request anew.",
)  # fmt: skip
_MEDIA_TYPE = Problem(problems.MEDIA_TYPE, 415, f"Send {paths.MEDIA_SEALED_REQUEST}", processed=False)
_TIMEOUT = Problem(problems.TIMEOUT, 408, "The sealed request did not arrive in time", processed=False)
BUSY: Final = Problem(problems.BUSY, 503, "Too many requests are open", processed=False, detail="Try again.")

_BY_CODE: Final = {
    "ohttp-unknown-key": _KEY,
    # Key ids are one byte and start anew with the process: a request sealed to the keys of before a restart
    # names a key that is here and does not open under it. Nothing was opened, so sealing anew is safe.
    "hpke-open-failed": _KEY,
    "hpke-decapsulation-failed": _KEY,
    "ohttp-too-large": _TOO_LARGE,
    "ohttp-chunk-too-large": _TOO_LARGE,
    "ohttp-truncated": _TRUNCATED,
    "replayed-request": _REPLAYED,
}


class Unopened(Exception):
    """The request was not opened, or opened before.

    Args:
        problem: the plain answer.
        code: refusal code, for the metrics.
    """

    def __init__(self, problem: Problem, code: str) -> None:
        self.problem = problem
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, repr=False)
class Opened:
    """An opened request that was never opened before.

    Args:
        message: the binary HTTP message.
        epoch: whose key opened it.
        sealer: for the answer.
    """

    message: bytes
    epoch: Epoch
    sealer: ChunkedResponseSealer

    def __repr__(self) -> str:
        return f"Opened({len(self.message)} bytes, {self.epoch!r})"


class RequestReader:
    """Reads and opens sealed requests.

    Args:
        identity: holds the keys, and remembers what was opened.
        max_bytes: of one sealed request.
        timeout_s: for a whole request to arrive.
    """

    def __init__(self, identity: RuntimeIdentity, *, max_bytes: int, timeout_s: float) -> None:
        self._identity = identity
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def read(self, scope: Scope, receive: Receive) -> Opened:
        """Read one request to its end.

        Raises:
            Unopened: with the plain answer.
            ClientGone: the sender hung up.
        """
        media_type = header(scope, b"content-type").partition(b";")[0].strip().lower()
        if media_type != paths.MEDIA_SEALED_REQUEST.encode():
            raise Unopened(_MEDIA_TYPE, "media-type")
        opener = ChunkedRequestOpener(self._identity.key_pairs(), max_bytes=self._max_bytes)
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await _open_all(opener, receive)
            return self._claimed(opener, message)
        except TimeoutError:
            raise Unopened(_TIMEOUT, "receive-timeout") from None
        except Refused as refusal:
            if refusal.code == "replay-store-full":
                # Nothing may be forgotten while its key lives, so the keys make room by ending.
                self._identity.renew()
                raise Unopened(_KEY, refusal.code) from None
            raise Unopened(_BY_CODE.get(refusal.code, _MALFORMED), refusal.code) from None

    def _claimed(self, opener: ChunkedRequestOpener, message: bytes) -> Opened:
        if opener.key_id is None:
            raise Malformed("ohttp-request-truncated")
        epoch = self._identity.epoch_of(opener.key_id)
        if epoch is None:  # its keyset ended while the request arrived
            raise Refused("ohttp-unknown-key")
        self._identity.claim(opener.key_id, opener.enc)
        return Opened(message, epoch, opener.response_sealer())


async def _open_all(opener: ChunkedRequestOpener, receive: Receive) -> bytes:
    pieces: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ClientGone
        pieces += opener.feed(event.get("body", b""))
        if not event.get("more_body", False):
            pieces += opener.finish()
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

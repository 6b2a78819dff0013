"""An inner answer on its way out: binary HTTP, sealed piece by piece, with the receipt as its trailer.

The seal ends only if the inner answer ended. One that broke off has no last chunk, and whoever opens it
refuses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from starlette.types import Message, Send

from attest.channel import bhttp
from attest.channel.chunked import ChunkedResponseSealer
from attest.channel.padding import Profile, pad_message
from attest.protocol import paths

_OUTER_HEADERS: Final = [
    (b"content-type", paths.MEDIA_SEALED_RESPONSE.encode()),
    (b"cache-control", b"no-store"),
    (b"incremental", b"?1"),  # asks relays not to buffer (draft-ietf-ohai-chunked-ohttp section 3)
]

MakeReceipt = Callable[[int, str], str | None]
"""(status, hex digest of the whole body) -> the receipt's text; None where nobody may have one."""


class SealedAnswer:
    """Takes the inner app's ASGI messages, sends sealed ones.

    Args:
        send: of the outer request.
        sealer: new, for this answer.
        padding: profile.
        receipt_id: announced in the head; None for an answer without a receipt.
        make_receipt: called once, at the end.
    """

    def __init__(
        self,
        send: Send,
        sealer: ChunkedResponseSealer,
        *,
        padding: Profile,
        receipt_id: str | None = None,
        make_receipt: MakeReceipt = lambda _status, _digest: None,
    ) -> None:
        self._send = send
        self._sealer = sealer
        self._padding = padding
        self._receipt_id = receipt_id
        self._make_receipt = make_receipt
        self._encoder = bhttp.ResponseEncoder(padding=padding)
        self._digest = hashlib.sha256()
        self._head: bhttp.ResponseHead | None = None
        self._streaming = False
        self.ended = False
        self.sealed_bytes = 0

    def __repr__(self) -> str:
        return f"SealedAnswer({self._head!r}, {self.sealed_bytes} sealed bytes)"

    @property
    def status(self) -> int | None:
        """The inner status, once the inner answer began."""
        return None if self._head is None else self._head.status

    async def send(self, message: Message) -> None:
        """The ASGI ``send`` of the inner app."""
        if message["type"] == "http.response.start":
            fields = list(message.get("headers", ()))
            if self._receipt_id is not None:
                fields.append((paths.RECEIPT_ID_HEADER.encode(), self._receipt_id.encode()))
            self._head = bhttp.ResponseHead(int(message["status"]), tuple(fields))
        elif message["type"] == "http.response.body" and self._head is not None:
            body = message.get("body", b"")
            self._digest.update(body)
            if message.get("more_body", False):
                await self._next(self._head, body)
            else:
                await self._last(self._head, body)

    async def _next(self, head: bhttp.ResponseHead, body: bytes) -> None:
        if self._streaming:
            await self._out(self._sealer.seal(self._encoder.content(body)), more=True)
            return
        # The head waited for the first content: one chunk, one packet.
        self._streaming = True
        plain = self._encoder.head(head) + self._encoder.content(body)
        await self._start()
        await self._out(self._sealer.preamble + self._sealer.seal(plain), more=True)

    async def _last(self, head: bhttp.ResponseHead, body: bytes) -> None:
        receipt = self._make_receipt(head.status, self._digest.hexdigest())
        trailers = () if receipt is None else ((paths.RECEIPT_TRAILER.encode(), receipt.encode()),)
        if self._streaming:
            sealed = self._sealer.seal(self._encoder.content(body) + self._encoder.end(trailers), final=True)
        else:
            whole = pad_message(self._padding, bhttp.encode_response(head, body, trailers=trailers))
            sealed = self._sealer.preamble + self._sealer.seal(whole, final=True)
            await self._start()
        self.ended = True
        await self._out(sealed, more=False)

    async def _start(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": _OUTER_HEADERS})

    async def _out(self, sealed: bytes, *, more: bool) -> None:
        self.sealed_bytes += len(sealed)
        await self._send({"type": "http.response.body", "body": sealed, "more_body": more})

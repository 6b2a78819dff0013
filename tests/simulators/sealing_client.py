"""A gateway's side of the channel with nothing but ``attest``, bendable in every part; no network.

It drives an outer ASGI app directly, because it has to read a streamed answer piece by piece and hang up in
the middle of one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp, Message

from attest.channel import bhttp
from attest.channel.chunked import ChunkedRequestSealer, ChunkedResponseOpener
from attest.channel.ohttp import parse_key_configs
from attest.digest import sha256_digest
from attest.keyset import Keyset
from attest.protocol import paths
from attest.protocol.receipt import Receipt, open_receipt, verify_receipt
from attest.protocol.tenant_token import RequestSigner, sign_request_token

LABEL_ID = sha256_digest(b"label")
STATEMENT = sha256_digest(b"statement")


@dataclass
class PlainAnswer:
    """An answer that is not sealed."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class SealedRequestParts:
    """A sealed request, what its token said, and how to open the answer."""

    sealed: bytes
    body: bytes
    sequence: int
    opener: ChunkedResponseOpener


@dataclass
class InnerAnswer:
    """An opened answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    receipt_text: str | None
    parts: list[bytes] = field(default_factory=list)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error_code(self) -> str:
        """The code of an OpenAI-shaped error."""
        return str(self.json()["error"]["code"])

    @property
    def events(self) -> list[Any]:
        """The JSON events of a stream; the end marker must be its last line."""
        *events, end = self.body.decode().removesuffix("\n\n").split("\n\n")
        assert end == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events]


class HungUp:
    """A running exchange with an app, whose messages can be read one by one."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def next_body(self) -> bytes:
        """The next piece of the body."""
        while True:
            message = await asyncio.wait_for(self.messages.get(), 5)
            if message["type"] == "http.response.body":
                return bytes(message.get("body", b""))


@asynccontextmanager
async def running(
    app: ASGIApp, method: str, path: str, body: bytes, media_type: str, *, query: str = ""
) -> AsyncGenerator[tuple[HungUp, asyncio.Task[None]]]:
    """Start one request; leaving the block hangs up and waits for the app to be done."""
    exchange = HungUp()
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await exchange.gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        await app(scope(method, path, media_type, query), receive, exchange.messages.put)

    task = asyncio.create_task(run())
    try:
        yield exchange, task
    finally:
        exchange.gone.set()
        await asyncio.wait_for(task, 5)


def scope(method: str, path: str, media_type: str, query: str = "") -> dict[str, Any]:
    """An HTTP scope as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"content-type", media_type.encode())] if media_type else [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


async def ask(
    app: ASGIApp, method: str, path: str, body: bytes = b"", media_type: str = "", *, query: str = ""
) -> PlainAnswer:
    """One request to the end of its answer."""
    async with running(app, method, path, body, media_type, query=query) as (exchange, task):
        await asyncio.wait_for(asyncio.shield(task), 30)
    messages = [exchange.messages.get_nowait() for _ in range(exchange.messages.qsize())]
    start = messages[0]
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return PlainAnswer(
        start["status"], headers, b"".join(message.get("body", b"") for message in messages[1:])
    )


class SealingClient:
    """One tenant of one runtime.

    Args:
        app: the outer app.
        keyset: what a verdict would have vouched for.
        clock: the time.
        signer: the tenant's key; a new one by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        keyset: Keyset,
        clock: Callable[[], datetime],
        *,
        signer: RequestSigner | None = None,
        config: int = 0,
    ) -> None:
        self.app = app
        self.keyset = keyset
        self.clock = clock
        self.signer = signer or RequestSigner(Ed25519PrivateKey.generate())
        self.config = parse_key_configs(keyset.ohttp_keys)[config]
        self.sequence = 0

    def seal(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        /,
        *,
        token: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),),
        message: bytes | None = None,
        **claims: Any,
    ) -> SealedRequestParts:
        """Seal a request; ``claims`` replace arguments of its token, ``message`` the whole inside."""
        self.sequence += 1
        arguments: dict[str, Any] = {
            "audience": self.keyset.digest,
            "statement_digest": STATEMENT,
            "sequence": self.sequence,
            "label_id": LABEL_ID,
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "method": method,
            "path": path,
            "now": self.clock(),
            **claims,
        }
        token = sign_request_token(self.signer, **arguments) if token is None else token
        if token:
            headers = (*headers, (b"authorization", b"Bearer " + token.encode()))
        if message is None:
            message = bhttp.encode_request(bhttp.RequestHead(method, "https", "inner", path, headers), body)
        sealer = ChunkedRequestSealer(self.config)
        sealed = sealer.preamble + sealer.seal(message, final=True)
        return SealedRequestParts(sealed, body, arguments["sequence"], sealer.response_opener())

    async def send(self, sealed: bytes) -> PlainAnswer:
        """Send sealed bytes; the answer as it came."""
        return await ask(self.app, "POST", paths.SEALED_PATH, sealed, paths.MEDIA_SEALED_REQUEST)

    async def call(self, method: str, path: str, value: Any = None, /, **bent: Any) -> InnerAnswer:
        """Seal, send, open. ``value`` is JSON, or bytes as they are."""
        body = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        parts = self.seal(method, path, body, **bent)
        answer = await self.send(parts.sealed)
        assert answer.headers["content-type"] == paths.MEDIA_SEALED_RESPONSE, answer
        return opened(parts.opener, answer.body)

    async def chat(self, content: str, **members: Any) -> InnerAnswer:
        """Ask one question."""
        request = {"model": "stub", "messages": [{"role": "user", "content": content}], **members}
        return await self.call("POST", paths.CHAT_PATH, request)

    def verified(self, parts: SealedRequestParts, answer: InnerAnswer) -> Receipt:
        """The receipt, held against all that this side knows."""
        assert answer.receipt_text is not None
        return verify_receipt(
            answer.receipt_text,
            receipt_key=self.keyset.receipt_key,
            now=self.clock(),
            receipt_id=answer.headers[paths.RECEIPT_ID_HEADER],
            statement_digest=STATEMENT,
            keyset_digest=self.keyset.digest,
            tenant=self.signer.thumbprint,
            sequence=parts.sequence,
            label_id=LABEL_ID,
            request_sha256=hashlib.sha256(parts.body).hexdigest(),
            response_sha256=hashlib.sha256(answer.body).hexdigest(),
            status=answer.status,
            adapter_digest=answer.headers.get(paths.ADAPTER_HEADER),
        )

    def receipt(self, answer: InnerAnswer) -> Receipt:
        """The receipt, if this runtime signed it."""
        assert answer.receipt_text is not None
        return open_receipt(answer.receipt_text, receipt_key=self.keyset.receipt_key)


def opened(opener: ChunkedResponseOpener, sealed: bytes) -> InnerAnswer:
    """Open a whole sealed answer."""
    decoder = bhttp.ResponseDecoder()
    events = [event for piece in opener.feed(sealed) for event in decoder.feed(piece)]
    events += [event for piece in opener.finish() for event in decoder.feed(piece)]
    events += decoder.finish()
    answer: InnerAnswer | None = None
    for event in events:
        if isinstance(event, bhttp.ResponseHead):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            answer = InnerAnswer(event.status, headers, b"", None)
        elif isinstance(event, bhttp.Content) and answer is not None:
            answer.body += event.data
            answer.parts.append(event.data)
        elif isinstance(event, bhttp.Trailers) and answer is not None:
            trailers = dict(event.fields)
            answer.receipt_text = trailers[paths.RECEIPT_TRAILER.encode()].decode()
    assert answer is not None
    return answer

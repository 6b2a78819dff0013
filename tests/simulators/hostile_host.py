"""A machine between gateway and runtime that speaks HTTP/1.1 byte by byte, and so can break it anywhere.

    async with HostileHost() as host:
        host.evidence = answer_evidence(peer)
        host.sealed = some_script
        ... host.url ...

A script gets the request and the writer, and writes whatever bytes it likes. The host records every byte that
it received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from attest.protocol import paths
from tests.simulators.mock_peer import MockPeer

Script = Callable[["HostRequest", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class HostRequest:
    """One request as the host got it."""

    method: str
    target: str
    body: bytes
    hung_up: asyncio.Event

    @property
    def nonce(self) -> str:
        """The nonce that was asked for."""
        return parse_qs(urlsplit(self.target).query)[paths.NONCE_PARAMETER][0]


class HostileHost:
    """A server on a free loopback port; ``evidence`` and ``sealed`` say how it answers."""

    def __init__(self) -> None:
        self.evidence: Script = hang
        self.sealed: Script = hang
        self.received = bytearray()
        self.requests: list[HostRequest] = []
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def sealed_requests(self) -> list[HostRequest]:
        """The requests that might have held data."""
        return [request for request in self.requests if request.method == "POST"]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()
        self._serving.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.received += head
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.received += body
        request = HostRequest(method, target, body, asyncio.Event())
        self.requests.append(request)
        watcher = asyncio.create_task(_watch(reader, request.hung_up))
        try:
            await (self.evidence if method == "GET" else self.sealed)(request, writer)
            await writer.drain()
        finally:
            watcher.cancel()


async def _watch(reader: asyncio.StreamReader, hung_up: asyncio.Event) -> None:
    with suppress(ConnectionError):
        while await reader.read(1024):
            pass
    hung_up.set()


# What a script may do


async def hang(request: HostRequest, writer: asyncio.StreamWriter) -> None:
    """Take the request and never answer."""
    await request.hung_up.wait()


async def hang_up(request: HostRequest, writer: asyncio.StreamWriter) -> None:
    """Take the request and close."""


def raw(data: bytes) -> Script:
    """Answer with these bytes, whatever they are."""

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return script


def respond(status: int, content_type: str, body: bytes, *fields: str) -> Script:
    """Answer properly."""
    head = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", f"content-length: {len(body)}"]
    head += ["connection: close", *fields, "", ""]
    return raw("\r\n".join(head).encode() + body)


def evidence_of(peer: MockPeer) -> Script:
    """Answer with the peer's honest evidence."""

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        await respond(200, paths.MEDIA_BUNDLE, peer.world.answer(request.nonce))(request, writer)

    return script


def sealed_head(*fields: str) -> bytes:
    """The head of a streamed sealed answer."""
    head = ["HTTP/1.1 200 OK", f"content-type: {paths.MEDIA_SEALED_RESPONSE}", "transfer-encoding: chunked"]
    return "\r\n".join([*head, "connection: close", *fields, "", ""]).encode()


def http_chunk(data: bytes) -> bytes:
    """``data`` as one chunk of HTTP/1.1."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def sealed_answer(
    answer: Callable[[bytes], Iterable[bytes]],
    *,
    parts: int | None = None,
    cut: int | None = None,
    ends_properly: bool = True,
    pause_s: float = 0.0,
) -> Script:
    """Answer with what ``answer`` makes of the sealed request.

    Args:
        answer: sealed bytes, part by part.
        parts: send only so many.
        cut: of the last part sent, send only so many bytes.
        ends_properly: whether the last HTTP chunk is sent.
        pause_s: between parts.
    """

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        sealed = list(answer(request.body))[:parts]
        if cut is not None:
            sealed[-1] = sealed[-1][:cut]
        writer.write(sealed_head())
        for part in sealed:
            writer.write(http_chunk(part))
            await writer.drain()
            await asyncio.sleep(pause_s)
        if ends_properly:
            writer.write(LAST_CHUNK)

    return script

"""HTTP/1.1 to the runtime, on asyncio: the part of a general client that the hot path needs.

A request leaves in one write, and connections are kept and reused, the newest first. There are no redirects,
no retries, no cookies, no proxies and no decompression to be switched off. How long anything may take is the
caller's to say, with ``asyncio.timeout``; only connecting is bounded here.

Nothing that arrives is believed: ``http1`` parses it, strictly and within bounds, and the caller judges it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self, TypeVar, cast

import httpx2

from gateway.upstream.http1 import AnswerReader, Head, NotHttp, request_bytes

T = TypeVar("T")

MAX_CONNECTIONS = 256
IDLE_S = 30.0  # a runtime closes after 60 s: a connection reused at that moment would lose a request for good
_PAUSE_AT_BYTES = 256 << 10
_DEFAULT_CONNECT_S = 5.0


class Carrier(httpx2.AsyncBaseTransport):
    """Carries requests to one runtime; also to others, should it be asked.

    Args:
        max_connections: open at once; more requests wait for as long as connecting may take.
        tls: for ``https`` addresses; by default the machine's roots.
    """

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._open: set[_Connection] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send once and return when the head of the answer has arrived.

        Raises:
            httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout: nothing was sent.
            httpx2.TransportError: it may have been.
        """
        connection = await self._connection(request)
        try:
            connection.send(request, await request.aread())
            head = await connection.head()
        except BaseException:
            self._release(connection)
            raise
        return httpx2.Response(head.status, headers=head.fields, stream=_Body(connection, self._release))

    async def aclose(self) -> None:
        """Close every connection, those in use too."""
        for connection in list(self._open):
            connection.abort()
        self._open.clear()
        self._idle.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def _connection(self, request: httpx2.Request) -> _Connection:
        connect_s = request.extensions.get("timeout", {}).get("connect", _DEFAULT_CONNECT_S)
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        origin = (url.scheme, url.host, port)
        try:
            async with asyncio.timeout(connect_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise httpx2.PoolTimeout("every connection is in use") from error
        try:
            return self._kept(origin) or await self._connect(origin, connect_s)
        except BaseException:
            self._slots.release()
            raise

    def _kept(self, origin: tuple[str, str, int]) -> _Connection | None:
        kept = self._idle.get(origin, [])
        oldest_use = asyncio.get_running_loop().time() - IDLE_S
        while kept:
            connection = kept.pop()
            if connection.is_quiet and connection.idle_since > oldest_use:
                return connection
            connection.abort()
            self._open.discard(connection)
        return None

    async def _connect(self, origin: tuple[str, str, int], connect_s: float) -> _Connection:
        scheme, host, port = origin
        tls = None
        if scheme == "https":
            tls = self._tls = self._tls or ssl.create_default_context()
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(origin), host, port, ssl=tls
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx2.ConnectError(type(error).__name__) from error
        self._open.add(connection)
        return connection

    def _release(self, connection: _Connection) -> None:
        self._slots.release()
        if connection.start_next():
            self._idle.setdefault(connection.origin, []).append(connection)
        else:
            connection.abort()
            self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, origin: tuple[str, str, int]) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._answer = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._arrived = asyncio.Event()
        self._buffered = 0
        self._ended = False
        self._in_use = True
        self._unasked = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        # Not by isinstance: uvloop's transports have the methods of asyncio.Transport and not its type.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes to the reader; slow the peer down where nobody reads them."""
        if not self._in_use:
            self._unasked = True  # an answer to nothing: never to be taken for the next request's
            return
        self._answer.feed(data)
        self._buffered += len(data)
        if self._buffered > _PAUSE_AT_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> None:
        """The peer will send no more."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Nor take more."""
        self._end()

    # One request

    @property
    def is_quiet(self) -> bool:
        """Whether it may be used: open, and nothing came unasked."""
        return not self._ended and not self._unasked

    def send(self, request: httpx2.Request, body: bytes) -> None:
        """Write the whole request at once."""
        self._in_use = True
        if self._transport is None or self._transport.is_closing():
            raise httpx2.WriteError("the connection was closed")
        try:
            data = request_bytes(
                request.method.encode("ascii"), request.url.raw_path, request.headers.raw, body
            )
        except ValueError as error:
            raise httpx2.LocalProtocolError(str(error)) from error
        self._transport.write(data)

    async def head(self) -> Head:
        """The head of the final answer; informational ones are passed over.

        Raises:
            httpx2.RemoteProtocolError: it is not HTTP/1.1, or ends too soon.
        """
        return await self._when_there(self._answer.head)

    async def content(self) -> bytes:
        """Some of the content, or nothing at its end; raises as ``head``."""
        return await self._when_there(self._answer.content)

    def start_next(self) -> bool:
        """Get ready for another request, if the last one ended properly on both sides."""
        if not self._answer.complete or not self._answer.keeps_open or self._answer.has_more or self._ended:
            return False
        self._answer = AnswerReader()
        self._in_use = False
        self.idle_since = asyncio.get_running_loop().time()
        return True

    def abort(self) -> None:
        """Close now; whoever waits hears of it."""
        if self._transport is not None:
            self._transport.abort()

    async def _when_there(self, read: Callable[[], T | None]) -> T:
        try:
            while (result := read()) is None:
                await self._more()
        except NotHttp as error:
            raise httpx2.RemoteProtocolError("not HTTP/1.1, or not all of it") from error
        return result

    async def _more(self) -> None:
        self._buffered = 0
        if self._transport is not None:
            self._transport.resume_reading()
        self._arrived.clear()
        await self._arrived.wait()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            if self._in_use:
                self._answer.end()
        self._arrived.set()


class _Body(httpx2.AsyncByteStream):
    """The body of one answer; closing it early closes the connection."""

    def __init__(self, connection: _Connection, release: Callable[[_Connection], None]) -> None:
        self._connection = connection
        self._release = release
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while content := await self._connection.content():
            yield content

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer has not ended."""
        if not self._closed:
            self._closed = True
            self._release(self._connection)

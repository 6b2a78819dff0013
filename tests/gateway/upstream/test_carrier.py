"""The carrier: one write, connections reused only where that is safe, nothing that arrives believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest

from gateway.upstream import carrier as carrier_module
from gateway.upstream.carrier import Carrier

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """A server that counts connections and answers each request with the next of ``answers``, then ``OK``."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.answers: list[bytes | None] = []
        self.url = ""
        self.closes = False
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the other side closes; ``None`` closes."""
        self.connections += 1
        self.writers.append(writer)
        try:
            while data := await reader.read(1 << 16):
                self.requests.append(data)
                answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    break
                writer.write(answer)
                if self.closes:
                    break
        except ConnectionError:
            pass
        writer.close()


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[Carrier]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with Carrier(max_connections=2) as carrier:
        yield carrier
    server.close()
    for writer in peer.writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    await server.wait_closed()


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def carrier(peer: Peer) -> AsyncIterator[Carrier]:
    async with serving(peer) as carrier:
        yield carrier


def post(peer: Peer, **extensions: object) -> httpx2.Request:
    return httpx2.Request("POST", f"{peer.url}/sealed?a=b", content=b"sealed", extensions=extensions)


async def ask(carrier: Carrier, peer: Peer) -> bytes:
    response = await carrier.handle_async_request(post(peer))
    content = await response.aread()
    await response.aclose()
    return content


async def test_a_request_leaves_whole_and_in_one_write(carrier: Carrier, peer: Peer) -> None:
    assert await ask(carrier, peer) == b"ok"
    (request,) = peer.requests
    assert request.startswith(b"POST /sealed?a=b HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\nsealed")


async def test_a_connection_is_reused(carrier: Carrier, peer: Peer) -> None:
    for _ in range(3):
        await ask(carrier, peer)
    assert (peer.connections, len(peer.requests)) == (1, 3)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        OK + OK,  # an answer that nobody asked for must not become the next request's
    ],
    ids=["close", "1.0", "two answers"],
)
async def test_a_connection_that_may_not_be_reused_is_not(carrier: Carrier, peer: Peer, first: bytes) -> None:
    peer.answers = [first]
    assert await ask(carrier, peer) == b"ok"
    await asyncio.sleep(0.01)
    assert await ask(carrier, peer) == b"ok"
    assert peer.connections == 2


async def test_an_answer_that_comes_unasked_later_is_not_the_next_requests(
    carrier: Carrier, peer: Peer
) -> None:
    await ask(carrier, peer)
    peer.writers[0].write(OK.replace(b"ok", b"no"))
    await asyncio.sleep(0.02)
    assert await ask(carrier, peer) == b"ok"
    assert peer.connections == 2


async def test_a_connection_that_the_peer_closed_is_not_reused(carrier: Carrier, peer: Peer) -> None:
    peer.answers = [OK, None]
    await ask(carrier, peer)
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(carrier, peer)
    assert await ask(carrier, peer) == b"ok"
    assert peer.connections == 2
    assert len(peer.requests) == 3  # and none of them was sent a second time


async def test_a_connection_idle_for_too_long_is_not_reused(
    carrier: Carrier, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_module, "IDLE_S", 0.0)
    await ask(carrier, peer)
    await ask(carrier, peer)
    assert peer.connections == 2


async def test_an_answer_closed_early_closes_its_connection(carrier: Carrier, peer: Peer) -> None:
    peer.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"]
    response = await carrier.handle_async_request(post(peer))
    await response.aclose()
    await ask(carrier, peer)
    assert peer.connections == 2


async def test_no_more_connections_than_allowed(carrier: Carrier, peer: Peer) -> None:
    peer.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"] * 2
    open_ones = [await carrier.handle_async_request(post(peer)) for _ in range(2)]
    with pytest.raises(httpx2.PoolTimeout):
        await carrier.handle_async_request(post(peer, timeout={"connect": 0.05}))
    for response in open_ones:
        await response.aclose()
    assert await ask(carrier, peer) == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nfield: " + b"x" * (1 << 20),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20",
    ],
    ids=["garbage", "length", "endless head", "chunk", "cut"],
)
async def test_what_is_not_http_is_an_error_and_the_connection_is_gone(
    carrier: Carrier, peer: Peer, answer: bytes
) -> None:
    peer.answers, peer.closes = [answer], True
    with pytest.raises(httpx2.RemoteProtocolError):
        await asyncio.wait_for(ask(carrier, peer), 1)
    assert await ask(carrier, peer) == b"ok"


async def test_a_large_answer_comes_whole_though_reading_was_paused(carrier: Carrier, peer: Peer) -> None:
    size = 5 << 20
    peer.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)]
    response = await carrier.handle_async_request(post(peer))
    await asyncio.sleep(0.05)
    assert len(await response.aread()) == size


async def test_nobody_there_is_a_connect_error(carrier: Carrier) -> None:
    with pytest.raises(httpx2.ConnectError):
        await carrier.handle_async_request(httpx2.Request("GET", "http://127.0.0.1:9/"))


async def test_an_informational_answer_is_passed_over(carrier: Carrier, peer: Peer) -> None:
    peer.answers = [b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK]
    assert await ask(carrier, peer) == b"ok"


async def test_closing_the_carrier_ends_what_is_under_way(carrier: Carrier, peer: Peer) -> None:
    peer.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"]
    response = await carrier.handle_async_request(post(peer))
    reading = asyncio.create_task(response.aread())
    await asyncio.sleep(0.01)
    await carrier.aclose()
    with pytest.raises(httpx2.RemoteProtocolError):
        await asyncio.wait_for(reading, 1)

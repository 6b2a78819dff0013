"""The verdict in force: asked for once, kept until it ends, renewed before that, and never used after."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from attest.mock.faults import FAULTS, apply_bundle_fault
from attest.mock.vendor import MockVendor
from attest.protocol import paths
from gateway.errors import GatewayError, RuntimeRefused, RuntimeUnreachable
from gateway.trust.judge import Judge
from gateway.trust.pool import BlockingVerifiedRuntimePool, VerifiedRuntimePool
from gateway.trust.verdict import PAUSE_AFTER_FAILURE
from gateway.upstream.outer import MAX_EVIDENCE_BYTES, Patience
from tests.simulators.mock_peer import TOLD_BY_PEERS, MockPeer

PATIENCE = Patience(evidence_s=0.5)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Now."""
        return self.now

    def forward(self, span: timedelta) -> None:
        """Let time pass."""
        self.now += span


class Evidence(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """Answers questions for evidence, honestly unless told otherwise, and counts them."""

    def __init__(self, peer: MockPeer) -> None:
        self.peer = peer
        self.asked = 0
        self.fault: str | None = None
        self.failure: Exception | None = None
        self.response: httpx2.Response | None = None
        self.delay_s = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Count and answer."""
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        return self._answer(request)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Count and answer."""
        self.asked += 1
        threading.Event().wait(self.delay_s)
        return self._answer(request)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.failure is not None:
            raise self.failure
        if self.response is not None:
            return self.response
        nonce = request.url.params[paths.NONCE_PARAMETER]
        world = self.peer.world
        bundle = world.answer(nonce) if self.fault is None else apply_bundle_fault(self.fault, world, nonce)
        return httpx2.Response(
            200, headers={"content-type": paths.MEDIA_BUNDLE}, stream=httpx2.ByteStream(bundle)
        )


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    return MockPeer(vendor)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def evidence(peer: MockPeer) -> Evidence:
    return Evidence(peer)


@pytest.fixture
async def pool(peer: MockPeer, evidence: Evidence, clock: Clock) -> AsyncIterator[VerifiedRuntimePool]:
    pool = VerifiedRuntimePool(
        "http://runtime",
        judge=Judge(peer.trust, peer.reference),
        transport=evidence,
        patience=PATIENCE,
        clock=clock,
    )
    yield pool
    await pool.aclose()


@pytest.fixture
def blocking(peer: MockPeer, evidence: Evidence, clock: Clock) -> BlockingVerifiedRuntimePool:
    return BlockingVerifiedRuntimePool(
        "http://runtime",
        judge=Judge(peer.trust, peer.reference),
        transport=evidence,
        patience=PATIENCE,
        clock=clock,
    )


async def test_however_many_wait_the_runtime_is_asked_once(
    pool: VerifiedRuntimePool, evidence: Evidence
) -> None:
    evidence.delay_s = 0.02
    runtimes = await asyncio.gather(*(pool.acquire() for _ in range(20)))
    assert evidence.asked == 1
    assert len({id(runtime) for runtime in runtimes}) == 1


def test_threads_ask_once_too(blocking: BlockingVerifiedRuntimePool, evidence: Evidence) -> None:
    evidence.delay_s = 0.02
    with ThreadPoolExecutor(8) as threads:
        runtimes = list(threads.map(lambda _: blocking.acquire(), range(8)))
    assert evidence.asked == 1
    assert len({id(runtime) for runtime in runtimes}) == 1


async def test_whoever_hangs_up_does_not_take_the_answer_from_the_others(
    pool: VerifiedRuntimePool, evidence: Evidence
) -> None:
    evidence.delay_s = 0.05
    first, second = asyncio.create_task(pool.acquire()), asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).is_mock
    assert evidence.asked == 1


async def test_every_question_has_a_nonce_of_its_own(pool: VerifiedRuntimePool) -> None:
    first = await pool.acquire()
    pool.forget(first)
    second = await pool.acquire()
    assert first.nonce != second.nonce


async def test_a_verdict_is_renewed_before_it_ends_and_nobody_waits(
    pool: VerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    first = await pool.acquire()
    clock.forward((first.valid_until - clock.now) * 0.8)
    evidence.delay_s = 0.02
    assert await pool.acquire() is first
    async with asyncio.timeout(20):
        while pool.current() is first:  # noqa: ASYNC110 - a renewal tells nobody
            await asyncio.sleep(0.01)
    assert evidence.asked == 2
    assert (await pool.acquire()).nonce != first.nonce


async def test_a_verdict_that_ended_is_not_used_one_last_time(
    pool: VerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    first = await pool.acquire()
    clock.now = first.valid_until
    evidence.failure = httpx2.ConnectError("down")
    with pytest.raises(RuntimeUnreachable):
        await pool.acquire()
    assert pool.current() is None


def test_a_blocking_verdict_that_ended_is_not_used_one_last_time(
    blocking: BlockingVerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    clock.now = blocking.acquire().valid_until
    evidence.failure = httpx2.ConnectError("down")
    with pytest.raises(RuntimeUnreachable):
        blocking.acquire()


async def test_unreachable_leaves_a_verdict_in_force(
    pool: VerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    first = await pool.acquire()
    clock.forward((first.valid_until - clock.now) * 0.8)
    evidence.failure = httpx2.ConnectError("down")
    for _ in range(3):
        assert await pool.acquire() is first
        await asyncio.sleep(0.01)
    assert evidence.asked == 2  # and the renewal is not hammered


async def test_a_runtime_that_lies_on_renewal_loses_the_verdict_it_had(
    pool: VerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    first = await pool.acquire()
    clock.forward((first.valid_until - clock.now) * 0.8)
    evidence.fault = "debug-guest"
    await pool.acquire()
    await asyncio.sleep(0.1)
    with pytest.raises(RuntimeRefused) as caught:
        await pool.acquire()
    assert caught.value.refusal == "snp-debug"


def test_a_blocking_runtime_that_lies_on_renewal_loses_its_verdict_at_once(
    blocking: BlockingVerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    first = blocking.acquire()
    clock.forward((first.valid_until - clock.now) * 0.8)
    evidence.fault = "debug-guest"
    for _ in range(2):
        with pytest.raises(RuntimeRefused):
            blocking.acquire()


def test_a_blocking_renewal_that_finds_nobody_leaves_the_verdict_in_force(
    blocking: BlockingVerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    first = blocking.acquire()
    clock.forward((first.valid_until - clock.now) * 0.8)
    evidence.failure = httpx2.ConnectError("down")
    assert blocking.acquire() is first


async def test_a_refusal_is_remembered_briefly_and_then_asked_again(
    pool: VerifiedRuntimePool, evidence: Evidence, clock: Clock
) -> None:
    evidence.fault = "wrong-measurement"
    for _ in range(5):
        with pytest.raises(RuntimeRefused):
            await pool.acquire()
    assert evidence.asked == 1
    clock.forward(PAUSE_AFTER_FAILURE)
    evidence.fault = None
    assert (await pool.acquire()).is_mock


@pytest.mark.parametrize("name", TOLD_BY_PEERS)
async def test_every_lie_in_the_evidence_is_refused_by_its_code(
    pool: VerifiedRuntimePool, evidence: Evidence, name: str
) -> None:
    evidence.fault = name
    with pytest.raises(RuntimeRefused) as caught:
        await pool.acquire()
    assert caught.value.refusal == FAULTS[name].expected_code
    assert pool.current() is None


@pytest.mark.parametrize(
    ("response", "kind", "refusal"),
    [
        (
            httpx2.Response(302, headers={"location": "http://elsewhere"}),
            RuntimeRefused,
            "evidence-http-status",
        ),
        (httpx2.Response(404), RuntimeRefused, "evidence-http-status"),
        (httpx2.Response(503), RuntimeUnreachable, None),
        (httpx2.Response(200, content=b"<html>"), RuntimeRefused, "evidence-media-type"),
        (
            httpx2.Response(
                200,
                headers={"content-type": paths.MEDIA_BUNDLE, "content-encoding": "gzip"},
                stream=httpx2.ByteStream(b""),
            ),
            RuntimeRefused,
            "evidence-media-type",
        ),
        (
            httpx2.Response(
                200,
                headers={"content-type": paths.MEDIA_BUNDLE},
                stream=httpx2.ByteStream(bytes(MAX_EVIDENCE_BYTES + 1)),
            ),
            RuntimeRefused,
            "evidence-too-large",
        ),
        (
            httpx2.Response(
                200, headers={"content-type": paths.MEDIA_BUNDLE}, stream=httpx2.ByteStream(b"{}")
            ),
            RuntimeRefused,
            "bundle-members",
        ),
    ],
    ids=["redirect", "not-found", "bad-gateway", "html", "compressed", "too-large", "empty"],
)
async def test_what_is_no_evidence_is_refused(
    pool: VerifiedRuntimePool,
    evidence: Evidence,
    response: httpx2.Response,
    kind: type[GatewayError],
    refusal: str | None,
) -> None:
    evidence.response = response
    with pytest.raises(kind) as caught:
        await pool.acquire()
    assert caught.value.refusal == refusal
    assert evidence.asked == 1


async def test_evidence_that_never_comes_is_unreachable(
    pool: VerifiedRuntimePool, evidence: Evidence
) -> None:
    evidence.delay_s = 5
    with pytest.raises(RuntimeUnreachable):
        await asyncio.wait_for(pool.acquire(), 2)


async def test_a_remembered_failure_does_not_grow(pool: VerifiedRuntimePool, evidence: Evidence) -> None:
    """Raised a thousand times, one exception would drag a thousand frames along."""
    evidence.failure = httpx2.ConnectError("down")
    depths = []
    for _ in range(5):
        with pytest.raises(RuntimeUnreachable) as caught:
            await pool.acquire()
        depths.append(len(caught.traceback))
    assert depths[1] == depths[-1]

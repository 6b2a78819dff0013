"""A live verdict is judged again at an interval, under what vendors say by then, and ends if it fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

import pytest

from attest.appraise import AttestedRuntime
from attest.evidence.bundle import Bundle
from attest.evidence.cpu import SnpEvidence
from attest.mock.machine import MockSnpCpu
from attest.mock.snp_certificates import VCEK_SERIAL
from attest.mock.vendor import MockVendor
from attest.refusal import Refused
from gateway.errors import RuntimeRefused
from gateway.trust.judge import Judge
from gateway.trust.pool import VerifiedRuntimePool
from gateway.trust.verdict import Verdict
from gateway.upstream.outer import Patience
from tests.gateway.trust.test_pool import Clock, Evidence
from tests.simulators.mock_peer import MockPeer


@dataclass(frozen=True)
class Later(Judge):
    """A judge who is told what the vendor says by now.

    Args:
        revoked: serial numbers on the vendor's newest list.
        failure: how asking for it fails, or None.
    """

    revoked: tuple[int, ...] = ()
    failure: Exception | None = None

    def completed(self, bundle: bytes, now: datetime) -> bytes:
        """The bundle with the newest list instead of the one that came along."""
        if self.failure is not None:
            raise self.failure
        parsed = Bundle.parse(bundle)
        assert isinstance(parsed.cpu, SnpEvidence)
        vendor = VENDORS[0]
        newest = vendor.revocation_list(self.revoked, now=now)
        collateral = replace(parsed.cpu.collateral, crl=newest)
        return replace(parsed, cpu=replace(parsed.cpu, collateral=collateral)).serialise()


VENDORS: list[MockVendor] = []


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    """An honest runtime."""
    peer = MockPeer(vendor)
    assert isinstance(peer.world.machine.cpu, MockSnpCpu)
    VENDORS[:] = [vendor]
    return peer


def _verdict(peer: MockPeer, now: datetime, **told: object) -> tuple[Verdict, AttestedRuntime]:
    rechecker = Later(peer.trust, peer.reference, **told)  # type: ignore[arg-type]  # tests name real members
    verdict = Verdict(Judge(peer.trust, peer.reference), rechecker)
    nonce = verdict.new_nonce()
    return verdict, verdict.judge(peer.world.answer(nonce), nonce, now)


def test_nothing_changed(peer: MockPeer) -> None:
    """The verdict stays the same object with the same end: what was proved did not become fresher."""
    now = Clock()()
    verdict, runtime = _verdict(peer, now)
    verdict.recheck(now)
    assert verdict.current(now) is runtime


def test_a_chip_that_was_revoked_meanwhile(peer: MockPeer) -> None:
    """Its verdict ends at the re-check, with the code that says why."""
    now = Clock()()
    verdict, _ = _verdict(peer, now, revoked=(VCEK_SERIAL,))
    with pytest.raises(RuntimeRefused) as refusal:
        verdict.recheck(now)
    assert refusal.value.refusal == "certificate-revoked"
    assert verdict.current(now) is None


@pytest.mark.parametrize("code", ["collateral-unreachable", "collateral-timeout", "collateral-busy"])
def test_services_that_do_not_answer(peer: MockPeer, code: str) -> None:
    """They leave the verdict in force until its own end: blocking a service does not end all sessions."""
    now = Clock()()
    verdict, runtime = _verdict(peer, now, failure=Refused(code, ""))
    verdict.recheck(now)
    assert verdict.current(now) is runtime


@pytest.mark.parametrize("code", ["collateral-status", "collateral-answer", "collateral-cache-altered"])
def test_services_that_answer_otherwise(peer: MockPeer, code: str) -> None:
    """A service that says no, or a cache that was changed, ends it."""
    now = Clock()()
    verdict, _ = _verdict(peer, now, failure=Refused(code, ""))
    with pytest.raises(RuntimeRefused):
        verdict.recheck(now)
    assert verdict.current(now) is None


def test_without_a_verdict_there_is_nothing_to_recheck(peer: MockPeer) -> None:
    """Before the first one, and where no re-check is configured."""
    now = Clock()()
    Verdict(Judge(peer.trust, peer.reference), Later(peer.trust, peer.reference)).recheck(now)
    verdict = Verdict(Judge(peer.trust, peer.reference))
    nonce = verdict.new_nonce()
    runtime = verdict.judge(peer.world.answer(nonce), nonce, now)
    verdict.recheck(now)
    assert verdict.current(now) is runtime


async def test_a_fault_of_ours_ends_the_verdict_and_not_the_rechecks(peer: MockPeer) -> None:
    """What cannot be judged is not believed; and the next interval comes all the same."""
    verdict, _ = _verdict(peer, Clock()(), failure=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        verdict.recheck(Clock()())
    assert verdict.current(Clock()()) is None
    refused = asyncio.Event()

    def on_judged(outcome: str) -> None:
        if outcome == "refused":
            refused.set()

    pool = VerifiedRuntimePool(
        "http://runtime",
        judge=Judge(peer.trust, peer.reference),
        rechecker=Later(peer.trust, peer.reference, failure=ZeroDivisionError()),
        transport=Evidence(peer),
        patience=Patience(evidence_s=5),
        on_judged=on_judged,
    )
    rechecks = asyncio.create_task(pool.recheck_every(0.02))
    async with asyncio.timeout(10):
        for _ in range(2):
            await pool.acquire()
            await refused.wait()
            refused.clear()
            assert pool.current() is None
    rechecks.cancel()
    await pool.aclose()


async def test_a_pool_rechecks_at_its_interval(peer: MockPeer) -> None:
    """In the background, again and again; the next request asks for evidence anew and is refused no more."""
    evidence, told, told_refused = Evidence(peer), [], []

    def on_judged(outcome: str) -> None:
        told.append(outcome)
        for tell in told_refused:
            tell()

    pool = VerifiedRuntimePool(
        "http://runtime",
        judge=Judge(peer.trust, peer.reference),
        rechecker=Later(peer.trust, peer.reference, revoked=(VCEK_SERIAL,)),
        transport=evidence,
        patience=Patience(evidence_s=5),
        on_judged=on_judged,
    )
    first = await pool.acquire()
    refused = asyncio.Event()
    told.clear()
    told_refused.append(refused.set)
    rechecks = asyncio.create_task(pool.recheck_every(0.02))
    async with asyncio.timeout(10):
        await refused.wait()
    rechecks.cancel()
    assert pool.current() is None
    assert told == ["refused"]
    assert await pool.acquire() is not first
    assert evidence.asked == 2
    await pool.aclose()

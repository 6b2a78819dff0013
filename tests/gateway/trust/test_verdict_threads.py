"""A verdict is judged and re-checked in threads while requests use it: what they see is always whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pytest

from attest.appraise import AttestedRuntime
from attest.mock.vendor import MockVendor
from attest.refusal import Refused
from gateway.errors import GatewayFault, RuntimeRefused
from gateway.trust.judge import Judge
from gateway.trust.verdict import Verdict
from tests.gateway.trust.test_pool import Clock
from tests.simulators.mock_peer import MockPeer


@dataclass(frozen=True)
class Interrupted(Judge):
    """A judge who refuses the first evidence that it is given, and remembers what it was given."""

    peers: list[MockPeer] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def judge(self, bundle: bytes, nonce: str | None, now: datetime) -> AttestedRuntime:
        """Refuse what came first."""
        self.seen.append(nonce or "")
        if nonce == self.seen[0]:
            raise Refused("certificate-revoked")
        return super().judge(bundle, nonce, now)


def _verdict(vendor: MockVendor) -> tuple[Verdict, Interrupted, AttestedRuntime, str]:
    peer = MockPeer(vendor)
    rechecker = Interrupted(peer.trust, peer.reference, peers=[peer])
    verdict = Verdict(Judge(peer.trust, peer.reference), rechecker)
    nonce = verdict.new_nonce()
    runtime = verdict.judge(peer.world.answer(nonce), nonce, Clock()())
    return verdict, rechecker, runtime, nonce


def test_a_verdict_that_is_dropped_while_it_is_looked_at(
    vendor: MockVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A re-check drops it between two looks of a request: that gets a verdict or none, never a fault."""
    verdict, _, runtime, _ = _verdict(vendor)
    require_live = AttestedRuntime.require_live

    def dropped_meanwhile(self: AttestedRuntime, now: datetime) -> None:
        verdict.forget(runtime)
        require_live(self, now)

    monkeypatch.setattr(AttestedRuntime, "require_live", dropped_meanwhile)
    assert verdict.current(Clock()()) is runtime
    assert verdict.current(Clock()()) is None


def test_an_ended_verdict_takes_no_newer_one_with_it(
    vendor: MockVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One found ended while a renewal finishes is dropped alone."""
    verdict, rechecker, _, _ = _verdict(vendor)
    renewed: list[AttestedRuntime] = []

    def ended(_: AttestedRuntime, now: datetime) -> None:
        monkeypatch.undo()
        nonce = verdict.new_nonce()
        renewed.append(verdict.judge(rechecker.peers[0].world.answer(nonce), nonce, now))
        raise Refused("verdict-expired")

    monkeypatch.setattr(AttestedRuntime, "require_live", ended)
    assert verdict.current(Clock()()) is None
    assert [verdict.current(Clock()())] == renewed


def test_a_verdict_is_dropped_for_its_own_evidence_only(
    vendor: MockVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that ends as a re-check begins is judged again too, and stays if it holds."""
    verdict, rechecker, runtime, nonce = _verdict(vendor)
    require_live = AttestedRuntime.require_live
    renewed: list[AttestedRuntime] = []

    def renewed_meanwhile(self: AttestedRuntime, now: datetime) -> None:
        monkeypatch.undo()
        fresh = verdict.new_nonce()
        renewed.append(verdict.judge(rechecker.peers[0].world.answer(fresh), fresh, now))
        require_live(self, now)

    monkeypatch.setattr(AttestedRuntime, "require_live", renewed_meanwhile)
    with pytest.raises(RuntimeRefused):
        verdict.recheck(Clock()())
    assert rechecker.seen[0] == nonce
    assert len(rechecker.seen) == 2
    assert [verdict.current(Clock()())] == renewed
    assert renewed != [runtime]


def test_what_was_judged_while_a_recheck_said_no_is_judged_again(vendor: MockVendor) -> None:
    """A renewal that began before the revocation was known does not bring its older collateral into force."""
    peer = MockPeer(vendor)
    now = Clock()()
    verdicts: list[Verdict] = []

    class Slow(Judge):
        asked = 0

        def judge(self, bundle: bytes, nonce: str | None, now: datetime) -> AttestedRuntime:
            Slow.asked += 1
            if Slow.asked == 3:
                raise Refused("certificate-revoked")
            runtime = super().judge(bundle, nonce, now)
            if Slow.asked == 2:
                with pytest.raises(RuntimeRefused):
                    verdicts[0].recheck(now)
            return runtime

    rechecker = Interrupted(peer.trust, peer.reference)
    verdicts.append(verdict := Verdict(Slow(peer.trust, peer.reference), rechecker))
    first, second = verdict.new_nonce(), verdict.new_nonce()
    verdict.judge(peer.world.answer(first), first, now)
    with pytest.raises(RuntimeRefused, match="certificate-revoked"):
        verdict.judge(peer.world.answer(second), second, now)
    assert verdict.current(now) is None


def test_a_fault_of_ours_is_remembered_like_a_refusal(vendor: MockVendor) -> None:
    """So that requests are answered at once, and evidence is not judged again for each."""
    peer = MockPeer(vendor)

    class Broken(Judge):
        def judge(self, bundle: bytes, nonce: str | None, now: datetime) -> AttestedRuntime:  # noqa: ARG002 - its base names them
            raise ZeroDivisionError

    verdict = Verdict(Broken(peer.trust, peer.reference))
    nonce = verdict.new_nonce()
    with pytest.raises(GatewayFault, match="ZeroDivisionError"):
        verdict.judge(peer.world.answer(nonce), nonce, Clock()())

"""A verdict is judged and re-checked in threads while requests use it: what they see is always whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pytest

from attest.appraise import AttestedRuntime
from attest.mock.vendor import MockVendor
from attest.refusal import Refused
from gateway.errors import RuntimeRefused
from gateway.trust.judge import Judge
from gateway.trust.verdict import Verdict
from tests.gateway.trust.test_pool import Clock
from tests.simulators.mock_peer import MockPeer


@dataclass(frozen=True)
class Interrupted(Judge):
    """A judge who refuses what it is given, and remembers what that was."""

    peers: list[MockPeer] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def judge(self, bundle: bytes, nonce: str | None, now: datetime) -> AttestedRuntime:  # noqa: ARG002 - its base names them
        """Refuse."""
        self.seen.append(nonce or "")
        raise Refused("certificate-revoked")


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
    """A renewal that ends as a re-check begins: what is judged again and what is dropped are one pair."""
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
    assert rechecker.seen == [nonce]
    assert [verdict.current(Clock()())] == renewed
    assert renewed != [runtime]

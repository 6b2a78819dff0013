"""The judge between pool and verifiers: refusals about collateral have rows, and key sets age."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.accepted.quorum import QuorumReference
from attest.checks import Outcome
from attest.collateral import items
from attest.collateral.cache import Cache
from attest.collateral.source import Offline
from attest.mock.vendor import MockVendor
from attest.refusal import Refused
from gateway.trust.judge import KEYS_LIFETIME, Judge
from tests.simulators.mock_peer import MockPeer

NONCE = "ab" * 32
QUORUM = QuorumReference(services=frozenset({"nras"}))


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    """An honest runtime with one GPU."""
    return MockPeer(vendor)


def test_missing_keys_are_a_row_after_those_that_held(peer: MockPeer, tmp_path: Path) -> None:
    """Whoever reads the tree sees that the evidence was genuine, and what was not at hand."""
    judge = Judge(peer.trust, replace(peer.reference, quorum=QUORUM), Offline(Cache(tmp_path)))
    with pytest.raises(Refused) as refusal:
        judge.judge(peer.world.answer(NONCE), NONCE, datetime.now(UTC))
    assert refusal.value.code == "collateral-missing"
    assert len(refusal.value.checks) > 10
    last = refusal.value.checks[-1]
    assert (last.part, last.outcome) == (("collateral",), Outcome.REFUSED)
    assert last.expected == items.nras_keys().key


def test_a_key_set_ages_from_when_it_was_fetched(peer: MockPeer, tmp_path: Path) -> None:
    """Offline too: a key that was withdrawn since would satisfy the quorum for ever."""
    now, cache = datetime.now(UTC), Cache(tmp_path)
    judge = Judge(peer.trust, replace(peer.reference, quorum=QUORUM), Offline(cache))
    for age in (timedelta(0), KEYS_LIFETIME + timedelta(seconds=1)):
        cache.write(items.nras_keys().key, b'{"keys":[]}', now - age)
        keys = judge._keys(now).nras
        assert keys is not None
        assert keys.not_after is not None
        assert (keys.not_after > now) is (age < KEYS_LIFETIME)

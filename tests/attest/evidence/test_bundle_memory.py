"""What reading a bundle may cost, whatever its bytes are."""

from __future__ import annotations

import tracemalloc

import pytest

from attest.evidence.bundle import MAX_BUNDLE_BYTES, Bundle
from attest.mock.world import MockWorld
from attest.refusal import Malformed
from tests.simulators.mock_runtime import NONCE

MEMORY = 64 * 1024 * 1024


@pytest.mark.parametrize("part", [b"[]", b'{"":0}', b"{}", b"[0]"])
def test_as_many_small_parts_as_fit(part: bytes) -> None:
    """They take many times their length once they are read, so they are counted before."""
    count = (MAX_BUNDLE_BYTES - 100) // (len(part) + 1)
    bundle = b'{"format":[' + (part + b",") * count + b"0]}"
    tracemalloc.start()
    try:
        with pytest.raises(Malformed) as refusal:
            Bundle.parse(bundle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal.value.code == "bundle-members"
    assert "parts" in refusal.value.reason
    assert peak < MEMORY


def test_a_whole_board_is_far_from_the_bound(board_world: MockWorld) -> None:
    """Eight devices with all their collateral."""
    bundle = board_world.bundle(NONCE)
    assert Bundle.parse(bundle.serialise()) == bundle

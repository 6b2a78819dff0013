"""What devices hand over: the kind that an architecture has, and values that may be a cache's keys."""

from __future__ import annotations

import pytest

from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.gpu import Architecture, GpuEvidence
from attest.refusal import Malformed


@pytest.mark.parametrize(
    ("arch", "kind", "other"),
    [
        ("HOPPER", "nvidia-gpu", "nvidia-switch"),
        ("BLACKWELL", "nvidia-gpu", "nvidia-switch"),
        ("LS10", "nvidia-switch", "nvidia-gpu"),
    ],
)
def test_an_architecture_has_one_kind(arch: Architecture, kind: str, other: str) -> None:
    """A switch is never taken for a GPU, nor the other way round."""
    evidence = GpuEvidence(arch, b"report", b"chain")
    assert DeviceEvidence.of(3, evidence).kind == kind
    with pytest.raises(Malformed, match="device-kind"):
        DeviceEvidence(other, 3, evidence)  # type: ignore[arg-type]  # a kind


def test_collateral_may_be_a_key() -> None:
    """What was equal is found again, whatever golden values it holds."""
    one, other = (NvidiaCollateral({"name": b"rim"}, (b"answer",)) for _ in range(2))
    assert {one: 1}[other] == 1
    assert repr(one) == "NvidiaCollateral(1 RIMs, 1 OCSP responses)"

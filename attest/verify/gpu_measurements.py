"""Is what a device measured what its vendor published? (golden values against SPDM blocks)"""

from __future__ import annotations

from typing import Final

from attest.checks import CheckList
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.rim import Golden, Rim
from attest.refusal import Refused

CLAUSE: Final = "NVIDIA RIM, active measurements"
NVDEC0_INDEX: Final = 35  # not measured while the video decoder is off
_SHOWN_BYTES: Final = 12


def require_match(
    facts: GpuFacts, measurements: tuple[bytes, ...], rims: tuple[Rim, ...], checks: CheckList
) -> tuple[int, ...]:
    """Require that every active golden value is among the device's; returns the indices that matched.

    RIM index i speaks of block i + 1. Every index that differs is named, with what was expected and what
    came, as a row of its own and in the refusal.

    Raises:
        Refused: ``rim-index-conflict``, ``gpu-measurement-missing``, ``gpu-measurement-mismatch``.
    """
    golden = _merged(rims)
    skipped = () if facts.nvdec0_enabled else (NVDEC0_INDEX,)
    compared = [value for index, value in sorted(golden.items()) if index not in skipped]
    missing = [value.index for value in compared if value.index >= len(measurements)]
    if missing:
        raise Refused(
            "gpu-measurement-missing",
            CLAUSE,
            expected=f"blocks for the indices {missing}",
            got=f"{len(measurements)} blocks",
        )
    differing = [value for value in compared if measurements[value.index] not in value.alternatives]
    for value in differing:
        expected = " or ".join(each.hex() for each in value.alternatives)
        checks.noted(
            f"GPU measurement {value.index} ({value.name})",
            CLAUSE,
            expected=expected,
            got=measurements[value.index].hex(),
        )
    if differing:
        raise Refused(
            "gpu-measurement-mismatch",
            CLAUSE,
            expected="; ".join(_expected(value) for value in differing),
            got="; ".join(f"{value.index}: {_short(measurements[value.index])}" for value in differing),
        )
    return tuple(value.index for value in compared)


def _merged(rims: tuple[Rim, ...]) -> dict[int, Golden]:
    """Both manifests' active values. An index that both claim could be answered for the laxer one."""
    merged: dict[int, Golden] = {}
    for rim in rims:
        both = sorted(merged.keys() & rim.active.keys())
        if both:
            raise Refused(
                "rim-index-conflict",
                CLAUSE,
                expected="each index active in one manifest",
                got=f"indices {both} active in both",
            )
        merged |= rim.active
    return merged


def _expected(value: Golden) -> str:
    return f"{value.index}: {' or '.join(_short(each) for each in value.alternatives)}"


def _short(digest: bytes) -> str:
    return f"{digest[:_SHOWN_BYTES].hex()}.."

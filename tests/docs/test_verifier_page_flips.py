"""A flipped bit is refused by both verifiers, for the same reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from attest.evidence.cpu import SnpEvidence
from tests.simulators.mock_runtime import NONCE
from tests.simulators.two_verifiers import (
    HOLDS,
    BothVerifiers,
    flips,
)


@pytest.mark.parametrize("part", ["report", "statement", "keyset"])
def test_flipped_bit(part: str, both: BothVerifiers) -> None:
    """The same code, wherever the bit."""
    bundle = both.world.bundle(NONCE)
    assert isinstance(bundle.cpu, SnpEvidence)
    if part == "report":
        parts = [
            replace(bundle, cpu=replace(bundle.cpu, report=each)) for each in flips(bundle.cpu.report, 500)
        ]
    else:
        parts = [replace(bundle, **{part: each}) for each in flips(getattr(bundle, part), 300)]
    verdicts = both.judge([each.serialise() for each in parts])
    assert [pair for pair in verdicts if pair[0] != pair[1]] == []
    assert HOLDS not in [page for _, page in verdicts]


@pytest.mark.parametrize("part", ["leaf", "intermediate", "ark"])
def test_flipped_bit_of_a_certificate(part: str, both: BothVerifiers) -> None:
    """Both refuse. Where the bit breaks the encoding the two readers may stumble at different places."""
    bundle = both.world.bundle(NONCE)
    assert isinstance(bundle.cpu, SnpEvidence)
    collateral = bundle.cpu.collateral
    changed = flips(getattr(collateral, part), 200)
    cpus = [replace(bundle.cpu, collateral=replace(collateral, **{part: each})) for each in changed]
    verdicts = both.judge([replace(bundle, cpu=cpu).serialise() for cpu in cpus])
    assert HOLDS not in {verdict for pair in verdicts for verdict in pair}
    same = sum(product == page for product, page in verdicts)
    assert same / len(verdicts) > 0.9, Counter(pair for pair in verdicts if pair[0] != pair[1])


def test_base64_of_the_bundle_flipped(both: BothVerifiers) -> None:
    """One bit of the document as it is stored."""
    verdicts = both.judge(list(flips(both.world.answer(NONCE), 400)))
    codes = [(product[1] or "", page[1] or "") for product, page in verdicts if product != page]
    # Revocation lists are not opened by the page; inside certificates see the test above.
    assert [pair for pair in codes if not pair[0].startswith(("crl-", "certificate-"))] == []
    assert [pair for pair in codes if not pair[1] and not pair[0].startswith("crl-")] == []
    assert len(codes) < len(verdicts) / 10

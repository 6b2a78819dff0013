"""One flipped bit anywhere in the evidence refuses. Reports: every bit. Certificates and lists: a sample."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from attest.checks import CheckList
from attest.collateral.snp import SnpCollateral, SnpRoots, amd_intermediate
from attest.evidence.snp import REPORT_SIZE, SIGNED_SIZE
from attest.refusal import Refused
from attest.verify.snp import verify_snp
from tests.simulators.genuine_snp import POSITIVE, GenuineCase
from tests.simulators.snp_world import NOW, SnpWorld

REPORT_BITS = REPORT_SIZE * 8
SIGNATURE_BITS = range(0x2A0 * 8, 0x330 * 8)
TAIL_BITS = range(0x330 * 8, REPORT_BITS)
CERTIFICATE_SAMPLE = 1500


def flipped(data: bytes, bit: int) -> bytes:
    """``data`` with one bit inverted."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def codes_of_flips(data: bytes, bits: Iterable[int], verify: Callable[[bytes], object]) -> Counter[str]:
    """Flip each bit in turn; require a refusal; count the codes."""
    codes: Counter[str] = Counter()
    for bit in bits:
        try:
            verify(flipped(data, bit))
        except Refused as refusal:
            codes[refusal.code] += 1
        else:
            pytest.fail(f"bit {bit % 8} of byte {bit // 8} was flipped unseen")
    return codes


def require_report_codes(report: bytes, verify: Callable[[bytes], object]) -> None:
    """All 9472 bits, and that each region is refused for its own reason."""
    verify(report)
    assert len(report) == REPORT_SIZE
    data_bits = range(0x50 * 8, 0x180 * 8)  # REPORT_DATA to REPORT_ID_MA: no structure, so only the signature
    assert codes_of_flips(report, data_bits, verify) == {"snp-report-signature": len(data_bits)}
    assert codes_of_flips(report, TAIL_BITS, verify) == {"snp-report-reserved-not-zero": len(TAIL_BITS)}
    signature_codes = codes_of_flips(report, SIGNATURE_BITS, verify)
    assert set(signature_codes) <= {
        "snp-report-signature",
        "snp-signature-range",
        "snp-report-reserved-not-zero",
    }
    rest = [*range(0x50 * 8), *range(0x180 * 8, SIGNED_SIZE * 8)]
    tried = len(data_bits) + len(TAIL_BITS) + len(SIGNATURE_BITS) + len(rest)
    assert tried == REPORT_BITS
    codes_of_flips(report, rest, verify)


def test_every_bit_of_a_mock_report(world: SnpWorld) -> None:
    """All 9472 bits of a mock report, the unsigned tail included."""
    collateral = world.collateral()
    require_report_codes(world.report(), lambda report: world.verify(report, collateral))


@pytest.mark.shared
@pytest.mark.parametrize(
    "leaf",
    ["turin-v5-aci/vcek.pem", pytest.param("milan-v3-vlek-aws/vlek.der", marks=pytest.mark.slow)],
)
def test_every_bit_of_a_genuine_report(leaf: str, sev_snp: Path) -> None:
    """All 9472 bits of genuine reports: one VCEK, one VLEK."""
    case = next(each for each in POSITIVE if each.leaf == leaf)
    report, der = case.read(sev_snp)
    collateral, roots = SnpCollateral(der), SnpRoots(amd=True)
    require_report_codes(
        report, lambda changed: verify_snp(changed, collateral, roots, now=case.now, checks=CheckList())
    )


@pytest.mark.shared
@pytest.mark.parametrize("case", POSITIVE, ids=str)
def test_sampled_bits_of_each_genuine_certificate(case: GenuineCase, sev_snp: Path) -> None:
    """Bits of the leaf and of the intermediate, at AMD's own root."""
    report, leaf = case.read(sev_snp)
    intermediate = amd_intermediate(case.product, case.key)  # type: ignore[arg-type]  # a table of literals
    good = SnpCollateral(leaf, intermediate)
    roots = SnpRoots(amd=True)
    for name in ("leaf", "intermediate"):
        der = getattr(good, name)
        bits = random.Random(name).sample(range(len(der) * 8), 300)  # noqa: S311  a repeatable sample

        def verify(changed: bytes, part: str = name) -> object:
            collateral = replace(good, **{part: changed})
            return verify_snp(report, collateral, roots, now=case.now, checks=CheckList())

        codes_of_flips(der, bits, verify)


@pytest.mark.parametrize("name", ["leaf", "intermediate", "ark", "crl"])
def test_sampled_bits_of_mock_collateral(name: str, world: SnpWorld) -> None:
    """Bits of every part of the chain and of the list; the root's bits are pinned by its digest."""
    report, good = world.report(), world.collateral(crl=world.crl(5, 6, 7))
    der = getattr(good, name)
    sample = min(CERTIFICATE_SAMPLE, len(der) * 8)
    bits = random.Random(name).sample(range(len(der) * 8), sample)  # noqa: S311  a repeatable sample
    codes = codes_of_flips(der, bits, lambda changed: world.verify(report, replace(good, **{name: changed})))
    if name == "ark":
        assert codes == {"snp-root-not-trusted": sample}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaf", "intermediate", "crl"])
def test_every_bit_of_mock_collateral(name: str, world: SnpWorld) -> None:
    """All of them, where the time is there."""
    report, good = world.report(), world.collateral(crl=world.crl(5))
    der = getattr(good, name)
    codes_of_flips(
        der, range(len(der) * 8), lambda changed: world.verify(report, replace(good, **{name: changed}))
    )


def test_flips_do_not_poison_what_is_kept(world: SnpWorld) -> None:
    """A refused chain leaves nothing behind: the good one still verifies, and still ends in time."""
    report, good = world.report(), world.collateral()
    for bit in range(0, len(good.intermediate or b"") * 8, 997):
        with pytest.raises(Refused):
            world.verify(report, replace(good, intermediate=flipped(good.intermediate or b"", bit)))
    world.verify(report, good)
    with pytest.raises(Refused, match="certificate-expired"):
        world.verify(report, good, now=NOW + timedelta(days=30 * 365))

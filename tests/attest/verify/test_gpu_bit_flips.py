"""One flipped bit anywhere in the evidence refuses; every bit of reports where the time is there."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import GpuEvidence
from attest.evidence.pem import read_certificates
from attest.refusal import Refused
from attest.verify.nvidia import verify_report
from attest.verify.rim import verify_rim
from tests.simulators.genuine_nvidia import COMPLETE, REPORTS, SUMMER_2025
from tests.simulators.gpu_world import NONCE, NOW, GpuWorld

SAMPLE = 400


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


def sampled(data: bytes, seed: str, count: int = SAMPLE) -> list[int]:
    """A repeatable sample of bits."""
    return random.Random(seed).sample(range(len(data) * 8), min(count, len(data) * 8))  # noqa: S311  a sample


def pem(ders: Iterable[bytes]) -> bytes:
    """A chain."""
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(der) + b"\n-----END CERTIFICATE-----\n"
        for der in ders
    )


def require_every_bit(
    evidence: GpuEvidence, roots: NvidiaRoots, nonce: bytes | None, bits: Iterable[int]
) -> None:
    """The report's bits, with the code of its measured part."""

    def verify(report: bytes) -> object:
        changed = replace(evidence, report=report)
        return verify_report(changed, roots, nonce=nonce, now=SUMMER_2025, checks=CheckList())

    verify(evidence.report)
    codes = codes_of_flips(evidence.report, bits, verify)
    assert codes["gpu-report-signature"] > sum(codes.values()) * 0.7


@pytest.mark.shared
@pytest.mark.parametrize("case", REPORTS[:6], ids=str)
def test_sampled_bits_of_genuine_reports(case: object, nvidia_vectors: Path) -> None:
    """Bits of each genuine report, the trailing NUL included; the nonce is asked for nowhere."""
    evidence = case.read(nvidia_vectors)  # type: ignore[attr-defined]  # a case
    bits = sampled(evidence.report, str(case))
    require_every_bit(evidence, NvidiaRoots(nvidia=True), None, bits)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("case", [REPORTS[4], REPORTS[5], REPORTS[-1]], ids=str)
def test_every_bit_of_genuine_reports(case: object, nvidia_vectors: Path) -> None:
    """All bits of a Hopper's, a Blackwell's and a switch's report."""
    evidence = case.read(nvidia_vectors)  # type: ignore[attr-defined]  # a case
    require_every_bit(evidence, NvidiaRoots(nvidia=True), None, range(len(evidence.report) * 8))


def test_sampled_bits_of_a_mock_report(gpu_world: GpuWorld) -> None:
    """Through the whole verification."""
    good = gpu_world.evidence()

    def verify(report: bytes) -> object:
        return gpu_world.verify(evidence=replace(good, report=report))

    codes = codes_of_flips(good.report, sampled(good.report, "mock"), verify)
    assert codes["gpu-report-signature"]
    nonce_bits = range(4 * 8, 36 * 8)
    assert codes_of_flips(good.report, nonce_bits, verify) == {"gpu-nonce": len(nonce_bits)}


@pytest.mark.shared
def test_sampled_bits_of_a_genuine_chain(nvidia_vectors: Path) -> None:
    """Bits of every certificate; the root's are pinned."""
    evidence = REPORTS[0].read(nvidia_vectors)
    ders = read_certificates(evidence.certificate_chain)
    for place, der in enumerate(ders):

        def verify(changed: bytes, place: int = place) -> object:
            chain = pem([*ders[:place], changed, *ders[place + 1 :]])
            altered = replace(evidence, certificate_chain=chain)
            roots = NvidiaRoots(nvidia=True)
            return verify_report(altered, roots, nonce=None, now=SUMMER_2025, checks=CheckList())

        verify(der)
        codes_of_flips(der, sampled(der, str(place), 200), verify)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["driver_rim", "vbios_rim"])
def test_sampled_bits_of_a_genuine_manifest(name: str, nvidia_vectors: Path) -> None:
    """Bits of the document, of which some are white space that nothing reads: those must change nothing."""
    document = (nvidia_vectors / COMPLETE / f"{name}.xml").read_bytes()
    roots = NvidiaRoots(nvidia=True)
    good = verify_rim(document, roots)
    unseen = 0
    for bit in sampled(document, name, 1000):
        try:
            assert verify_rim(flipped(document, bit), roots).rim == good.rim
        except Refused:
            continue
        unseen += 1
    assert unseen < 30  # case of certificates' line ends and of prefixes that come in pairs


def test_sampled_bits_of_answers(gpu_world: GpuWorld) -> None:
    """Bits of an answer refuse, or make it one about nobody here."""
    good = gpu_world.collateral()
    answer = good.ocsp[0]

    def verify(changed: bytes) -> object:
        verified = gpu_world.verify(
            collateral=replace(good, ocsp=(changed, *good.ocsp[1:])), nonce=NONCE, now=NOW
        )
        if verified.revocation_checked:
            return verified
        raise Refused("unanswered")

    verify(answer)
    codes_of_flips(answer, sampled(answer, "answer", 150), verify)

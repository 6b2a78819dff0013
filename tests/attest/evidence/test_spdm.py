"""The SPDM reader: every length, every order, and any bytes at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.gpu import ARCHITECTURES, MAX_REPORT_BYTES
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.pem import read_certificates
from attest.evidence.rim import Rim, parse_xml
from attest.evidence.spdm import SpdmReport
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu, measurements, opaque_data, sign, signed_report
from attest.refusal import Malformed, Refused
from attest.verify.xml_signature import EnvelopedSignature
from tests.simulators.gpu_world import NONCE

REQUEST_SIZE = 37
RECORD = REQUEST_SIZE + 8
BLOCK = 55
P384_ORDER = int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)


@pytest.fixture(scope="module")
def report(gpu_vendor: MockGpuVendor) -> bytes:
    """A good report."""
    return gpu_vendor.evidence(NONCE).report


def test_what_it_reads(report: bytes) -> None:
    """Nonce, blocks and fields as they were written; the signed part ends where the signature begins."""
    parsed = SpdmReport.parse(report)
    assert parsed.nonce == NONCE
    assert parsed.measurements == measurements(MockGpu())
    assert parsed.opaque == opaque_data(MockGpu())
    assert parsed.signed == report[:-96]


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, b"\x12", "spdm-message"),
        (1, b"\xe1", "spdm-message"),
        (2, b"\x00", "spdm-message"),
        (3, b"\x01", "spdm-message"),
        (36, b"\x01", "spdm-slot"),
        (37, b"\x10", "spdm-message"),
        (38, b"\x7f", "spdm-message"),
        (41, b"\x3f", "spdm-blocks"),
        (41, b"\x00\x00\x00\x00", "spdm-blocks"),
        (42, b"\x00\x00\x01", "spdm-blocks"),
        (RECORD, b"\x02", "spdm-blocks"),
        (RECORD + BLOCK, b"\x01", "spdm-blocks"),
        (RECORD + 1, b"\x02", "spdm-blocks"),
        (RECORD + 2, b"\x34", "spdm-blocks"),
        (RECORD + 4, b"\x81", "spdm-blocks"),
        (RECORD + 5, b"\x20", "spdm-blocks"),
        (RECORD + 64 * BLOCK + 32, b"\xff\xff", "spdm-report-truncated"),
        (RECORD + 64 * BLOCK + 32 + 4, b"\xff\xff", "spdm-report-truncated"),  # one of its fields
    ],
)
def test_one_field(offset: int, value: bytes, code: str, report: bytes) -> None:
    """Each structural byte has one value."""
    changed = report[:offset] + value + report[offset + len(value) :]
    with pytest.raises(Refused) as refusal:
        SpdmReport.parse(changed)
    assert refusal.value.code == code


def test_more_blocks_than_there_can_be(gpu_vendor: MockGpuVendor) -> None:
    """65 blocks are not a report, though they hang together."""
    key = gpu_vendor.device(MockGpu())[0].key
    with pytest.raises(Refused, match="spdm-blocks"):
        SpdmReport.parse(signed_report(NONCE, (bytes(48),) * 65, {}, key))
    with pytest.raises(ValueError, match="32 bytes"):
        signed_report(b"", (bytes(48),), {}, key)


def test_a_field_twice(report: bytes, gpu_vendor: MockGpuVendor) -> None:
    """The second of two fields with one number could be read by somebody else."""
    start = RECORD + 64 * BLOCK + 32
    size = int.from_bytes(report[start : start + 2], "little")
    field = b"\x24\x00\x02\x00\x02\x00"  # FEATURE_FLAG again, with another value
    message = report[:start] + (size + len(field)).to_bytes(2, "little") + report[start + 2 : -96] + field
    with pytest.raises(Refused, match="spdm-opaque"):
        SpdmReport.parse(sign(message, gpu_vendor.device(MockGpu())[0].key))


def test_a_refusal_says_where(report: bytes, gpu_vendor: MockGpuVendor) -> None:
    """The offset of the field that is wrong, for whoever looks into the bytes."""
    end = len(report)
    opaque = RECORD + 64 * BLOCK + 32
    for changed, offset in (
        (report[:41] + b"\x3f" + report[42:], 41),
        (report[: RECORD + BLOCK] + b"\x01" + report[RECORD + BLOCK + 1 :], RECORD + BLOCK),
        (report[: end - 96] + bytes(48) + report[end - 48 :], end - 96),
        (report + b"\x01", end),
    ):
        with pytest.raises(Malformed) as refusal:
            SpdmReport.parse(changed)
        assert refusal.value.offset == offset
    size = int.from_bytes(report[opaque : opaque + 2], "little")
    twice = report[opaque + 2 : opaque + 2 + 4 + int.from_bytes(report[opaque + 4 : opaque + 6], "little")]
    longer = (size + len(twice)).to_bytes(2, "little")
    with pytest.raises(Malformed) as refusal:
        SpdmReport.parse(
            report[:opaque] + longer + report[opaque + 2 : end - 96] + twice + report[end - 96 :]
        )
    assert (refusal.value.code, refusal.value.offset) == ("spdm-opaque", size)  # within the opaque data
    with pytest.raises(Malformed, match="spdm-report-truncated at byte 0"):
        SpdmReport.parse(b"")


def test_the_least_and_the_most(report: bytes, gpu_vendor: MockGpuVendor) -> None:
    """One block, and signatures of the smallest and the largest numbers, are read."""
    key = gpu_vendor.device(MockGpu())[0].key
    assert len(SpdmReport.parse(signed_report(NONCE, (bytes(48),), {}, key)).measurements) == 1
    head = report[:-96]
    for value in (1, P384_ORDER - 1):
        raw = value.to_bytes(48)
        assert SpdmReport.parse(head + raw + raw).signature_r == value
    with pytest.raises(Malformed, match="spdm-signature-range"):
        SpdmReport.parse(head + P384_ORDER.to_bytes(48) + bytes(47) + b"\x01")


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("value", [bytes(48), b"\xff" * 48])
def test_signature_range(half: int, value: bytes, report: bytes) -> None:
    """Zero and numbers beyond the order are no signature."""
    start = len(report) - 96 + 48 * half
    with pytest.raises(Refused, match="spdm-signature-range"):
        SpdmReport.parse(report[:start] + value + report[start + 48 :])


def test_what_follows_the_signature(report: bytes) -> None:
    """One NUL, as the driver leaves it, or nothing; a report of 16 KiB is still looked at."""
    assert SpdmReport.parse(report + b"\x00") == SpdmReport.parse(report)
    for tail in (b"\x01", b"X", b"\x00\x00", bytes(MAX_REPORT_BYTES - len(report))):
        with pytest.raises(Malformed) as refusal:
            SpdmReport.parse(report + tail)
        assert refusal.value.code == "spdm-report-trailing-bytes"


def test_every_shorter_report_and_a_huge_one(report: bytes) -> None:
    """Cut anywhere, it is truncated, opaque or of other blocks; too long, it is not looked at."""
    for length in range(len(report)):
        with pytest.raises(Refused):
            SpdmReport.parse(report[:length])
    with pytest.raises(Refused, match="spdm-report-length"):
        SpdmReport.parse(report.ljust(MAX_REPORT_BYTES + 1, b"\x00"))
    with pytest.raises(Refused, match="spdm-report-trailing-bytes"):
        SpdmReport.parse(report.ljust(MAX_REPORT_BYTES, b"\x00"))


def _only_refuses(call: Callable[[bytes], object], data: bytes) -> None:
    start = time.monotonic()
    with contextlib.suppress(Refused):
        call(data)
    assert time.monotonic() - start < 1


def _everything(data: bytes) -> None:
    report = SpdmReport.parse(data)
    for arch in ARCHITECTURES:
        GpuFacts.read(report.opaque, arch)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    """Readers raise refusals and nothing else."""
    _only_refuses(_everything, data)
    _only_refuses(read_certificates, data)
    _only_refuses(lambda raw: Rim.read(parse_xml(raw)), data)
    _only_refuses(lambda raw: EnvelopedSignature.read(parse_xml(raw)), data)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_reports(data: st.DataObject, gpu_vendor: MockGpuVendor) -> None:
    """A report with a piece replaced still raises refusals and nothing else."""
    report = gpu_vendor.evidence(NONCE).report
    start = data.draw(st.integers(0, len(report)))
    piece = data.draw(st.binary(max_size=60))
    _only_refuses(_everything, report[:start] + piece + report[start + len(piece) :])
    _only_refuses(_everything, report[:start] + piece + report[start:])
    _only_refuses(_everything, report[:start] + report[start + len(piece) :])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_changed_manifests(data: st.DataObject, gpu_vendor: MockGpuVendor) -> None:
    """A manifest with a piece replaced as well."""
    rim = gpu_vendor.rim(MockGpu(), (7,), "1")
    start = data.draw(st.integers(0, len(rim)))
    piece = data.draw(st.binary(max_size=20))
    changed = rim[:start] + piece + rim[start + len(piece) :]
    _only_refuses(lambda raw: EnvelopedSignature.read(parse_xml(raw)), changed)
    _only_refuses(lambda raw: Rim.read(parse_xml(raw)), changed)

"""Intel's extension of a PCK certificate: one DER form, every number within its bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attest.evidence.pck import PckPlatform
from attest.mock.tdx_certificates import MockPlatform, Party, certificate, der, sgx_extension
from attest.refusal import Malformed

KEY = Party("key", ec.generate_private_key(ec.SECP256R1()))
PLATFORM = MockPlatform(pceid=b"\x12\x34", components=tuple(range(240, 256)), pcesvn=0xFFFF)
SGX = bytes.fromhex("2a864886f84d010d01")


def with_extension(value: bytes | None) -> x509.Certificate:
    """A certificate with the extension, or without it."""
    return certificate(KEY, KEY, serial=1, issued_at=datetime(2026, 6, 1, tzinfo=UTC), sgx=value)


def pair(suffix: bytes, value: bytes, *, prefix: bytes = SGX) -> bytes:
    """One entry."""
    return der(0x30, der(0x06, prefix + suffix) + value)


def extension(
    *more: bytes, numbers: dict[int, bytes] | None = None, tcb: bytes = b"", without: int = 0
) -> bytes:
    """The honest entries, in two levels, with other numbers among them and other entries after them."""
    values = {place: der(0x02, b"\x00" + bytes([239 + place])) for place in range(1, 17)}
    values |= {17: der(0x02, b"\x00\xff\xff"), 18: der(0x04, bytes(range(240, 256)))} | (numbers or {})
    inner = [pair(bytes([2, place]), value) for place, value in values.items()]
    outer = [
        pair(b"\x02", der(0x30, b"".join(inner) + tcb)),
        pair(b"\x03", der(0x04, b"\x12\x34")),
        pair(b"\x04", der(0x04, bytes.fromhex("5ea190c0ffee"))),
    ]
    return der(0x30, b"".join(outer[: len(outer) - without] + list(more)))


def refused(value: bytes) -> Malformed:
    """How an extension is refused."""
    with pytest.raises(Malformed) as refusal:
        PckPlatform.parse(with_extension(value))
    return refusal.value


def test_a_platform() -> None:
    """Every fact, at its highest number."""
    for value in (sgx_extension(PLATFORM), extension()):
        assert PckPlatform.parse(with_extension(value)) == PckPlatform(
            fmspc=bytes.fromhex("5ea190c0ffee"),
            pceid=b"\x12\x34",
            components=tuple(range(240, 256)),
            pcesvn=0xFFFF,
            cpusvn=bytes(range(240, 256)),
        )
    zeros = replace(PLATFORM, components=(0,) * 16, pcesvn=0)
    assert PckPlatform.parse(with_extension(sgx_extension(zeros))).components == (0,) * 16


def test_other_entries_are_passed_over_but_not_without_end() -> None:
    """Intel may add some: up to thirty-two in all, none twice."""
    others = [pair(bytes([number]), der(0x04, b"")) for number in range(0x20, 0x20 + 30)]
    PckPlatform.parse(with_extension(extension(*others[:29])))
    assert refused(extension(*others)).code == "tdx-pck-extension"
    assert refused(extension(others[0], others[0])).code == "tdx-pck-extension"


@pytest.mark.parametrize(
    "value",
    [
        extension(pair(b"\x20", der(0x04, b""), prefix=SGX[:-1] + b"\x02")),
        extension(pair(b"", der(0x04, b""))),
        extension(pair(b"\x20", der(0x04, b""), prefix=b"")),
        extension(pair(b"\x20\x20", der(0x04, b""))),
        extension(der(0x31, der(0x06, SGX + b"\x20") + der(0x04, b""))),
        extension(der(0x30, der(0x05, SGX + b"\x20") + der(0x04, b""))),
        extension(without=1),
        extension(pair(b"\x04", der(0x04, bytes(5))), without=1),
        extension(pair(b"\x04", der(0x05, bytes(6))), without=1),
        extension(pair(b"\x03", der(0x04, bytes(3))), without=2),
        extension(tcb=pair(b"\x20", der(0x04, b""))),
        extension(tcb=pair(b"\x02\x11", der(0x02, b"\x01"))),
        der(0x31, extension()[4:]),
    ],
)
def test_entries_of_another_form(value: bytes) -> None:
    """Sequences of an identifier below Intel's own and one value, each of its kind and size."""
    assert refused(value).code == "tdx-pck-extension"


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (17, "0203010000"),
        (17, "02040000ffff"),
        (1, "02020100"),
        (16, "02020100"),
        (16, "02030000ff"),
        (16, "0201ff"),
        (16, "0200"),
        (16, "040200ff"),
        (18, "040f" + "00" * 15),
        (18, "0210" + "00" * 16),
    ],
)
def test_numbers_of_another_form(place: int, other: str) -> None:
    """A small integer, not negative, in the shortest form; sixteen bytes beside them."""
    assert refused(extension(numbers={place: bytes.fromhex(other)})).code == "tdx-pck-extension"


@pytest.mark.parametrize(
    ("length", "code"),
    [
        ("04", ""),
        ("8104", "tdx-pck-extension"),
        ("820004", "tdx-pck-extension"),
        ("80", "tdx-pck-extension"),
        ("83000004", "tdx-pck-extension"),
        ("05", "tdx-pck-extension-truncated"),
        ("03", "tdx-pck-extension-trailing-bytes"),
    ],
)
def test_lengths_of_another_form(length: str, code: str) -> None:
    """The shortest form only (X.690 section 10.1), and neither more nor less than is there."""
    entry = der(0x30, der(0x06, SGX + b"\x20") + b"\x04" + bytes.fromhex(length) + bytes(4))
    if code:
        assert refused(extension(entry)).code == code
    else:
        PckPlatform.parse(with_extension(extension(entry)))


@pytest.mark.parametrize("size", [0x7F, 0x80, 0xFF, 0x100, 0x1234])
def test_lengths_in_each_form(size: int) -> None:
    """One byte up to 127, then one and two more."""
    PckPlatform.parse(with_extension(extension(pair(b"\x20", der(0x04, bytes(size))))))


@pytest.mark.parametrize(("length", "size"), [("817f", 0x7F), ("8200ff", 0xFF), ("83000100", 0x100)])
def test_lengths_one_form_too_long(length: str, size: int) -> None:
    """The highest numbers that the shorter form can say."""
    body = der(0x06, SGX + b"\x20") + b"\x04" + bytes.fromhex(length) + bytes(size)
    assert refused(extension(der(0x30, body))).code == "tdx-pck-extension"


def test_without_the_extension() -> None:
    """A certificate that speaks of no platform."""
    with pytest.raises(Malformed, match="tdx-pck-extension"):
        PckPlatform.parse(with_extension(None))

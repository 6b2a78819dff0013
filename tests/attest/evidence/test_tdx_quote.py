"""The quote parser: one encoding, exact refusals, and nothing else on any bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.tdx import TdxQuote
from attest.evidence.tdx_attributes import KEY_LOCKER, PERFMON, PROTECTION_KEYS, SEPT_VE_DISABLE
from attest.evidence.tdx_evidence import MAX_QUOTE_BYTES
from attest.evidence.tdx_signature import QeReport, pem_certificates
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_quote import MockTdLaunch
from attest.refusal import Malformed, Refused, Unsupported

ASKED = bytes(range(64))
VENDOR = MockTdxVendor.create()
QUOTE = VENDOR.quote(ASKED)
TD15 = VENDOR.quote(ASKED, MockTdLaunch(mrservicetd=b"\x01" * 48))
AUTHENTICATION = 48 + 584 + 4
"""Where the signature data begins in ``QUOTE``."""
CERTIFICATION = AUTHENTICATION + 128
QE_AUTHENTICATION = CERTIFICATION + 6 + 384 + 64
PCK = QE_AUTHENTICATION + 2 + 32


def changed(quote: bytes, offset: int, value: bytes) -> bytes:
    """The quote with other bytes at an offset."""
    return quote[:offset] + value + quote[offset + len(value) :]


def test_fields() -> None:
    """Each field is where Intel puts it."""
    launch = MockTdLaunch(
        mrtd=b"\x01" * 48,
        rtmrs=(b"\x02" * 48, b"\x03" * 48, b"\x04" * 48, b"\x05" * 48),
        attributes=SEPT_VE_DISABLE | PERFMON | KEY_LOCKER | PROTECTION_KEYS,
        xfam=0xE7,
        tee_tcb_svn=bytes(range(16)),
        mrsignerseam=b"\x06" * 48,
        seam_attributes=b"\x07" * 8,
        mrconfigid=b"\x08" * 48,
        mrowner=b"\x09" * 48,
        mrownerconfig=b"\x0a" * 48,
        qe_isvsvn=0x0102,
    )
    quote = TdxQuote.parse(VENDOR.quote(ASKED, launch))
    report = quote.report
    assert quote.version == 4
    assert (report.mrtd, report.rtmrs, report.xfam) == (launch.mrtd, launch.rtmrs, 0xE7)
    assert report.attributes.raw == launch.attributes
    assert (report.attributes.sept_ve_disable, report.attributes.debug) == (True, False)
    assert (report.module_svn, report.module_major, report.tee_tcb_svn) == (0, 1, bytes(range(16)))
    assert (report.mrseam, report.mrsignerseam) == (b"\x5e" * 48, launch.mrsignerseam)
    assert report.seam_attributes == launch.seam_attributes
    assert (report.mrconfigid, report.mrowner) == (launch.mrconfigid, launch.mrowner)
    assert report.mrownerconfig == launch.mrownerconfig
    assert report.report_data == ASKED
    assert (report.tee_tcb_svn_2, report.mrservicetd, report.has_service_td) == (None, None, False)
    qe = quote.signature.qe_report
    assert (qe.isvprodid, qe.isvsvn, qe.miscselect) == (2, 0x0102, bytes(4))
    assert len(quote.signature.pck_chain) == 3
    assert "TdxQuote(version=4" in repr(quote)
    assert quote.signed.hex() not in repr(quote)


def test_td15() -> None:
    """Version 5 says which body follows; TD 1.5 has two fields more."""
    quote = TdxQuote.parse(TD15)
    assert (quote.version, quote.report.tee_tcb_svn_2) == (5, MockTdLaunch().tee_tcb_svn_2)
    assert quote.report.has_service_td
    assert len(quote.signed) == 48 + 6 + 648


def test_version_5_with_the_older_body() -> None:
    """A TD 1.0 body in a version 5 quote has no service TD."""
    quote = b"\x05" + QUOTE[1:48] + bytes([2, 0]) + (584).to_bytes(4, "little") + QUOTE[48:]
    parsed = TdxQuote.parse(quote)
    assert (parsed.version, parsed.report.mrservicetd) == (5, None)


def test_padding() -> None:
    """Zeros may follow, and are not part of what is hashed."""
    assert TdxQuote.parse(QUOTE.ljust(8000, b"\x00")).trimmed == QUOTE
    for tail in (b"\x01", bytes(7) + b"\x80", b"extra bytes"):
        with pytest.raises(Malformed, match="tdx-quote-padding"):
            TdxQuote.parse(QUOTE + tail)


@pytest.mark.parametrize(
    ("quote", "kind", "code"),
    [
        (changed(QUOTE, 0, b"\x03"), Unsupported, "tdx-quote-version"),
        (changed(QUOTE, 2, b"\x03"), Unsupported, "tdx-quote-key-type"),
        (changed(QUOTE, 4, b"\x00"), Unsupported, "tdx-quote-tee-type"),
        (changed(QUOTE, 12, b"\x00"), Unsupported, "tdx-quote-qe-vendor"),
        (changed(TD15, 48, b"\x04"), Unsupported, "tdx-quote-body-type"),
        (changed(TD15, 50, b"\x00"), Unsupported, "tdx-quote-body-type"),
        (changed(QUOTE, 48 + 120, b"\x02"), Malformed, "tdx-td-attributes"),
        (changed(QUOTE, 48 + 127, b"\x40"), Malformed, "tdx-td-attributes"),
        (changed(QUOTE, AUTHENTICATION, bytes(32)), Malformed, "tdx-signature-range"),
        (changed(QUOTE, AUTHENTICATION + 32, b"\xff" * 32), Malformed, "tdx-signature-range"),
        (changed(QUOTE, CERTIFICATION + 6 + 384, bytes(32)), Malformed, "tdx-signature-range"),
        (changed(QUOTE, CERTIFICATION, b"\x05"), Unsupported, "tdx-certification-data"),
        (changed(QUOTE, CERTIFICATION + 2, b"\x00"), Malformed, "tdx-quote-length"),
        (changed(QUOTE, QE_AUTHENTICATION, b"\x1f"), Unsupported, "tdx-qe-authentication"),
        (changed(QUOTE, PCK, b"\x04"), Unsupported, "tdx-certification-data"),
        (changed(QUOTE, PCK + 2, b"\x00"), Malformed, "tdx-quote-length"),
        (QUOTE[:-1], Malformed, "tdx-quote-truncated"),
        (QUOTE[:40], Malformed, "tdx-quote-truncated"),
        (
            changed(QUOTE[: CERTIFICATION - 8], AUTHENTICATION - 4, (120).to_bytes(4, "little")),
            Malformed,
            "tdx-quote-truncated",
        ),
        (b"", Malformed, "tdx-quote-truncated"),
        (QUOTE.ljust(MAX_QUOTE_BYTES + 1, b"\x00"), Malformed, "tdx-quote-too-large"),
    ],
)
def test_refusals(quote: bytes, kind: type[Refused], code: str) -> None:
    """Each malformation by its own code."""
    with pytest.raises(kind) as refusal:
        TdxQuote.parse(quote)
    assert refusal.value.code == code
    assert type(refusal.value) is kind


@pytest.mark.parametrize(
    ("quote", "offset", "reason"),
    [
        (changed(QUOTE, 48 + 120, b"\x02"), 48 + 120, "reserved bits"),
        (changed(QUOTE, AUTHENTICATION, bytes(32)), 0, "quote"),
        (changed(QUOTE, CERTIFICATION + 6 + 384, bytes(32)), 128 + 6 + 384, "QE report"),
        (QUOTE + b"\x01", len(QUOTE), "bytes other than zero"),
    ],
)
def test_where_a_refusal_points(quote: bytes, offset: int, reason: str) -> None:
    """At the field, counted from the start of the quote or of its signature data."""
    with pytest.raises(Malformed) as refusal:
        TdxQuote.parse(quote)
    assert (refusal.value.offset, refusal.value.reason) == (offset, reason)


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("place", [AUTHENTICATION, AUTHENTICATION + 32])
@pytest.mark.parametrize(("number", "fits"), [(0, False), (1, True), (ORDER - 1, True), (ORDER, False)])
def test_numbers_of_a_signature(place: int, number: int, fits: bool) -> None:
    """From 1 to the curve's order less one (FIPS 186-5 section 6.4.2)."""
    quote = changed(QUOTE, place, number.to_bytes(32, "big"))
    if fits:
        assert TdxQuote.parse(quote).trimmed == quote
        return
    with pytest.raises(Malformed, match="tdx-signature-range"):
        TdxQuote.parse(quote)


def test_the_largest_quote() -> None:
    """Padded up to the bound, and its chain up to its own."""
    assert TdxQuote.parse(QUOTE.ljust(MAX_QUOTE_BYTES, b"\x00")).trimmed == QUOTE
    chain = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----".ljust(12 * 1024, b"\n")
    assert pem_certificates(chain) == (b"\x00",)
    with pytest.raises(Malformed, match="tdx-pck-pem"):
        pem_certificates(chain + b"\n")


def test_a_report_of_a_quoting_enclave_has_one_size() -> None:
    """A byte more is no report."""
    QeReport.parse(bytes(384))
    for size, code in ((383, "tdx-quote-truncated"), (385, "tdx-quote-trailing-bytes")):
        with pytest.raises(Malformed, match=code):
            QeReport.parse(bytes(size))


@pytest.mark.parametrize(
    "pem",
    [
        b"\x00\x00",
        b"nothing",
        b"-----BEGIN CERTIFICATE-----\nAA==\n",
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAB==\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE----- x",
        b"\n" * (12 * 1024 + 1),
    ],
)
def test_pem_of_another_form(pem: bytes) -> None:
    """Certificates and line breaks only, base64 in its canonical form."""
    with pytest.raises(Malformed, match="tdx-pck-pem"):
        pem_certificates(pem)


def test_pem_with_other_line_breaks() -> None:
    """Where lines break means nothing; one NUL at the end is Intel's habit."""
    block = b"-----BEGIN CERTIFICATE-----\r\nAA\r\n==\r\n-----END CERTIFICATE-----\r\n\n"
    assert pem_certificates(block * 2 + b"\x00") == (b"\x00", b"\x00")
    assert pem_certificates(b"") == ()


@settings(max_examples=200)
@given(st.integers(0, len(QUOTE)), st.binary(max_size=40), st.booleans())
def test_any_bytes(position: int, noise: bytes, whole: bool) -> None:
    """Cut, overwritten or prolonged: a quote or a refusal."""
    data = QUOTE[:position] + noise + (QUOTE[position + len(noise) :] if whole else b"")
    with contextlib.suppress(Refused):
        assert data.startswith(TdxQuote.parse(data).trimmed)

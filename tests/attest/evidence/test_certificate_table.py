"""The host's certificate table: bounded, and trusted with nothing."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.certificate_table import (
    ARK,
    ASK,
    CRL,
    MAX_ENTRIES,
    MAX_TABLE_BYTES,
    VCEK,
    VLEK,
    CertificateTable,
)
from attest.refusal import Malformed
from tests.simulators.tsm import certificate_table

STRANGER = UUID("11111111-2222-3333-4444-555555555555").bytes
NAME = "snp-certificate-table"


def entry(guid: bytes, offset: int, length: int) -> bytes:
    """One header."""
    return guid + offset.to_bytes(4, "little") + length.to_bytes(4, "little")


def test_every_kind_of_entry() -> None:
    """Each identifier goes to its field; a stranger's is passed over."""
    table = certificate_table(
        {VCEK: b"vcek", VLEK: b"vlek", ASK: b"ask", ARK: b"ark", CRL: b"crl", STRANGER: b"?"}
    )
    parsed = CertificateTable.parse(table + bytes(100))
    assert CertificateTable.parse(table) == parsed, "the last may end with the table"
    assert parsed == CertificateTable(b"vcek", b"vlek", b"ask", b"ark", b"crl")
    assert repr(parsed) == "CertificateTable(vcek, vlek, ask, ark, crl)"


def test_nothing_offered() -> None:
    """A host may offer no table, or an empty one."""
    assert CertificateTable.parse(b"") == CertificateTable.parse(bytes(24)) == CertificateTable()


def test_the_largest_tables() -> None:
    """Sixty-four entries, and half a mebibyte."""
    strangers = {bytes([number]) * 16: b"x" for number in range(1, 64)}
    assert CertificateTable.parse(certificate_table({**strangers, CRL: b"crl"})).crl == b"crl"
    assert CertificateTable.parse(bytes(MAX_TABLE_BYTES)) == CertificateTable()


def test_identifiers_are_in_text_order() -> None:
    """The identifier's bytes stand as its text does, not as Microsoft would store them."""
    assert VCEK.hex() == "63da758de6644564adc5f4b93be8accd"


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (bytes(23), "truncated"),
        (entry(VCEK, 48, 1)[:-1], "truncated"),
        (entry(VCEK, 24, 1), "truncated"),
        (bytes(16) + b"\x01" + bytes(7), "reserved-not-zero"),
        (entry(VCEK, 48, 2) + bytes(24) + b"x", "bounds"),
        (entry(VCEK, 47, 1) + bytes(24) + b"x", "bounds"),
        (entry(VCEK, 0, 4) + bytes(24) + b"x", "bounds"),
        (entry(VCEK, 48, 0) + bytes(24) + b"x", "bounds"),
        (entry(VCEK, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(24), "bounds"),
        (entry(VCEK, 72, 1) + entry(VCEK, 72, 1) + bytes(24) + b"x", "duplicate"),
        (entry(VCEK, 9999, 1) * (MAX_ENTRIES + 1) + bytes(24), "too-large"),
        (bytes(MAX_TABLE_BYTES + 1), "too-large"),
    ],
)
def test_bad_tables(table: bytes, code: str) -> None:
    """A length from the host is only a number until it is bounded."""
    with pytest.raises(Malformed) as refusal:
        CertificateTable.parse(table)
    assert refusal.value.code == f"{NAME}-{code}"


@settings(max_examples=200, deadline=None)
@given(start=st.sampled_from([b"", VCEK, ASK, entry(VCEK, 48, 4)]), tail=st.binary(max_size=200))
def test_junk(start: bytes, tail: bytes) -> None:
    """Only tables or refusals come out, and nothing longer than went in."""
    try:
        parsed = CertificateTable.parse(start + tail)
    except Malformed:
        return
    assert len(parsed.vcek or b"") <= len(tail)

"""PEM: one reading, bounded, nothing beside the blocks."""

from __future__ import annotations

import pytest

from attest.evidence.pem import MAX_PEM_BYTES, read_certificates
from attest.refusal import Malformed

BLOCK = b"-----BEGIN CERTIFICATE-----\nAA/+\n-----END CERTIFICATE-----\n"
DER = b"\x00\x0f\xfe"


@pytest.mark.parametrize(
    ("pem", "count"),
    [
        (BLOCK, 1),
        (BLOCK.replace(b"\n", b"\r\n"), 1),
        (BLOCK.replace(b"AA/+", b"A\nA/ +"), 1),
        (b"\n \t" + BLOCK + b"\n\n" + BLOCK, 2),
        (BLOCK + b"\x00", 1),
        (BLOCK * 8, 8),
        (BLOCK.ljust(MAX_PEM_BYTES, b"\n"), 1),
    ],
)
def test_blocks_in_order(pem: bytes, count: int) -> None:
    """Where lines break means nothing; one NUL at the end is no part of it; the bounds are inside."""
    assert read_certificates(pem) == (DER,) * count


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nothing",
        b"x" + BLOCK,
        BLOCK + b"x",
        BLOCK + b"x" + BLOCK,
        BLOCK + b"\x00\x00",
        b"\x00" + BLOCK,
        "é".encode() + BLOCK,
        BLOCK.replace(b"AA/+", "é".encode()),
        BLOCK.replace(b"AA/+", b"AA=/+"),
        BLOCK.replace(b"AA/+", b"AA/"),
        BLOCK.replace(b"AA/+", b"AA_-"),
        BLOCK.replace(b"END", b"FIN"),
        BLOCK.removesuffix(b"-----END CERTIFICATE-----\n"),
        BLOCK * 9,
        BLOCK.ljust(64 * 1024 + 1, b"\n"),
    ],
)
def test_anything_else(pem: bytes) -> None:
    """No text before, between or after, no other alphabet, no other padding, not too many."""
    with pytest.raises(Malformed, match="pem-malformed"):
        read_certificates(pem)

"""The one cursor: nothing is read past the end, and every refusal says where."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attest.evidence.reader import Reader
from attest.refusal import Malformed


def test_what_is_read() -> None:
    """In order, in either byte order, to the last byte."""
    reader = Reader(bytes(range(1, 12)), "x")
    assert reader.take(0) == b""
    assert (reader.take(2), reader.uint_le(2), reader.uint_be(3)) == (b"\x01\x02", 0x0403, 0x050607)
    assert (reader.position, reader.remaining) == (7, 4)
    assert reader.take(4) == b"\x08\x09\x0a\x0b"
    reader.end()
    assert repr(reader) == "Reader(x, 11/11 bytes)"
    assert Reader(memoryview(b"ab"), "x").take(2) == b"ab"


@pytest.mark.parametrize(
    ("read", "code", "offset"),
    [
        (lambda reader: reader.take(4), "x-truncated", 1),
        (lambda reader: reader.take(-1), "x-truncated", 1),
        (lambda reader: reader.uint_le(4), "x-truncated", 1),
        (lambda reader: reader.uint_be(4), "x-truncated", 1),
        (lambda reader: reader.zeros(4, "field"), "x-truncated", 1),
        (lambda reader: reader.zeros(3, "field"), "x-reserved-not-zero", 1),
        (lambda reader: reader.end(), "x-trailing-bytes", 1),
    ],
)
def test_what_is_refused(read: Callable[[Reader], object], code: str, offset: int) -> None:
    """One byte too many or too few, and a reserved byte that is set; where it began."""
    reader = Reader(b"\xff\x00\x00\x01", "x")
    reader.take(1)
    with pytest.raises(Malformed) as refusal:
        read(reader)
    assert (refusal.value.code, refusal.value.offset) == (code, offset)


def test_reserved_bytes_are_consumed() -> None:
    """Exactly as many as are named."""
    reader = Reader(b"\x00\x00\x01", "x")
    reader.zeros(2, "field")
    assert reader.take(1) == b"\x01"
    for value in range(1, 256):
        with pytest.raises(Malformed, match="x-reserved-not-zero"):
            Reader(bytes([value, value]), "x").zeros(2, "field")

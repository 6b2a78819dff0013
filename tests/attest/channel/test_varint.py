"""RFC 9000 section 16."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.channel.varint import MAX_VARINT, decode_varint, encode_varint, encode_varint_in, varint_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("c2197c5eff14e88c", 151288809941952652),
        ("9d7f3e7d", 494878333),
        ("7bbd", 15293),
        ("25", 37),
    ],
)
def test_appendix_a1(text: str, value: int) -> None:
    """The samples of RFC 9000 appendix A.1, and its two-byte 37."""
    assert encode_varint(value).hex() == text
    assert decode_varint(bytes.fromhex(text)) == value
    assert decode_varint(bytes.fromhex("4025")) == 37


@settings(deadline=None)
@given(st.integers(0, MAX_VARINT) | st.sampled_from([63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30]))
def test_round_trip_in_every_width(value: int) -> None:
    shortest = encode_varint(value)
    assert varint_size(shortest[0]) == len(shortest)
    for width in (1, 2, 4, 8):
        if width >= len(shortest):
            longer = encode_varint_in(value, width)
            assert len(longer) == varint_size(longer[0]) == width
            assert decode_varint(longer) == value
        else:
            with pytest.raises(ValueError, match="does not fit"):
                encode_varint_in(value, width)


def test_too_large() -> None:
    with pytest.raises(ValueError, match="62 bits"):
        encode_varint(MAX_VARINT + 1)

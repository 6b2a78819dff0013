"""Variable-length integers of QUIC (RFC 9000 section 16), which OHTTP chunks and binary HTTP count with.

The first two bits say how many bytes follow. A value may be written longer than it need be; both formats
allow that on purpose, and padding.py uses it.
"""

from __future__ import annotations

from typing import Final

MAX_VARINT: Final = (1 << 62) - 1


def encode_varint(value: int) -> bytes:
    """``value`` in as few bytes as it fits in."""
    if value < 1 << 6:
        return value.to_bytes(1, "big")
    if value < 1 << 14:
        return (value | 1 << 14).to_bytes(2, "big")
    if value < 1 << 30:
        return (value | 2 << 30).to_bytes(4, "big")
    if value <= MAX_VARINT:
        return (value | 3 << 62).to_bytes(8, "big")
    raise ValueError(f"{value} does not fit in 62 bits")


def encode_varint_in(value: int, size: int) -> bytes:
    """``value`` in exactly ``size`` bytes (1, 2, 4 or 8)."""
    prefix = {1: 0, 2: 1, 4: 2, 8: 3}[size]
    if value >> (8 * size - 2):
        raise ValueError(f"{value} does not fit in {8 * size - 2} bits")
    return (value | prefix << (8 * size - 2)).to_bytes(size, "big")


def varint_size(first: int) -> int:
    """How many bytes the integer that begins with the byte ``first`` occupies."""
    return 1 << (first >> 6)


def decode_varint(data: bytes | bytearray | memoryview) -> int:
    """The integer that ``data``, exactly as long as ``varint_size`` says, spells."""
    value = int.from_bytes(data, "big")
    return value & ((1 << (8 * len(data) - 2)) - 1)

"""Hiding sizes (RFC 9458 section 6.1): how long to make a message, and where the padding goes.

Profile ``bucket`` rounds a size up to 1 KiB, or beyond 4 KiB to a multiple of a quarter of the power of two
below it. The bytes go where the formats already have room, so every peer can read them:

- at the end of a binary HTTP message, as zeros (RFC 9292 section 3.8);
- inside a streamed response, where zeros would end it, by cutting an event into more content chunks whose
  lengths are spelt longer than they need be (RFC 9000 section 16 allows that): see ``padded_content``.

What an observer still learns under ``bucket``:

- of a whole message (request; response sealed at once): its bucket. At most 25 % is added. There are 4 + 4 n
  buckets up to 4 KiB * 2^n: 48 up to 8 MiB, so at most log2(48) = 5.6 bits.
- of a streamed response: when each event was sent, how many there were (about one per token), and the
  bucket of each. Events from 58 to 510 bytes, which is every event that carries a token, look alike. A
  shorter one cannot be stretched to 512 (a byte of content can carry 8 of padding) and a longer one than
  ``MAX_PADDED_CONTENT`` is not: their sizes show.
- times, always. Profile ``none`` shows every size exactly.
"""

from __future__ import annotations

from typing import Final, Literal

from attest.channel.varint import encode_varint, encode_varint_in

Profile = Literal["none", "bucket"]

DEFAULT_PROFILE: Final[Profile] = "bucket"

_STEP: Final = 1024
_LINEAR_LIMIT: Final = 4096
_EVENT_STEP: Final = 512

MAX_PADDED_CONTENT: Final = 4096
"""Bytes of the largest single event that is padded; a larger one belongs to a message sealed at once."""

MIN_PADDED_CONTENT: Final = 58
"""Bytes of the smallest event that can be stretched to 512: one-byte chunks carry at most 8 bytes more."""

_WIDEST: Final = 8
_ONE_BYTE_LENGTHS: Final = 63  # the largest length that a one-byte prefix spells


def padded_size(profile: Profile, size: int) -> int:
    """The size that a message of ``size`` bytes is brought to."""
    if profile == "none":
        return size
    step = _STEP if size <= _LINEAR_LIMIT else 1 << (size - 1).bit_length() - 3
    return max(_STEP, -(-size // step) * step)


def pad_length(profile: Profile, size: int) -> int:
    """How many bytes to add to a message of ``size`` bytes."""
    return padded_size(profile, size) - size


def pad_message(profile: Profile, message: bytes) -> bytes:
    """A whole binary HTTP message with its zeros at the end (RFC 9292 section 3.8)."""
    return message + bytes(pad_length(profile, len(message)))


def padded_content(profile: Profile, content: bytes) -> bytes:
    """One event of a streamed body as indeterminate-length content chunks (RFC 9292 section 3.2).

    Args:
        profile: ``bucket`` brings the result to a multiple of 512 bytes where the event allows it.
        content: not empty: an empty chunk would end the content.
    """
    size = len(content)
    plain = encode_varint(size) + content
    if profile == "none" or not MIN_PADDED_CONTENT <= size <= MAX_PADDED_CONTENT:
        return plain
    return _stretch(content, -(-len(plain) // _EVENT_STEP) * _EVENT_STEP)


def _stretch(content: bytes, target: int) -> bytes:
    """``content`` in chunks that take ``target`` bytes together.

    One-byte chunks carry the padding in their length prefixes and the rest goes into one chunk, so the
    prefixes must take exactly ``target - len(content)`` bytes: eights first, then a 4, a 2 and a 1.
    """
    overhead = target - len(content)
    main = _WIDEST if overhead >= _WIDEST else 1 if len(content) <= _ONE_BYTE_LENGTHS else 2
    parts: list[bytes] = []
    position, left = 0, overhead - main
    for width in (8, 4, 2, 1):
        for _ in range(left // width):
            parts.append(encode_varint_in(1, width) + content[position : position + 1])
            position += 1
        left %= width
    return b"".join(parts) + encode_varint_in(len(content) - position, main) + content[position:]

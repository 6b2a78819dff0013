"""Bytes that arrive in pieces, read by a parser that is written as if they were all there.

A parser is a generator: where it wants more than there is, it yields, and is resumed by the next piece. So
the code of the decoder has the shape of the grammar, and no state machine has to be kept in step with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from attest.channel.varint import decode_varint, varint_size
from attest.refusal import Malformed, Refused

T = TypeVar("T")
Parser = Generator[None, None, T]
"""A step of a parser that ends with a ``T``; each yield asks for more input."""


class Source:
    """The unread input of one message, and how much of it may be head and how much content.

    Args:
        max_header_bytes: bound on everything but content and padding.
        max_body_bytes: bound on the content.
    """

    __slots__ = ("_buffer", "_ended", "_offset", "_position", "body_left", "head_left")

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self._buffer = bytearray()
        self._position = 0  # of the next unread byte in the buffer
        self._offset = 0  # of the buffer in the message
        self._ended = False
        self.head_left = max_header_bytes
        self.body_left = max_body_bytes

    def append(self, data: bytes) -> None:
        """Add input."""
        if self._position:
            del self._buffer[: self._position]
            self._offset += self._position
            self._position = 0
        self._buffer += data

    def end(self) -> None:
        """Say that no more input comes."""
        self._ended = True

    def truncated(self) -> Malformed:
        """The refusal of a message that ends where it may not (RFC 9292 section 3.8)."""
        return Malformed(
            "bhttp-truncated", offset=self._offset + self._position, clause="RFC 9292 section 3.8"
        )

    def at_end(self) -> Parser[bool]:
        """Whether the message ends here."""
        while self._position >= len(self._buffer):
            if self._ended:
                return True
            yield
        return False

    def take(self, size: int) -> Parser[bytes]:
        """The next ``size`` bytes, of the head's allowance.

        Raises:
            Malformed: ``bhttp-truncated``.
            Refused: ``bhttp-head-too-large``, before anything is awaited.
        """
        self.head_left -= size
        if self.head_left < 0:
            raise Refused("bhttp-head-too-large", expected="control data and fields within the bound")
        return (yield from self._read(size))

    def varint(self) -> Parser[int]:
        """The next integer, of the head's allowance."""
        return (yield from _varint(self.take))

    def content_length(self) -> Parser[int]:
        """The next integer, a length of content, taken off the content's allowance.

        Raises:
            Malformed: ``bhttp-truncated``.
            Refused: ``bhttp-body-too-large``, before anything is awaited.
        """
        length = yield from _varint(self._read)
        self.body_left -= length
        if self.body_left < 0:
            raise Refused("bhttp-body-too-large", expected="content within the bound")
        return length

    def ready_chunks(self, parts: list[bytes]) -> None:
        """Move every content chunk that is wholly here, and within bounds, into ``parts``.

        The short cut of ``content_length`` and ``some`` for padded events, which are dozens of tiny chunks.
        What it leaves behind (a terminator, a part of a chunk, one that is too large) is theirs to judge.
        """
        buffer, position, size = self._buffer, self._position, len(self._buffer)
        while position < size:
            body = position + varint_size(buffer[position])
            if body > size:
                break
            length = decode_varint(buffer[position:body])
            if not 0 < length <= min(self.body_left, size - body):
                break
            self.body_left -= length
            position = body + length
            parts.append(bytes(buffer[body:position]))
        self._position = position

    def some(self, most: int) -> Parser[bytes]:
        """At least one and at most ``most`` bytes of content, whatever is there."""
        if (yield from self.at_end()):
            raise self.truncated()
        start = self._position
        self._position = min(start + most, len(self._buffer))
        return bytes(self._buffer[start : self._position])

    def zeros(self) -> Parser[None]:
        """Everything to the end, which must be padding.

        Raises:
            Malformed: ``bhttp-padding``.
        """
        while not (yield from self.at_end()):
            padding = yield from self.some(len(self._buffer))
            if padding.strip(b"\x00"):
                raise Malformed("bhttp-padding", "not zero", clause="RFC 9292 section 3.8")

    def _read(self, size: int) -> Parser[bytes]:
        while len(self._buffer) - self._position < size:
            if self._ended:
                raise self.truncated()
            yield
        start = self._position
        self._position += size
        return bytes(self._buffer[start : self._position])


def _varint(read: Callable[[int], Parser[bytes]]) -> Parser[int]:
    first = yield from read(1)
    rest = varint_size(first[0]) - 1
    return decode_varint(first + (yield from read(rest)) if rest else first)

"""HTTP/1.1 as a client of one server speaks it (RFC 9112), without I/O: requests to bytes, bytes to answers.

Who writes the answers is the runtime's host, which nobody trusts, so the reader is strict where the RFC lets
a recipient be lenient: no folded lines, no bare CR or LF, one length and one spelling of it. It holds back no
more than a head or one chunk's size line, and both are bounded; content goes out as it comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_HEAD_BYTES: Final = 64 << 10
"""Of a head, and of a trailer section."""

MAX_SIZE_LINE_BYTES: Final = 256
"""Of the line before a chunk; its extensions are read over."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_FIRST_FINAL: Final = 200
_BODILESS: Final = frozenset({204, 304})

Fields = Iterable[tuple[bytes, bytes]]


class NotHttp(ValueError):
    """The bytes are not an answer in HTTP/1.1, or end too soon."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and fields of a final answer; names in lower case."""

    status: int
    fields: list[tuple[bytes, bytes]]


def request_bytes(method: bytes, target: bytes, fields: Fields, body: bytes) -> bytes:
    """The whole request. How long it is gets stated here, whatever ``fields`` say.

    Raises:
        ValueError: a part holds the end of a line.
    """
    lines = [b"%s %s HTTP/1.1" % (method, target)]
    lines += [b"%s: %s" % field for field in fields if field[0].lower() not in _FRAMING]
    if body or method == b"POST":
        lines.append(b"content-length: %d" % len(body))
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\x00" in head:
        raise ValueError("a field of the request holds the end of a line")
    return b"%s\r\n\r\n%s" % (head, body)


class AnswerReader:
    """Reads one answer: ``head`` until it is there, then ``content`` until it is empty."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended = False
        self._seen = 0  # bytes of the buffer in which no end of the head was found
        self._left = 0  # of the content, or of the chunk with the CRLF behind it
        self._chunked = False
        self._to_close = False
        self._trailer_left = -1  # bytes that trailers may still have; negative before them
        self.complete = False
        """The answer has ended, as its head said that it would."""
        self.keeps_open = False
        """The peer expects another request on this connection."""

    def __repr__(self) -> str:
        return f"AnswerReader({len(self._buffer)} bytes held{', complete' if self.complete else ''})"

    @property
    def has_more(self) -> bool:
        """Whether bytes came behind the answer's end."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """The next bytes that arrived."""
        self._buffer += data

    def end(self) -> None:
        """No more will arrive."""
        self._ended = True

    def head(self) -> Head | None:
        """The final answer's head, informational ones passed over; None where more must arrive first.

        Raises:
            NotHttp: there is none, or its framing is not one that has a single meaning.
        """
        while (lines := self._head_lines()) is not None:
            line = _STATUS_LINE.fullmatch(lines[0])
            if line is None:
                raise NotHttp("no status line")
            status, fields = int(line[2]), [_field(text) for text in lines[1:]]
            if status >= _FIRST_FINAL:
                self._frame(status, fields, version=line[1])
                return Head(status, fields)
            if status == 101:  # noqa: PLR2004 - Switching Protocols, which nobody asked for
                raise NotHttp("another protocol")
        return None

    def content(self) -> bytes | None:
        """All content that is here; empty at the end; None where more must arrive first.

        Raises:
            NotHttp: what is here is no chunk, or the answer ended too soon.
        """
        parts: list[bytes] = []
        while not self.complete and (part := self._next_part()) is not None:
            parts.append(part)
        content = b"".join(parts)
        if content or self.complete:
            return content
        self._require_more()
        return None

    def _require_more(self) -> None:
        if self._ended:
            raise NotHttp("the connection ended too soon")

    def _head_lines(self) -> list[bytes] | None:
        end = self._buffer.find(b"\r\n\r\n", max(0, self._seen - 3))
        self._seen = len(self._buffer)
        if (self._seen if end < 0 else end) > MAX_HEAD_BYTES:
            raise NotHttp("a head without an end")
        if end < 0:
            self._require_more()
            return None
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        self._seen = 0
        return lines

    def _frame(self, status: int, fields: list[tuple[bytes, bytes]], *, version: bytes) -> None:
        """How long the content is (RFC 9112 section 6.3)."""
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
        closing = any(b"close" in value.lower() for name, value in fields if name == b"connection")
        if codings and (codings != [b"chunked"] or lengths or version == b"0"):
            raise NotHttp("a transfer coding other than chunked, or beside a length")
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise NotHttp("no single length")
        self._chunked = bool(codings)
        self._to_close = not codings and not lengths and status not in _BODILESS
        self._left = int(lengths[0]) if lengths and status not in _BODILESS else 0
        self.complete = not self._chunked and not self._to_close and not self._left
        self.keeps_open = version == b"1" and not closing and not self._to_close

    def _next_part(self) -> bytes | None:
        """Some content, possibly none, or None where more must arrive."""
        if self._to_close:
            part = bytes(self._buffer)
            self._buffer.clear()
            self.complete = self._ended
            return part if part or self.complete else None
        if self._chunked:
            return self._chunk()
        part = self._taken(self._left)
        self.complete = not self._left
        return part or None

    def _chunk(self) -> bytes | None:
        if self._trailer_left >= 0:
            return self._trailer()
        if self._left > 2:  # noqa: PLR2004 - the CRLF behind the chunk
            return self._taken(self._left - 2) or None
        if self._left:
            if len(self._buffer) < self._left:
                return None
            if self._taken(2) != b"\r\n":
                raise NotHttp("a chunk longer than it says")
        line = self._line(MAX_SIZE_LINE_BYTES)
        if line is None:
            return None
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise NotHttp("no chunk size")
        self._left = int(size[1], 16)
        if self._left:
            self._left += 2
        else:
            self._trailer_left = MAX_HEAD_BYTES
        return b""

    def _trailer(self) -> bytes | None:
        """Pass one line of the trailer section over, or its end: what is believed comes inside the seal."""
        line = self._line(self._trailer_left)
        if line is None:
            return None
        if line:
            _field(line)
            self._trailer_left -= len(line)
        else:
            self.complete = True
        return b""

    def _line(self, most: int) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if (len(self._buffer) if end < 0 else end) > most:
            raise NotHttp("a line without an end")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _taken(self, most: int) -> bytes:
        part = bytes(self._buffer[:most])
        del self._buffer[:most]
        self._left -= len(part)
        return part


def _field(line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise NotHttp("no field line")
    return field[1].lower(), field[2].rstrip(b" \t")

"""Reading binary HTTP (RFC 9292) as it arrives, both framings, with bounds; no I/O.

Feed it plaintext pieces; it returns events. The message counts only once ``finish()`` has returned: a head
and content that arrived before a truncation are what the sender said, but not all of it.

A message may end before any section of which nothing remains (section 3.8), never inside one. In the
indeterminate framing that means: not after a field line or a content chunk without the terminator.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from attest.channel.bhttp_message import (
    FIRST_FINAL_STATUS,
    REQUEST_INDETERMINATE,
    REQUEST_KNOWN,
    RESPONSE_INDETERMINATE,
    RESPONSE_KNOWN,
    Content,
    Fields,
    InformationalHead,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    Trailers,
    checked_control,
    checked_field,
    checked_fields,
    checked_status,
)
from attest.channel.bhttp_source import Parser, Source
from attest.channel.varint import decode_varint, varint_size
from attest.refusal import Malformed, Refused

DEFAULT_MAX_HEADER_BYTES: Final = 64 * 1024
DEFAULT_MAX_BODY_BYTES: Final = 1 << 26

Event = TypeVar("Event", RequestEvent, ResponseEvent)


class _Decoder(Generic[Event]):
    """What both directions share.

    Args:
        max_header_bytes: bound on control data, header and trailer sections together.
        max_body_bytes: bound on the content.
    """

    def __init__(
        self,
        *,
        max_header_bytes: int = DEFAULT_MAX_HEADER_BYTES,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        self._source = Source(max_header_bytes=max_header_bytes, max_body_bytes=max_body_bytes)
        self._events: list[Event] = []
        self._content: list[bytes] = []
        self._parser = self._message()
        self._failed = False
        self._complete = False

    def __repr__(self) -> str:
        state = "failed" if self._failed else "complete" if self._complete else "reading"
        return f"{type(self).__name__}({state})"

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the message; return what they complete.

        Raises:
            Malformed: ``bhttp-framing``, ``bhttp-control-data``, ``bhttp-status``, ``bhttp-field-name``,
                ``bhttp-field-value``, ``bhttp-field-section``, ``bhttp-padding``; ``bhttp-failed`` after
                any of them.
            Refused: ``bhttp-head-too-large``, ``bhttp-body-too-large``.
        """
        self._source.append(data)
        return self._resume()

    def finish(self) -> list[Event]:
        """Say that the message has ended; return what that completes.

        Raises:
            Malformed: ``bhttp-truncated``, and as ``feed``.
        """
        self._source.end()
        return self._resume()

    def _resume(self) -> list[Event]:
        if self._failed:
            raise Malformed("bhttp-failed", "an earlier part of this message was refused")
        if self._complete:
            raise RuntimeError("this message has ended")
        try:
            next(self._parser)
        except StopIteration:
            self._complete = True
        except Refused:
            self._failed = True
            raise
        self._flush_content()
        events, self._events = self._events, []
        return events

    def _message(self) -> Parser[None]:
        raise NotImplementedError

    def _flush_content(self) -> None:
        if self._content:
            self._events.append(Content(b"".join(self._content)))
            self._content = []

    def _framing(self, known: int, indeterminate: int) -> Parser[bool]:
        """Read the framing indicator; whether the message is of known length."""
        indicator = yield from self._source.varint()
        if indicator not in (known, indeterminate):
            raise Malformed("bhttp-framing", f"expected {known} or {indeterminate}", offset=0)
        return indicator == known

    def _rest(self, *, known: bool) -> Parser[None]:
        """Content, trailers and padding."""
        yield from self._known_content() if known else self._chunked_content()
        trailers = yield from self._fields(known=known)
        if trailers:
            self._flush_content()
            self._events.append(Trailers(trailers))
        yield from self._source.zeros()

    def _known_content(self) -> Parser[None]:
        if not (yield from self._source.at_end()):
            yield from self._content_bytes((yield from self._source.content_length()))

    def _chunked_content(self) -> Parser[None]:
        if (yield from self._source.at_end()):
            return
        while True:
            self._source.ready_chunks(self._content)
            length = yield from self._source.content_length()
            if length == 0:
                return
            yield from self._content_bytes(length)

    def _content_bytes(self, length: int) -> Parser[None]:
        while length:
            piece = yield from self._source.some(length)
            self._content.append(piece)
            length -= len(piece)

    def _fields(self, *, known: bool) -> Parser[Fields]:
        if (yield from self._source.at_end()):
            return ()
        return (yield from self._known_fields() if known else self._terminated_fields())

    def _known_fields(self) -> Parser[Fields]:
        return _section((yield from self._source.take((yield from self._source.varint()))))

    def _terminated_fields(self) -> Parser[Fields]:
        fields: list[tuple[bytes, bytes]] = []
        while name_length := (yield from self._source.varint()):
            fields.append((yield from _field_line(self._source, name_length)))
        return tuple(fields)


def _section(section: bytes) -> Fields:
    """The field lines that fill ``section``: a line that reached past it would turn content into a field."""
    fields = []
    position, size = 0, len(section)
    while position < size:
        name_at, name_end = _bounds(section, position, size)
        if name_end >= size:
            raise _past_section()
        value_at, position = _bounds(section, name_end, size)
        fields.append((section[name_at:name_end], section[value_at:position]))
    return checked_fields(fields)


def _bounds(section: bytes, position: int, size: int) -> tuple[int, int]:
    """Where the length-prefixed string at ``position`` begins and ends, both inside the section."""
    start = position + varint_size(section[position])
    if start > size:
        raise _past_section()
    end = start + decode_varint(section[position:start])
    if end > size:
        raise _past_section()
    return start, end


def _past_section() -> Malformed:
    return Malformed("bhttp-field-section", "a line runs past its section", clause="RFC 9292 section 3.6")


def _field_line(source: Source, name_length: int) -> Parser[tuple[bytes, bytes]]:
    """The rest of a field line whose name has ``name_length`` bytes."""
    name = yield from source.take(name_length)
    value = yield from source.take((yield from source.varint()))
    return checked_field(name, value)


class RequestDecoder(_Decoder[RequestEvent]):
    """Reads one request: ``RequestHead``, any ``Content``, perhaps ``Trailers``."""

    def _message(self) -> Parser[None]:
        known = yield from self._framing(REQUEST_KNOWN, REQUEST_INDETERMINATE)
        method = yield from self._text()
        scheme = yield from self._text()
        authority = yield from self._text()
        path = yield from self._text()
        headers = yield from self._fields(known=known)
        self._events.append(checked_control(RequestHead(method, scheme, authority, path, headers)))
        yield from self._rest(known=known)

    def _text(self) -> Parser[str]:
        data = yield from self._source.take((yield from self._source.varint()))
        return data.decode("latin-1")  # a byte beyond ASCII then fails the pattern of its part


class ResponseDecoder(_Decoder[ResponseEvent]):
    """Reads one response: any ``InformationalHead``, one ``ResponseHead``, any ``Content``, ``Trailers``."""

    def _message(self) -> Parser[None]:
        known = yield from self._framing(RESPONSE_KNOWN, RESPONSE_INDETERMINATE)
        while True:
            status = checked_status((yield from self._source.varint()))
            headers = yield from self._fields(known=known)
            if status >= FIRST_FINAL_STATUS:
                break
            self._events.append(InformationalHead(status, headers))
        self._events.append(ResponseHead(status, headers))
        yield from self._rest(known=known)

"""Writing binary HTTP (RFC 9292): whole messages of known length, and streams of indeterminate length."""

from __future__ import annotations

from collections.abc import Iterable

from attest.channel.bhttp_message import (
    FIRST_FINAL_STATUS,
    REQUEST_INDETERMINATE,
    REQUEST_KNOWN,
    RESPONSE_INDETERMINATE,
    RESPONSE_KNOWN,
    InformationalHead,
    RequestHead,
    ResponseHead,
    checked_control,
    checked_fields,
    checked_status,
)
from attest.channel.padding import Profile, pad_length, padded_content
from attest.channel.varint import encode_varint


def _prefixed(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _field_lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(_prefixed(name) + _prefixed(value) for name, value in checked_fields(fields))


def _request_control(head: RequestHead) -> bytes:
    checked_control(head)
    parts = (head.method, head.scheme, head.authority, head.path)
    return b"".join(_prefixed(part.encode("ascii")) for part in parts)


def _status(head: ResponseHead | InformationalHead) -> bytes:
    final = checked_status(head.status) >= FIRST_FINAL_STATUS
    if final is isinstance(head, InformationalHead):
        raise ValueError(f"status {head.status} does not fit {type(head).__name__}")
    return encode_varint(head.status)


def encode_request(head: RequestHead, body: bytes, *, trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """A whole request of known length (RFC 9292 section 3.1); pad it with ``padding.pad_message``.

    Raises:
        Malformed: ``bhttp-control-data``, ``bhttp-field-name``, ``bhttp-field-value``.
    """
    start = encode_varint(REQUEST_KNOWN) + _request_control(head)
    return b"".join((start, *_known_rest(head.headers, body, trailers)))


def encode_response(
    head: ResponseHead, body: bytes, *, trailers: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """A whole response of known length (RFC 9292 section 3.1); pad it with ``padding.pad_message``.

    Raises:
        Malformed: ``bhttp-status``, ``bhttp-field-name``, ``bhttp-field-value``.
    """
    start = encode_varint(RESPONSE_KNOWN) + _status(head)
    return b"".join((start, *_known_rest(head.headers, body, trailers)))


def _known_rest(
    headers: Iterable[tuple[bytes, bytes]], body: bytes, trailers: Iterable[tuple[bytes, bytes]]
) -> tuple[bytes, ...]:
    return (
        _prefixed(_field_lines(headers)),
        encode_varint(len(body)),
        body,
        _prefixed(_field_lines(trailers)),
    )


class _StreamEncoder:
    """What both directions share: content, then the end. Calls out of order are our own errors."""

    def __init__(self, *, padding: Profile = "none") -> None:
        self._padding = padding
        self._in_content = False
        self._ended = False
        self._started = False
        self._size = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._size} bytes, padding {self._padding})"

    def content(self, chunk: bytes) -> bytes:
        """Some content, in a size that the padding profile allows; empty yields nothing."""
        if not self._in_content or self._ended:
            raise RuntimeError("content belongs between head and end")
        return self._count(padded_content(self._padding, chunk)) if chunk else b""

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """The end of content, the trailers, and zeros up to a size that the profile allows.

        Raises:
            Malformed: ``bhttp-field-name``, ``bhttp-field-value``.
        """
        if not self._in_content or self._ended:
            raise RuntimeError("end comes once, after the head")
        rest = b"\x00" + _field_lines(trailers) + b"\x00"
        self._ended = True
        size = self._size + len(rest)
        return self._count(rest + bytes(pad_length(self._padding, size)))

    def _open_content(self) -> None:
        if self._in_content:
            raise RuntimeError("a message has one head")
        self._in_content = True

    def _indicator(self, framing: int) -> bytes:
        indicator = b"" if self._started else encode_varint(framing)
        self._started = True
        return indicator

    def _count(self, data: bytes) -> bytes:
        self._size += len(data)
        return data


class RequestEncoder(_StreamEncoder):
    """A request of indeterminate length (RFC 9292 section 3.2): head, content any number of times, end."""

    def head(self, head: RequestHead) -> bytes:
        """Control data and header section.

        Raises:
            Malformed: ``bhttp-control-data``, ``bhttp-field-name``, ``bhttp-field-value``.
        """
        encoded = _request_control(head) + _field_lines(head.headers) + b"\x00"
        self._open_content()
        return self._count(self._indicator(REQUEST_INDETERMINATE) + encoded)


class ResponseEncoder(_StreamEncoder):
    """A response of indeterminate length: informational heads, one head, content any number of times, end."""

    def informational(self, head: InformationalHead) -> bytes:
        """An informational response, before the final head.

        Raises:
            Malformed: ``bhttp-status``, ``bhttp-field-name``, ``bhttp-field-value``.
        """
        encoded = _status(head) + _field_lines(head.headers) + b"\x00"
        if self._in_content:
            raise RuntimeError("informational responses come before the head")
        return self._count(self._indicator(RESPONSE_INDETERMINATE) + encoded)

    def head(self, head: ResponseHead) -> bytes:
        """Status and header section.

        Raises:
            Malformed: ``bhttp-status``, ``bhttp-field-name``, ``bhttp-field-value``.
        """
        encoded = _status(head) + _field_lines(head.headers) + b"\x00"
        self._open_content()
        return self._count(self._indicator(RESPONSE_INDETERMINATE) + encoded)

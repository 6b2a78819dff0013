"""The parts of a binary HTTP message, and what makes them valid (RFC 9292 section 3, RFC 9113 section 8).

Both directions apply the same rules: what we would not accept we do not send, so a value from a user cannot
smuggle a second header into a sealed message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from attest.refusal import Malformed

Fields = tuple[tuple[bytes, bytes], ...]
"""Field lines in order: (lower-case name, value)."""

REQUEST_KNOWN: Final = 0
RESPONSE_KNOWN: Final = 1
REQUEST_INDETERMINATE: Final = 2
RESPONSE_INDETERMINATE: Final = 3

FIRST_FINAL_STATUS: Final = 200
_STATUS: Final = range(100, 600)
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_BAD_BYTE: Final = re.compile(rb"[\x00\r\n]")  # RFC 9113 section 8.2.1, and no blank at either end
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")  # RFC 3986 section 3.1
_AUTHORITY: Final = re.compile(r"[!-~]*")
_PATH: Final = re.compile(r"/[!-~]*|\*")  # RFC 9113 section 8.3.1; CONNECT, which has none, is not offered
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, repr=False)
class RequestHead:
    """Control data and header section of a request; ``authority`` may be empty (a Host field names it)."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: Fields = ()

    def __repr__(self) -> str:
        return f"RequestHead({len(self.headers)} fields)"


@dataclass(frozen=True, repr=False)
class ResponseHead:
    """Status and header section of the final response, 200..599."""

    status: int
    headers: Fields = ()

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, {len(self.headers)} fields)"


@dataclass(frozen=True, repr=False)
class InformationalHead:
    """Status and header section of an informational response, 100..199 (RFC 9292 section 3.5.1)."""

    status: int
    headers: Fields = ()

    def __repr__(self) -> str:
        return f"InformationalHead({self.status}, {len(self.headers)} fields)"


@dataclass(frozen=True, repr=False)
class Content:
    """Some bytes of the content, in order; where it is cut means nothing."""

    data: bytes

    def __repr__(self) -> str:
        return f"Content({len(self.data)} bytes)"


@dataclass(frozen=True, repr=False)
class Trailers:
    """The trailer section; reported only where it is not empty."""

    fields: Fields

    def __repr__(self) -> str:
        return f"Trailers({len(self.fields)} fields)"


RequestEvent = RequestHead | Content | Trailers
ResponseEvent = InformationalHead | ResponseHead | Content | Trailers


def checked_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A field line with its name in lower case.

    Raises:
        Malformed: ``bhttp-field-name`` (pseudo-fields too: RFC 9292 section 3.6), ``bhttp-field-value``.
    """
    if not _TOKEN.fullmatch(name):
        raise Malformed("bhttp-field-name", f"{len(name)} bytes", clause="RFC 9292 section 3.6")
    if _BAD_BYTE.search(value) or value.strip(b" \t") != value:
        raise Malformed("bhttp-field-value", f"{len(value)} bytes", clause="RFC 9113 section 8.2.1")
    return name.lower(), value


def checked_fields(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Field lines with lower-case names; raises as ``checked_field``."""
    return tuple(checked_field(name, value) for name, value in fields)


def checked_control(head: RequestHead) -> RequestHead:
    """``head`` if its control data is valid.

    Raises:
        Malformed: ``bhttp-control-data``.
    """
    rules = (
        ("method", _METHOD, head.method),
        ("scheme", _SCHEME, head.scheme),
        ("authority", _AUTHORITY, head.authority),
        ("path", _PATH, head.path),
    )
    for name, pattern, value in rules:
        if not pattern.fullmatch(value):
            raise Malformed("bhttp-control-data", name, clause="RFC 9292 section 3.4")
    return head


def checked_status(status: int) -> int:
    """``status`` if it is one of HTTP.

    Raises:
        Malformed: ``bhttp-status``.
    """
    if status not in _STATUS:
        raise Malformed("bhttp-status", "outside 100 to 599", clause="RFC 9292 section 3.5")
    return status

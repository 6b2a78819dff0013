"""Event logs in the form of ACPI CCEL, as a TD's firmware writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

NO_ACTION: Final = 3
EVENT_TAG: Final = 6

_SHA384: Final = 0x000C


def event_log(entries: Sequence[tuple[int, bytes]], *, area: int = 4096) -> bytes:
    """A log that measures each entry's data by SHA-384.

    Args:
        entries: register (0 to 3) and data of each.
        area: bytes that the firmware reserves; the rest is filled.
    """
    log = log_header() + b"".join(
        log_entry(register + 1, hashlib.sha384(data).digest(), data) for register, data in entries
    )
    return log.ljust(area, b"\xff")


def log_header(algorithms: Sequence[tuple[int, int]] = ((_SHA384, 48),)) -> bytes:
    """The first entry: algorithms and the sizes of their digests."""
    body = b"Spec ID Event03\x00" + bytes.fromhex("0000000000020002") + _u32(len(algorithms))
    body += b"".join(number.to_bytes(2, "little") + size.to_bytes(2, "little") for number, size in algorithms)
    body += b"\x00"
    return _u32(1) + _u32(NO_ACTION) + bytes(20) + _u32(len(body)) + body


def log_entry(index: int, digest: bytes, data: bytes, *, event_type: int = EVENT_TAG) -> bytes:
    """One entry with one digest; ``index`` is the register's number plus one."""
    digests = _u32(1) + _SHA384.to_bytes(2, "little") + digest
    return _u32(index) + _u32(event_type) + digests + _u32(len(data)) + data


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")

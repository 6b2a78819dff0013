"""What opening a log finds: the state to go on from, and a torn end to set aside.

A crash between write and sync leaves at most a last line without its LF; no one was told that it stands, so
nothing followed from it. Its bytes are kept beside the log, cut off, and the log says so in its next entry.
Anything else that does not follow is damage or tampering and is never repaired: the log refuses to open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.audit.chain import MAX_LINE_BYTES, Chain, LogRefused, open_line
from gateway.audit.file import AuditUnavailable, LogFile, sync_folder
from gateway.audit.head import load_head

MAX_BATCH = 256  # entries that are written at once
MAX_TORN_BYTES = MAX_BATCH * MAX_LINE_BYTES
_READ_BYTES = 1024 * 1024


class ByteSource(Protocol):
    """Anything with bytes at offsets."""

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Torn:
    """The end that was cut off: how many bytes, and their ``sha256:`` digest."""

    size: int
    digest: str


@dataclass(slots=True)
class Recovered:
    """Where the log stands.

    Args:
        chain: the state after its last whole line.
        last_line: where that line starts, in bytes.
        torn: what was cut off behind it, if anything.
    """

    chain: Chain
    last_line: int
    torn: Torn | None


def recover(file: LogFile, path: Path) -> Recovered:
    """Read the log from its head, or all of it, and mend a torn end.

    Raises:
        LogRefused: ``audit-truncated`` or ``audit-head-mismatch`` against the head file, or as
            ``Chain.follow``.
        AuditUnavailable: ``audit-disk`` if the torn end cannot be set aside.
    """
    chain, offset, last_line = _start(file, path)
    is_torn = False
    for line in lines(file, offset):
        if not line.endswith(b"\n"):
            is_torn = True
            break
        chain.follow(line)
        last_line = offset
        offset += len(line)
    torn = _set_aside(file, path, offset, chain.length) if is_torn else None
    return Recovered(chain, last_line, torn)


def lines(source: ByteSource, offset: int = 0) -> Iterator[bytes]:
    """The lines from ``offset`` with their LF; the last lacks it if the log's end is torn.

    A line longer than any that is written comes out cut, so that memory is bounded.
    """
    held = bytearray()
    while chunk := source.read(offset, _READ_BYTES):
        offset += len(chunk)
        held += chunk
        start = 0
        while (end := held.find(b"\n", start)) >= 0:
            yield bytes(held[start : end + 1])
            start = end + 1
        del held[:start]
        if len(held) > MAX_LINE_BYTES:
            break
    if held:
        yield bytes(held)


def _start(file: LogFile, path: Path) -> tuple[Chain, int, int]:
    head = load_head(path)
    if head is None:
        return Chain(), 0, 0
    if head.offset > file.size:
        raise LogRefused(
            "audit-truncated", head.chain.length, expected=f"{head.offset} bytes", got=f"{file.size} bytes"
        )
    size = head.offset - head.last_line
    line = file.read(head.last_line, size) if 0 < size <= MAX_LINE_BYTES else b""
    # The last line alone is compared: its hash stands for all that came before.
    _, digest = open_line(line, head.chain.length)
    if digest != head.chain.head:
        raise LogRefused("audit-head-mismatch", head.chain.length, expected=head.chain.head, got=digest)
    return head.chain, head.offset, head.last_line


def _set_aside(file: LogFile, path: Path, offset: int, index: int) -> Torn:
    size = file.size - offset
    if size > MAX_TORN_BYTES:
        raise LogRefused("audit-line-frame", index + 1, got=f"{size} bytes without an end of line")
    tail = file.read(offset, size)
    try:
        aside = path.with_name(f"{path.name}.torn-{index}")
        aside.write_bytes(tail)
        sync_folder(path.parent)
    except OSError as error:
        raise AuditUnavailable("audit-disk", "the torn end of the log cannot be set aside") from error
    file.truncate(offset)
    return Torn(size, f"sha256:{hashlib.sha256(tail).hexdigest()}")

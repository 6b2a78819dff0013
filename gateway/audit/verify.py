"""Check a log offline, from its first line, with nothing but its bytes.

What it proves: every line is one that this format allows, none was changed, removed, inserted or reordered,
and every tenant's sequence has no gap. Whether the end was cut off, or all of it written anew, shows only
against a head (an index and a hash) that was noted elsewhere: pass it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.audit.chain import Chain, Entry, LogRefused
from gateway.audit.file import AuditUnavailable
from gateway.audit.recovery import lines


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that was noted elsewhere: the ``hash`` of the entry with this ``index``."""

    index: int
    hash: str


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a verified log holds.

    Args:
        entries: how many.
        head: hash of the last one; of no entry, 64 zeros.
        sequences: each tenant's last sequence number, which is how many prompts it sent.
        torn_bytes: bytes after the last whole line; opening the log sets them aside.
    """

    entries: int
    head: str
    sequences: Mapping[str, int]
    torn_bytes: int


class _OpenFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries in order, each verified to follow from the one before.

    Raises:
        LogRefused: at the first line that does not follow; a torn end is left out silently.
        AuditUnavailable: ``audit-unopenable``.
    """
    chain = Chain()
    for line in _lines(path):
        if line.endswith(b"\n"):
            yield chain.follow(line)


def verify_log(path: Path, *, head: KnownHead | None = None) -> LogSummary:
    """Verify all of the log.

    Args:
        path: of the log's file. It may be in use: what is being written is then a torn end.
        head: a head that the log must contain.

    Raises:
        LogRefused: ``line`` names the first bad line; ``audit-truncated`` if the log ends before ``head``,
            ``audit-head-mismatch`` if it has another entry there.
        AuditUnavailable: ``audit-unopenable``.
    """
    chain = Chain()
    torn = 0
    for line in _lines(path):
        if not line.endswith(b"\n"):
            torn = len(line)
            break
        entry = chain.follow(line)
        if head is not None and entry.index == head.index and entry.hash != head.hash:
            raise LogRefused("audit-head-mismatch", entry.index + 1, expected=head.hash, got=entry.hash)
    if head is not None and head.index >= chain.length:
        raise LogRefused(
            "audit-truncated",
            chain.length,
            expected=f"at least {head.index + 1} entries",
            got=str(chain.length),
        )
    return LogSummary(chain.length, chain.head, chain.sequences, torn)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from lines(_OpenFile(file))
    except OSError as error:
        raise AuditUnavailable("audit-unopenable", type(error).__name__) from error

"""Collateral on disk, content-addressed: blobs under their digests, and an index from names to digests.

    blobs/<sha256>      what a service answered, as it is kept
    index/<sha256 of the key>.json    {"key", "digest", "fetched_at", "not_after", "source"}

The disk is not trusted to keep a blob whole: each read compares its digest. Whoever writes the folder could
put in what was genuine earlier, so what is read is judged by its own dates like any evidence. Writes are
atomic and take turns, so that processes may share the folder; files that nobody here wrote are left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from attest import digest
from attest.collateral import folder as disk
from attest.collateral.ends import ends
from attest.collateral.entry import MAX_ENTRY_BYTES, Entry
from attest.refusal import Malformed, Refused

MAX_BLOB_BYTES: Final = 4 * 1024 * 1024
MAX_CACHE_BYTES: Final = 256 * 1024 * 1024
MAX_CACHE_ENTRIES: Final = 4096
"""As many as an archive carries. Each write reads the whole index, and evidence chooses what is looked up."""

_CLAUSE: Final = "docs/reference/collateral.md"


@dataclass(frozen=True, slots=True)
class Document:
    """Something to keep.

    Args:
        key: of the item.
        data: what is kept.
        fetched_at: when it was fetched, aware.
        source: whose answer it is: a host, for people.
    """

    key: str
    data: bytes
    fetched_at: datetime
    source: str = ""


class Cache:
    """A folder of collateral; made when the first thing is written.

    Args:
        folder: where.
        max_bytes: of all blobs; what was fetched earliest gives way.
        max_entries: of the index; likewise.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_CACHE_BYTES, max_entries: int = MAX_CACHE_ENTRIES
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_entries = max_entries

    def __repr__(self) -> str:
        return f"Cache({self._folder})"

    def read(
        self, key: str, *, not_before: datetime | None = None, at: datetime | None = None
    ) -> bytes | None:
        """What is kept under ``key``, or None.

        Args:
            key: of the item.
            not_before: what was fetched earlier counts as not there.
            at: what had ended by then, or was fetched later, counts as not there.

        Raises:
            Refused: ``collateral-cache-altered`` for a blob that is not the one of the index;
                ``collateral-cache-unusable``.
        """
        entry = self.entry(key)
        if entry is None or not entry.serves(not_before=not_before, at=at):
            return None
        try:
            return self.blob(entry)
        except Refused:
            newer = self.entry(key)  # another process may have put a newer one in its place meanwhile
            if newer is None or newer == entry or not newer.serves(not_before=not_before, at=at):
                raise
            return self.blob(newer)

    def entry(self, key: str) -> Entry | None:
        """The index's line for ``key``, or None.

        Raises:
            Refused: ``collateral-cache-unusable``.
        """
        entry = self._line(self._index(key))
        return entry if entry is not None and entry.key == key else None

    def blob(self, entry: Entry) -> bytes:
        """What ``entry`` names.

        Raises:
            Refused: ``collateral-cache-altered``, ``collateral-cache-unusable``.
        """
        got = digest.sha256_digest(data := disk.read(self._blob(entry.digest), MAX_BLOB_BYTES) or b"")
        if got != entry.digest:
            raise Refused("collateral-cache-altered", _CLAUSE, expected=entry.digest, got=got)
        return data

    def write(self, key: str, data: bytes, now: datetime, *, source: str = "") -> Entry:
        """Keep ``data`` under ``key``, as fetched at ``now``; raises as ``write_all``."""
        return self.write_all([Document(key, data, now, source)])[0]

    def write_all(self, documents: Sequence[Document]) -> tuple[Entry, ...]:
        """Keep these, in one turn.

        Raises:
            Malformed: ``collateral-too-large``, ``collateral-members``; then nothing was written.
            Refused: ``collateral-cache-unusable``.
        """
        entries = tuple(_entry_of(document) for document in documents)
        with disk.turn(self._folder):
            for entry, document in zip(entries, documents, strict=True):
                disk.write(self._blob(entry.digest), document.data)
                disk.write(self._index(entry.key), entry.serialise())
            self._sweep({entry.key for entry in entries})
        return entries

    def entries(self) -> Iterator[Entry]:
        """The index, by key; what is no line of it is passed over.

        Raises:
            Refused: ``collateral-cache-unusable``.
        """
        found = map(self._line, (self._folder / "index").glob("*.json"))
        yield from sorted((each for each in found if each is not None), key=lambda entry: entry.key)

    def _sweep(self, written: set[str]) -> None:
        """Drop the earliest while there is too much, and blobs that no line names any more."""
        sizes = disk.blobs(self._folder / "blobs")
        kept: set[str] = set()
        total = count = 0
        newest_first = sorted(self.entries(), key=lambda each: (each.key in written, each.fetched_at))[::-1]
        for entry in newest_first:
            name = entry.digest.removeprefix("sha256:")
            size = 0 if name in kept else sizes.get(name, 0)
            is_too_much = total + size > self._max_bytes or count >= self._max_entries
            if is_too_much and entry.key not in written:
                disk.drop(self._index(entry.key))
                continue
            kept.add(name)
            total += size
            count += 1
        for name in sizes.keys() - kept:
            disk.drop(self._folder / "blobs" / name)

    @staticmethod
    def _line(path: Path) -> Entry | None:
        try:
            data = disk.read(path, MAX_ENTRY_BYTES)
            return None if data is None else Entry.parse(data)
        except Malformed:
            return None

    def _index(self, key: str) -> Path:
        return self._folder / "index" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _blob(self, name: str) -> Path:
        return self._folder / "blobs" / name.removeprefix("sha256:")


def _entry_of(document: Document) -> Entry:
    if len(document.data) > MAX_BLOB_BYTES:
        raise Malformed("collateral-too-large", f"{len(document.data)} bytes, at most {MAX_BLOB_BYTES}")
    entry = Entry(
        document.key,
        digest.sha256_digest(document.data),
        document.fetched_at.replace(microsecond=0),
        ends(document.data),
        document.source,
    )
    return Entry.parse(entry.serialise())  # what could not be read again is not written

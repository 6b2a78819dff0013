"""Collateral on disk, content-addressed: blobs under their digests, and an index from names to digests.

    blobs/<sha256>      what a service answered, as it is kept
    index/<sha256 of the key>.json    {"key", "digest", "fetched_at"}

The disk is not trusted to keep a blob whole: each read compares its digest, and what does not fit counts as
not there. Whoever writes the folder could put in what was genuine earlier, so what is read is judged by its
own dates like any evidence. Writes are atomic, so that two processes may share the folder.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attest import digest, strict_json
from attest.refusal import Malformed, Refused

MAX_BLOB_BYTES: Final = 4 * 1024 * 1024
_MAX_ENTRY_BYTES: Final = 4096
_MEMBERS: Final = frozenset({"key", "digest", "fetched_at"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the index.

    Args:
        key: of the item.
        digest: ``sha256:`` of what is kept.
        fetched_at: when it was fetched, aware.
    """

    key: str
    digest: str
    fetched_at: datetime

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read one.

        Raises:
            Malformed: ``collateral-*``.
        """
        value = strict_json.loads(data, name="collateral", max_bytes=_MAX_ENTRY_BYTES)
        members = strict_json.members_exactly(value, _MEMBERS, name="collateral")
        key, fetched_at = members["key"], members["fetched_at"]
        if not isinstance(key, str) or type(fetched_at) is not int or not 0 <= fetched_at < 2**40:
            raise Malformed("collateral-members", "an entry's key or time")
        checked = digest.checked(members["digest"], code="collateral-members", field="digest")
        return cls(key, checked, datetime.fromtimestamp(fetched_at, UTC))

    def serialise(self) -> bytes:
        """The form that ``parse`` reads."""
        seconds = int(self.fetched_at.timestamp())
        return strict_json.canonical({"key": self.key, "digest": self.digest, "fetched_at": seconds})


class Cache:
    """A folder of collateral; made when the first thing is written.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"Cache({self._folder})"

    def read(self, key: str, *, not_before: datetime | None = None) -> bytes | None:
        """What is kept under ``key``; None if nothing is, or it was fetched before ``not_before``.

        Raises:
            Refused: ``collateral-cache-altered`` for a blob that is not the one of the index.
        """
        entry = self.entry(key)
        if entry is None or (not_before is not None and entry.fetched_at < not_before):
            return None
        return self.blob(entry)

    def entry(self, key: str) -> Entry | None:
        """The index's line for ``key``, or None."""
        try:
            entry = Entry.parse(_bounded(self._index(key), _MAX_ENTRY_BYTES))
        except (FileNotFoundError, Malformed):
            return None
        return entry if entry.key == key else None

    def blob(self, entry: Entry) -> bytes:
        """What ``entry`` names.

        Raises:
            Refused: ``collateral-cache-altered``.
        """
        try:
            data = _bounded(self._blob(entry.digest), MAX_BLOB_BYTES)
        except FileNotFoundError:
            data = b""
        got = digest.sha256_digest(data)
        if got != entry.digest:
            raise Refused(
                "collateral-cache-altered", "docs/reference/collateral.md", expected=entry.digest, got=got
            )
        return data

    def write(self, key: str, data: bytes, now: datetime) -> Entry:
        """Keep ``data`` under ``key``, as fetched at ``now``.

        Raises:
            Malformed: ``collateral-too-large``.
        """
        if len(data) > MAX_BLOB_BYTES:
            raise Malformed("collateral-too-large", f"{len(data)} bytes, at most {MAX_BLOB_BYTES}")
        entry = Entry(key, digest.sha256_digest(data), now)
        _write(self._blob(entry.digest), data)
        _write(self._index(key), entry.serialise())
        return entry

    def entries(self) -> Iterator[Entry]:
        """The index, by key; what is no line of it is passed over."""
        found = []
        for path in (self._folder / "index").glob("*.json"):
            try:
                found.append(Entry.parse(_bounded(path, _MAX_ENTRY_BYTES)))
            except (FileNotFoundError, Malformed):
                continue
        yield from sorted(found, key=lambda entry: entry.key)

    def _index(self, key: str) -> Path:
        return self._folder / "index" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _blob(self, name: str) -> Path:
        return self._folder / "blobs" / name.removeprefix("sha256:")


def _bounded(path: Path, longest: int) -> bytes:
    with path.open("rb") as file:
        return file.read(longest + 1)


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing, for the owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    draft.replace(path)

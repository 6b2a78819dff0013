"""Carry a cache across an air gap: one canonical JSON document with everything in it.

    {"format": "sealgate-collateral-v1", "entries": [{"key", "digest", "fetched_at", "data": b64}, ...]}

It is a container and proves nothing: each entry's digest is compared so that a damaged copy is noticed, and
what is in it is judged by its own signatures when it is used.
"""

from __future__ import annotations

from typing import Any, Final

from attest import digest, strict_json
from attest.collateral.cache import MAX_BLOB_BYTES, Cache, Entry
from attest.refusal import Malformed, Refused, Unsupported

FORMAT: Final = "sealgate-collateral-v1"
MAX_ARCHIVE_BYTES: Final = 64 * 1024 * 1024
MAX_ENTRIES: Final = 4096
CLAUSE: Final = "docs/reference/collateral.md"

_MEMBERS: Final = frozenset({"format", "entries"})
_ENTRY_MEMBERS: Final = frozenset({"key", "digest", "fetched_at", "data"})


def export_cache(cache: Cache) -> bytes:
    """Everything in the cache. Two caches with the same entries give the same bytes.

    Raises:
        Refused: ``collateral-cache-altered``.
        Malformed: ``archive-too-large``.
    """
    entries = [
        {
            "key": entry.key,
            "digest": entry.digest,
            "fetched_at": int(entry.fetched_at.timestamp()),
            "data": strict_json.b64encode(cache.blob(entry)),
        }
        for entry in cache.entries()
    ]
    document = strict_json.canonical({"format": FORMAT, "entries": entries})
    if len(entries) > MAX_ENTRIES or len(document) > MAX_ARCHIVE_BYTES:
        raise Malformed("archive-too-large", f"{len(entries)} entries, {len(document)} bytes", clause=CLAUSE)
    return document


def import_archive(data: bytes, cache: Cache) -> tuple[Entry, ...]:
    """Put everything of an archive into a cache, or nothing of it; what the cache has newer, it keeps.

    Raises:
        Malformed: ``archive-*``, ``collateral-*``.
        Unsupported: ``archive-format``.
        Refused: ``archive-digest`` for an entry whose data are not those of its digest.
    """
    value = strict_json.loads(data, name="archive", max_bytes=MAX_ARCHIVE_BYTES)
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise Malformed("archive-members", "format is not a string", clause=CLAUSE)
    if value["format"] != FORMAT:
        raise Unsupported("archive-format", CLAUSE, expected=FORMAT, got="another format")
    items = strict_json.members_exactly(value, _MEMBERS, name="archive")["entries"]
    if not isinstance(items, list) or len(items) > MAX_ENTRIES:
        raise Malformed("archive-members", f"entries is not a list of at most {MAX_ENTRIES}", clause=CLAUSE)
    parsed = [_entry(item) for item in items]
    for entry, blob in parsed:
        known = cache.entry(entry.key)
        if known is None or known.fetched_at < entry.fetched_at:
            cache.write(entry.key, blob, entry.fetched_at)
    return tuple(entry for entry, _ in parsed)


def _entry(item: Any) -> tuple[Entry, bytes]:
    members = dict(strict_json.members_exactly(item, _ENTRY_MEMBERS, name="archive"))
    blob = strict_json.b64decode(members.pop("data"), name="archive", max_bytes=MAX_BLOB_BYTES)
    entry = Entry.parse(strict_json.canonical(members))
    got = digest.sha256_digest(blob)
    if got != entry.digest:
        raise Refused("archive-digest", CLAUSE, expected=entry.digest, got=got)
    return entry, blob

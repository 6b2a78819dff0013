"""Carry a cache across an air gap: one canonical JSON document with everything in it.

    {"format": "sealgate-collateral-v1", "entries": [{as in the index, "data": b64}, ...]}

An entry's members are those of the cache's index. The archive is a container and proves nothing: each digest
is compared so that a damaged copy is noticed, and what is in it is judged by its own signatures when used.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from attest import digest, strict_json
from attest.collateral.cache import MAX_BLOB_BYTES, Cache, Document
from attest.collateral.entry import Entry
from attest.refusal import Malformed, Refused, Unsupported

FORMAT: Final = "sealgate-collateral-v1"
MAX_ARCHIVE_BYTES: Final = 64 * 1024 * 1024
MAX_ENTRIES: Final = 4096
CLAUSE: Final = "docs/reference/collateral.md"

_MEMBERS: Final = frozenset({"format", "entries"})
_DATA: Final = "data"


def export_cache(cache: Cache) -> bytes:
    """Everything in the cache. Two caches with the same entries give the same bytes.

    Raises:
        Refused: ``collateral-cache-altered``.
        Malformed: ``archive-too-large``.
    """
    entries = [
        entry.as_dict() | {_DATA: strict_json.b64encode(cache.blob(entry))} for entry in cache.entries()
    ]
    document = strict_json.canonical({"format": FORMAT, "entries": entries})
    if len(entries) > MAX_ENTRIES or len(document) > MAX_ARCHIVE_BYTES:
        raise Malformed("archive-too-large", f"{len(entries)} entries, {len(document)} bytes", clause=CLAUSE)
    return document


def import_archive(data: bytes, cache: Cache, *, now: datetime) -> tuple[Entry, ...]:
    """Put everything of an archive into a cache, or nothing of it; what the cache has newer, it keeps.

    Args:
        data: what ``export_cache`` made.
        cache: to be filled.
        now: the time; nothing can have been fetched later.

    Returns:
        the archive's entries, as the cache has them now.

    Raises:
        Malformed: ``archive-*``, ``collateral-*``.
        Unsupported: ``archive-format``.
        Refused: ``archive-digest`` for an entry whose data are not those of its digest; ``archive-time`` for
            one from the future, which nothing fetched would ever replace; ``collateral-cache-unusable``.
    """
    value = strict_json.loads(data, name="archive", max_bytes=MAX_ARCHIVE_BYTES)
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise Malformed("archive-members", "format is not a string", clause=CLAUSE)
    if value["format"] != FORMAT:
        raise Unsupported("archive-format", CLAUSE, expected=FORMAT, got="another format")
    items = strict_json.members_exactly(value, _MEMBERS, name="archive")["entries"]
    if not isinstance(items, list) or len(items) > MAX_ENTRIES:
        raise Malformed("archive-members", f"entries is not a list of at most {MAX_ENTRIES}", clause=CLAUSE)
    documents = {document.key: document for document in (_document(item, now) for item in items)}
    if len(documents) != len(items):
        raise Malformed("archive-members", "two entries of one key", clause=CLAUSE)
    cache.write_all([each for each in documents.values() if _is_newer(each, cache.entry(each.key))])
    return tuple(entry for entry in cache.entries() if entry.key in documents)


def _is_newer(document: Document, known: Entry | None) -> bool:
    return known is None or known.fetched_at < document.fetched_at


def _document(item: Any, now: datetime) -> Document:
    if not isinstance(item, dict) or _DATA not in item:
        raise Malformed("archive-members", "an entry without data", clause=CLAUSE)
    members = {name: member for name, member in item.items() if name != _DATA}
    blob = strict_json.b64decode(item[_DATA], name="archive", max_bytes=MAX_BLOB_BYTES)
    try:
        entry = Entry.parse(strict_json.canonical(members))
    except ValueError as error:
        raise Malformed("archive-members", "an entry without a canonical form", clause=CLAUSE) from error
    got = digest.sha256_digest(blob)
    if got != entry.digest:
        raise Refused("archive-digest", CLAUSE, expected=entry.digest, got=got)
    if entry.fetched_at > now:
        raise Refused(
            "archive-time",
            CLAUSE,
            expected=f"{entry.key}: fetched by {now.isoformat()}",
            got=entry.fetched_at.isoformat(),
        )
    return Document(entry.key, blob, entry.fetched_at, entry.source)

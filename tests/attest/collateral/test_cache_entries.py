"""The index has a bound of its own: small answers, of which evidence may cause any number, fill no bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from attest.collateral.archive import MAX_ENTRIES
from attest.collateral.cache import MAX_CACHE_ENTRIES, Cache, Document

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_earliest_entry_gives_way(tmp_path: Path) -> None:
    """However small it is, and whether or not others have the same bytes."""
    cache = Cache(tmp_path, max_entries=2)
    for number in range(4):
        cache.write(f"item {number}", b"same", NOW + timedelta(minutes=number))
    assert [entry.key for entry in cache.entries()] == ["item 2", "item 3"]
    assert cache.read("item 2") == b"same"


def test_what_is_written_in_one_turn_stays(tmp_path: Path) -> None:
    """An import is kept whole, and everything else makes room for it."""
    cache = Cache(tmp_path, max_entries=2)
    cache.write("before", b"0", NOW)
    cache.write_all([Document(f"item {number}", b"1", NOW) for number in range(3)])
    assert [entry.key for entry in cache.entries()] == ["item 0", "item 1", "item 2"]


def test_a_full_cache_can_be_exported() -> None:
    """An archive carries as many entries as a cache keeps."""
    assert MAX_CACHE_ENTRIES <= MAX_ENTRIES

"""Across an air gap: everything arrives, or nothing does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attest import strict_json
from attest.collateral.archive import MAX_ARCHIVE_BYTES, MAX_ENTRIES, export_cache, import_archive
from attest.collateral.cache import Cache
from attest.refusal import Refused

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """Of two entries."""
    cache = Cache(tmp_path / "from")
    cache.write("a", b"one", NOW, source="kdsintf.amd.com")
    cache.write("b", b"two", LATER)
    return export_cache(cache)


def test_round_trip(archive: bytes, tmp_path: Path) -> None:
    """The same entries with the same dates, and so the same archive again."""
    cache = Cache(tmp_path / "to")
    assert [entry.key for entry in import_archive(archive, cache, now=LATER)] == ["a", "b"]
    assert (cache.read("a"), cache.read("b")) == (b"one", b"two")
    assert [entry.source for entry in cache.entries()] == ["kdsintf.amd.com", ""]
    assert export_cache(cache) == archive


def test_what_is_newer_is_kept(archive: bytes, tmp_path: Path) -> None:
    """An old archive does not roll a cache back."""
    cache = Cache(tmp_path / "to")
    cache.write("a", b"newer", NOW + timedelta(seconds=1))
    cache.write("b", b"older", NOW)
    import_archive(archive, cache, now=LATER)
    assert (cache.read("a"), cache.read("b")) == (b"newer", b"two")


def _changed(archive: bytes, **members: Any) -> bytes:
    document = json.loads(archive)
    document["entries"][1] |= members
    return strict_json.canonical(document)


@pytest.mark.parametrize(
    ("change", "code", "exit_code"),
    [
        (lambda a: _changed(a, data="b25l"), "archive-digest", 10),
        (lambda a: _changed(a, digest="sha256:" + "0" * 64), "archive-digest", 10),
        (lambda a: _changed(a, digest="sha256:0"), "collateral-members", 30),
        (lambda a: _changed(a, data="b25l!"), "archive-base64", 30),
        (lambda a: _changed(a, data=None), "archive-base64", 30),
        (lambda a: _changed(a, fetched_at="now"), "collateral-members", 30),
        (lambda a: _changed(a, fetched_at=2**39), "collateral-members", 30),
        (lambda a: _changed(a, not_after=2**39), "collateral-members", 30),
        (lambda a: _changed(a, source=None), "collateral-members", 30),
        (lambda a: _changed(a, source="a" * 1025), "collateral-members", 30),
        (lambda a: _changed(a, fetched_at=int(LATER.timestamp()) + 1), "archive-time", 10),
        (lambda a: _changed(a, key="a"), "archive-members", 30),
        (lambda a: _changed(a, more=1), "collateral-members", 30),
        (lambda a: a.replace(b'"fetched_at":', b'"fetched_at":9999', 1), "collateral-members", 30),
        (lambda a: a.replace(b'"fetched_at":', b'"fetched_at":999999999', 1), "archive-members", 30),
        (lambda a: a.replace(b'"key":"b"', b'"key":"\\ud800"', 1), "archive-members", 30),
        (
            lambda a: strict_json.canonical(json.loads(a) | {"format": "sealgate-collateral-v2"}),
            "archive-format",
            20,
        ),
        (lambda a: strict_json.canonical(json.loads(a) | {"format": 1}), "archive-members", 30),
        (lambda a: strict_json.canonical(json.loads(a) | {"more": 1}), "archive-members", 30),
        (lambda a: strict_json.canonical(json.loads(a) | {"entries": {}}), "archive-members", 30),
        (
            lambda a: strict_json.canonical(json.loads(a) | {"entries": [None] * (MAX_ENTRIES + 1)}),
            "archive-members",
            30,
        ),
        (lambda _: b"[]", "archive-members", 30),
        (lambda a: a[:-1], "archive-not-json", 30),
        (lambda _: b" " * (MAX_ARCHIVE_BYTES + 1), "archive-too-large", 30),
    ],
)
def test_a_damaged_archive_leaves_no_trace(
    archive: bytes, tmp_path: Path, change: Any, code: str, exit_code: int
) -> None:
    """Refused as a whole, although its first entry is good."""
    cache = Cache(tmp_path / "to")
    with pytest.raises(Refused) as refusal:
        import_archive(change(archive), cache, now=LATER)
    assert (refusal.value.code, refusal.value.exit_code) == (code, exit_code)
    assert list(cache.entries()) == []


def test_an_altered_cache_is_not_exported(tmp_path: Path) -> None:
    """A copy of damage would look like an original elsewhere."""
    cache = Cache(tmp_path / "from")
    cache.write("a", b"one", NOW)
    (blob,) = (tmp_path / "from" / "blobs").iterdir()
    blob.write_bytes(b"two")
    with pytest.raises(Refused, match="collateral-cache-altered"):
        export_cache(cache)

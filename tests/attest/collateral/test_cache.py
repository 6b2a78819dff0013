"""The cache: what is read is what was written, or nothing, or a refusal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.collateral.cache import MAX_BLOB_BYTES, Cache, Entry
from attest.refusal import Malformed, Refused

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = "amd/vcek/v1/Genoa/crl"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty one."""
    return Cache(tmp_path / "collateral")


def test_round_trip(cache: Cache, tmp_path: Path) -> None:
    """Bytes come back, for the owner only, and under no other key."""
    assert cache.read(KEY) is None
    assert list(cache.entries()) == []
    entry = cache.write(KEY, b"list", NOW)
    assert cache.read(KEY) == b"list"
    assert cache.read(KEY + "2") is None
    assert list(cache.entries()) == [entry] == [cache.entry(KEY)]
    files = [path for path in (tmp_path / "collateral").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert len(files) == 2
    cache.write(KEY, b"newer list", NOW + timedelta(days=1))
    assert cache.read(KEY) == b"newer list"


def test_age(cache: Cache) -> None:
    """What is too old is as if it were not there; the moment itself is young enough."""
    cache.write(KEY, b"list", NOW)
    assert cache.read(KEY, not_before=NOW) == b"list"
    assert cache.read(KEY, not_before=NOW + timedelta(seconds=1)) is None


@pytest.mark.parametrize("change", [b"", b"lost", b"list of others"])
def test_an_altered_blob_is_refused(cache: Cache, tmp_path: Path, change: bytes) -> None:
    """Whoever writes the folder cannot change what a digest names."""
    cache.write(KEY, b"list", NOW)
    (blob,) = (tmp_path / "collateral" / "blobs").iterdir()
    blob.write_bytes(change)
    with pytest.raises(Refused) as refusal:
        cache.read(KEY)
    assert refusal.value.code == "collateral-cache-altered"
    blob.unlink()
    with pytest.raises(Refused, match="collateral-cache-altered"):
        cache.read(KEY)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"digest":"sha256:00","fetched_at":1,"key":"amd/vcek/v1/Genoa/crl"}',
        b'{"digest":"sha256:' + b"0" * 64 + b'","fetched_at":-1,"key":"amd/vcek/v1/Genoa/crl"}',
        b'{"digest":"sha256:' + b"0" * 64 + b'","fetched_at":true,"key":"amd/vcek/v1/Genoa/crl"}',
        b'{"digest":"sha256:' + b"0" * 64 + b'","fetched_at":1,"key":7}',
        b'{"digest":"sha256:' + b"0" * 64 + b'","fetched_at":1,"key":"another"}',
        b" " * 5000,
    ],
)
def test_an_index_line_that_is_none(cache: Cache, tmp_path: Path, line: bytes) -> None:
    """Counts as not there: the item is fetched again."""
    cache.write(KEY, b"list", NOW)
    (index,) = (tmp_path / "collateral" / "index").iterdir()
    index.write_bytes(line)
    assert cache.read(KEY) is None
    assert all(entry.key != KEY for entry in cache.entries())


def test_bounds(cache: Cache) -> None:
    """A blob has a longest length, and an entry says only what it can."""
    with pytest.raises(Malformed, match="collateral-too-large"):
        cache.write(KEY, bytes(MAX_BLOB_BYTES + 1), NOW)
    cache.write(KEY, bytes(MAX_BLOB_BYTES), NOW)
    entry = Entry(KEY, "sha256:" + "ab" * 32, NOW)
    assert Entry.parse(entry.serialise()) == entry
    assert "Cache(" in repr(cache)

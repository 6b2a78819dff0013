"""The cache: what is read is what was written, or nothing, or a refusal."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.collateral.cache import MAX_BLOB_BYTES, Cache, Document
from attest.collateral.entry import Entry
from attest.mock.vendor import MockVendor
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
    assert {path.name for path in files} >= {".lock"}
    assert len(files) == 3
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


def _line(**members: str) -> bytes:
    line = {
        "digest": '"sha256:' + "0" * 64 + '"',
        "fetched_at": "1",
        "key": f'"{KEY}"',
        "not_after": "null",
        "source": '""',
    } | members
    return ("{" + ",".join(f'"{name}":{value}' for name, value in line.items()) + "}").encode()


def test_a_line_of_the_index() -> None:
    """The form that the next test takes apart; names are those of services, in ASCII, and of some length."""
    assert Entry.parse(_line()).key == KEY
    for text in ('"\\ud800"', '"\\u00e9"', '"' + "a" * 1025 + '"'):
        for member in ("key", "source"):
            with pytest.raises(Malformed, match="collateral-members"):
                Entry.parse(_line(**{member: text}))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"digest":"sha256:00","fetched_at":1,"key":"amd/vcek/v1/Genoa/crl"}',
        _line(fetched_at="-1"),
        _line(fetched_at="true"),
        _line(fetched_at=str(2**39)),
        _line(not_after="0.5"),
        _line(source="null"),
        _line(key="7"),
        _line(key='"\\ud800"'),
        _line(key='"another"'),
        _line(digest='"sha256:' + "A" * 64 + '"'),
        _line()[:-1] + b',"more":1}',
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


def test_an_end_of_its_own(cache: Cache) -> None:
    """A list is current until its next update; one that was fetched later than now is not from here."""
    crl = MockVendor.create().revocation_list((), now=NOW)
    entry = cache.write(KEY, crl, NOW, source="kdsintf.amd.com")
    assert entry.not_after is not None
    assert entry.not_after > NOW
    assert cache.read(KEY, at=NOW) == cache.read(KEY, at=entry.not_after) == crl
    assert cache.read(KEY, at=entry.not_after + timedelta(seconds=1)) is None
    assert cache.read(KEY, at=NOW - timedelta(seconds=1)) is None
    assert cache.read(KEY) == crl
    assert cache.entry(KEY) == entry
    assert entry.source == "kdsintf.amd.com"


def test_what_nothing_names_is_dropped(cache: Cache, tmp_path: Path) -> None:
    """The old list goes when a newer one comes, unless another name has it; strangers' files stay."""
    folder = tmp_path / "collateral"
    cache.write_all([Document("a", b"one", NOW), Document("b", b"one", NOW)])
    (folder / "blobs" / "notes.txt").write_text("mine")
    (folder / "index" / "notes.txt").write_text("mine")
    assert len(list((folder / "blobs").iterdir())) == 2
    cache.write("a", b"two", NOW)
    assert (cache.read("a"), cache.read("b")) == (b"two", b"one")
    cache.write("b", b"two", NOW)
    assert {path.name for path in (folder / "blobs").iterdir()} == {
        "notes.txt",
        cache.write("a", b"two", NOW).digest.removeprefix("sha256:"),
    }
    assert [entry.key for entry in cache.entries()] == ["a", "b"]


def test_the_earliest_gives_way(tmp_path: Path) -> None:
    """A bound on all of it; what was just written is never what goes."""
    cache = Cache(tmp_path, max_bytes=10)
    for number, key in enumerate("abc"):
        cache.write(key, key.encode() * 5, NOW + timedelta(seconds=number))
    assert [entry.key for entry in cache.entries()] == ["b", "c"]
    cache.write("0", b"0" * 9, NOW - timedelta(days=1))
    assert [entry.key for entry in cache.entries()] == ["0"]
    cache.write("1", b"1" * 11, NOW - timedelta(days=2))
    assert [entry.key for entry in cache.entries()] == ["1"]
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_a_newer_one_may_come_between_a_line_and_its_blob(tmp_path: Path) -> None:
    """Another process has replaced both: the newer one is read, if it serves."""
    lines = [Cache(tmp_path).write(KEY, data, NOW) for data in (b"old", b"new")]
    assert len(list((tmp_path / "blobs").iterdir())) == 1

    class Raced(Cache):
        """Sees the index as it was before, first."""

        def entry(self, key: str) -> Entry | None:
            asked.append(key)
            return lines[len(asked) - 1]

    asked: list[str] = []
    assert Raced(tmp_path).read(KEY) == b"new"
    assert asked == [KEY, KEY]
    lines = [lines[0], lines[0]]
    asked.clear()
    with pytest.raises(Refused, match="collateral-cache-altered"):
        Raced(tmp_path).read(KEY)


def test_nothing_is_written_of_what_is_too_large(cache: Cache) -> None:
    """All documents of one turn, or none."""
    with pytest.raises(Malformed, match="collateral-too-large"):
        cache.write_all([Document("a", b"one", NOW), Document("b", bytes(MAX_BLOB_BYTES + 1), NOW)])
    with pytest.raises(Malformed, match="collateral-members"):
        cache.write_all([Document("a", b"one", NOW), Document("b" * 1025, b"two", NOW)])
    assert list(cache.entries()) == []


def test_links_and_pipes_are_not_followed(cache: Cache, tmp_path: Path) -> None:
    """A link leads elsewhere and a pipe may never answer: neither is read."""
    entry = cache.write(KEY, b"list", NOW)
    blob = tmp_path / "collateral" / "blobs" / entry.digest.removeprefix("sha256:")
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="collateral-cache-unusable"):
        cache.read(KEY)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(Refused, match="collateral-cache-altered"):
        cache.read(KEY)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """Neither read nor written, by a code and not by the system's own error."""
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file")
    with pytest.raises(Refused, match="collateral-cache-unusable"):
        cache.write(KEY, b"list", NOW)
    with pytest.raises(Refused, match="collateral-cache-unusable"):
        cache.entry(KEY)
    cache = Cache(tmp_path / "other")
    (tmp_path / "other" / "blobs" / ("0" * 64)).mkdir(parents=True)
    (tmp_path / "other" / "index").write_bytes(b"")
    with pytest.raises(Refused, match="collateral-cache-unusable"):
        cache.write(KEY, b"list", NOW)


def test_writers_take_turns(tmp_path: Path) -> None:
    """Many at once, in threads that share nothing but the folder: every line has its blob in the end."""
    keys = [f"key-{number % 4}" for number in range(24)]

    def write(number: int) -> None:
        cache = Cache(tmp_path)
        cache.write(keys[number], f"data {number}".encode(), NOW + timedelta(seconds=number))
        assert cache.read(keys[number]) is not None

    threads = [threading.Thread(target=write, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache = Cache(tmp_path)
    assert [entry.key for entry in cache.entries()] == sorted(set(keys))
    assert all(cache.blob(entry) for entry in cache.entries())
    assert len(list((tmp_path / "blobs").iterdir())) == 4

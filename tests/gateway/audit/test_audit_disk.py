"""A disk that fails: nothing is announced that does not stand, and nothing is built on what failed."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.audit.file import AuditUnavailable
from gateway.audit.log import AuditLog
from gateway.audit.record import DecisionRecord
from gateway.audit.verify import verify_log

Decision = Callable[..., DecisionRecord]
Open = Callable[[], AuditLog]


@contextmanager
def _files_at_most(size: int) -> Iterator[None]:
    """The kernel writes what fits and refuses the rest, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _refused(log: AuditLog, record: DecisionRecord) -> str:
    with pytest.raises(AuditUnavailable) as caught:
        log.append_sync(record)
    return caught.value.code


@pytest.mark.parametrize("room", [0, 1, 500])
def test_a_full_disk_refuses_and_leaves_no_half_line(
    room: int, open_log: Open, path: Path, decision: Decision
) -> None:
    log = open_log()
    log.append_sync(decision())
    before = path.read_bytes()
    with _files_at_most(len(before) + room):
        assert _refused(log, decision()) == "audit-disk"
        assert _refused(log, decision()) == "audit-disk"
    assert path.read_bytes() == before
    assert log.length == 1
    assert log.append_sync(decision()).tenant_sequence == 2  # there is room again, and no gap
    assert verify_log(path).entries == 2


def _replace_descriptor(log: AuditLog, path: str, flags: int) -> None:
    fd = os.open(path, flags)
    os.dup2(fd, log._file._fd)
    os.close(fd)


def test_dev_full_refuses(open_log: Open, decision: Decision, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log()
    log.append_sync(decision())
    _replace_descriptor(log, "/dev/full", os.O_RDWR)
    monkeypatch.setattr("gateway.audit.file.LogFile._require_untouched", lambda _: None)
    assert _refused(log, decision()) == "audit-disk"
    assert _refused(log, decision()) == "audit-broken"  # what was half written could not be cut off
    assert log.length == 1


def test_a_file_that_became_read_only_refuses(open_log: Open, path: Path, decision: Decision) -> None:
    log = open_log()
    log.append_sync(decision())
    _replace_descriptor(log, str(path), os.O_RDONLY)
    assert _refused(log, decision()) == "audit-disk"
    assert verify_log(path).entries == 1


def test_after_a_failed_sync_the_file_is_given_up(
    open_log: Open, path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux may report the next sync of lost pages as a success."""
    log = open_log()
    log.append_sync(decision())

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        assert _refused(log, decision()) == "audit-disk"
    assert _refused(log, decision()) == "audit-broken"
    log.close()
    # Opened anew, what did reach the disk counts, so that no number is given twice.
    assert open_log().append_sync(decision()).tenant_sequence == 3
    assert verify_log(path).entries == 3


def test_a_log_moved_away_takes_nothing_more(open_log: Open, path: Path, decision: Decision) -> None:
    """Every write and sync would succeed, on a file that nobody will ever look at."""
    log = open_log()
    log.append_sync(decision())
    path.rename(path.with_name("rotated"))
    assert _refused(log, decision()) == "audit-moved"
    path.touch()
    assert _refused(log, decision()) == "audit-moved"
    path.with_name("rotated").replace(path)
    assert log.append_sync(decision()).tenant_sequence == 2


@pytest.mark.parametrize("change", [-1, 1])
def test_a_log_changed_by_another_hand_takes_nothing_more(
    change: int, open_log: Open, path: Path, decision: Decision
) -> None:
    log = open_log()
    log.append_sync(decision())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + change)
    assert _refused(log, decision()) == "audit-changed"


def test_a_place_where_no_file_can_be_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AuditUnavailable) as caught:
        AuditLog.open(tmp_path / "file" / "log.jsonl")
    assert caught.value.code == "audit-unopenable"
    with pytest.raises(AuditUnavailable) as caught:
        AuditLog.open(tmp_path)
    assert caught.value.code == "audit-unopenable"


def test_what_is_no_regular_file_refuses_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/full"), Path("/dev/null")):
        with pytest.raises(AuditUnavailable) as caught:
            AuditLog.open(path)
        assert caught.value.code == "audit-not-a-file"


def test_a_torn_end_that_cannot_be_set_aside_refuses(open_log: Open, path: Path, decision: Decision) -> None:
    with open_log() as log:
        log.append_sync(decision())
    with path.open("ab") as file:
        file.write(b'{"entry":')
    path.with_name("log.jsonl.torn-1").mkdir()
    with pytest.raises(AuditUnavailable) as caught:
        open_log()
    assert caught.value.code == "audit-disk"
    assert path.read_bytes().endswith(b'{"entry":')


def test_a_refused_open_lets_go_of_the_lock(open_log: Open, path: Path, decision: Decision) -> None:
    with open_log() as log:
        log.append_sync(decision())
    good = path.read_bytes()
    path.write_bytes(good.replace(b"key_1", b"key_2"))
    path.with_name("log.jsonl.head").unlink()
    with pytest.raises(Exception, match="audit-hash-mismatch"):
        open_log()
    path.write_bytes(good)
    open_log()

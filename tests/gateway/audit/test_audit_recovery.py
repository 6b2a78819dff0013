"""After a crash: what was announced stands, what was torn is set aside and reported."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.chain import LogRefused
from gateway.audit.log import AuditLog
from gateway.audit.record import AdministrationRecord, DecisionRecord
from gateway.audit.recovery import MAX_TORN_BYTES
from gateway.audit.verify import read_entries, verify_log

Decision = Callable[..., DecisionRecord]
Open = Callable[[], AuditLog]

WRITER = """
import sys, threading
from datetime import UTC, datetime
from pathlib import Path
from gateway.audit.log import AuditLog
from gateway.audit.record import DecisionRecord

log = AuditLog.open(Path(sys.argv[1]))
record = DecisionRecord(time=datetime.now(UTC), tenant="t", actor="k", action="send_prompt", request_id="r",
    verdict="allow", rules=(), policy_digest="sha256:" + "a" * 64, facts={})

def work():
    while True:
        entry = log.append_sync(record)
        sys.stdout.write(f"{entry.index} {entry.hash}\\n")
        sys.stdout.flush()

for _ in range(4):
    threading.Thread(target=work).start()
"""


def _three(open_log: Open, decision: Decision) -> None:
    with open_log() as log:
        for _ in range(3):
            log.append_sync(decision())


@pytest.mark.parametrize("with_head", [True, False])
def test_a_line_torn_anywhere_is_set_aside_and_reported(
    with_head: bool, open_log: Open, path: Path, decision: Decision
) -> None:
    """The last line of three is cut at places all over it; the head file knows two."""
    with open_log() as log:
        log.append_sync(decision())
        log.append_sync(decision())
    head = path.with_name("log.jsonl.head")
    two, saved = path.read_bytes(), head.read_bytes()
    with open_log() as log:
        log.append_sync(decision())
    last = path.read_bytes()[len(two) :]
    for cut in (*range(1, len(last) - 1, 97), len(last) - 1):
        path.write_bytes(two + last[:cut])
        head.write_bytes(saved)
        if not with_head:
            head.unlink()
        with open_log() as log:
            assert log.length == 3
            assert log.append_sync(decision()).tenant_sequence == 3
        report = list(read_entries(path))[2].record
        assert isinstance(report, AdministrationRecord)
        assert (report.act, report.count) == ("log-recovered", cut)
        assert path.with_name("log.jsonl.torn-2").read_bytes() == last[:cut]


def test_blocks_of_zeros_at_the_end_are_torn_too(open_log: Open, path: Path, decision: Decision) -> None:
    """Some file systems grow a file before they write its blocks."""
    _three(open_log, decision)
    with path.open("ab") as file:
        file.write(b"\x00" * 8192)
    with open_log() as log:
        assert log.length == 4
    assert verify_log(path).sequences == {"tenant-1": 3}


def test_damage_before_the_end_is_not_repaired(open_log: Open, path: Path, decision: Decision) -> None:
    _three(open_log, decision)
    path.with_name("log.jsonl.head").unlink()
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + b"\x00" * (len(lines[1]) - 1) + b"\n" + lines[2]
    path.write_bytes(damaged)
    with pytest.raises(LogRefused) as caught:
        open_log()
    assert (caught.value.code, caught.value.line) == ("audit-line-frame", 2)
    assert path.read_bytes() == damaged


def test_an_end_too_long_to_be_torn_is_not_cut_off(open_log: Open, path: Path, decision: Decision) -> None:
    _three(open_log, decision)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size + MAX_TORN_BYTES + 1)
    with pytest.raises(LogRefused) as caught:
        open_log()
    assert (caught.value.code, caught.value.line) == ("audit-line-frame", 4)


def test_a_log_shorter_than_its_head_refuses(open_log: Open, path: Path, decision: Decision) -> None:
    _three(open_log, decision)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(LogRefused) as caught:
        open_log()
    assert caught.value.code == "audit-truncated"


def test_a_log_other_than_its_heads_refuses(
    open_log: Open, path: Path, decision: Decision, tmp_path: Path
) -> None:
    """A whole other log, valid and of the same length, put in its place."""
    _three(open_log, decision)
    with AuditLog.open(tmp_path / "other.jsonl") as other:
        for _ in range(3):
            other.append_sync(decision(actor="key_2"))
    path.write_bytes((tmp_path / "other.jsonl").read_bytes())
    with pytest.raises(LogRefused) as caught:
        open_log()
    assert caught.value.code == "audit-head-mismatch"


def test_a_writer_that_is_killed_loses_nothing_it_announced(path: Path) -> None:
    for expected in range(1, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        announced = [process.stdout.readline() for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        announced += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        hashes = {entry.index: entry.hash for entry in read_entries(path)}
        whole = [line.split() for line in announced if line.endswith("\n")]
        assert len(whole) >= 50
        assert all(hashes[int(index)] == digest for index, digest in whole), f"round {expected}"

"""Appending: durable before it returns, in one chain, numbered without gaps, by one writer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.refusal import Malformed
from gateway.audit import log as log_module
from gateway.audit.chain import GENESIS
from gateway.audit.file import AuditUnavailable
from gateway.audit.log import AuditLog
from gateway.audit.record import AdministrationRecord, DecisionRecord, OutcomeRecord
from gateway.audit.verify import read_entries, verify_log
from tests.gateway.audit.conftest import NOW

Decision = Callable[..., DecisionRecord]
Outcome = Callable[..., OutcomeRecord]
Open = Callable[[], AuditLog]


class SlowDisk:
    """``fdatasync`` that counts its calls and waits at a gate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.waiting = threading.Event()
        self.gate = threading.Event()
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd: int) -> None:
        """Stands in for ``os.fdatasync``."""
        self.calls += 1
        self.waiting.set()
        if not self.gate.wait(10):
            raise TimeoutError
        self._sync(fd)


def test_entries_are_numbered_and_chained(open_log: Open, decision: Decision, outcome: Outcome) -> None:
    log = open_log()
    first = log.append_sync(decision())
    second = log.append_sync(outcome())
    assert (first.index, first.event.previous, first.tenant_sequence) == (0, GENESIS, 1)
    assert (second.index, second.event.previous, second.tenant_sequence) == (1, first.hash, None)
    assert (log.length, log.head) == (2, second.hash)
    assert second.record == outcome()


def test_only_what_will_be_sent_takes_a_number(open_log: Open, decision: Decision) -> None:
    """The runtime sees the numbers: a denial in between would look to it like a lost request."""
    log = open_log()
    sent = [
        decision(),
        decision(verdict="deny", rules=()),
        decision(action="retrieve"),
        AdministrationRecord(time=NOW, actor="svc:cli", act="key-created", subject="key_2"),
        decision(tenant="tenant-2"),
        decision(),
    ]
    assert [log.append_sync(record).tenant_sequence for record in sent] == [1, None, None, None, 1, 2]


def test_an_entry_is_on_disk_before_its_append_returns(
    open_log: Open, path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    log = open_log()
    future = log.submit(decision())
    assert disk.waiting.wait(10)
    time.sleep(0.02)
    assert not future.done()
    assert path.read_bytes().endswith(b"\n")  # written, and yet not announced
    assert log.length == 0
    disk.gate.set()
    assert future.result(10).index == 0


async def test_many_callers_share_a_sync(
    open_log: Open, path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    log = open_log()
    appends = [
        asyncio.ensure_future(log.append(decision(request_id=f"req-{number}"))) for number in range(64)
    ]
    await asyncio.to_thread(disk.waiting.wait, 10)
    disk.gate.set()
    entries = await asyncio.gather(*appends)
    assert disk.calls <= 3  # those that the first sync was started with, and all the rest
    assert sorted(entry.index for entry in entries) == list(range(64))
    assert [entry.tenant_sequence for entry in sorted(entries, key=lambda entry: entry.index)] == list(
        range(1, 65)
    )
    assert verify_log(path).entries == 64


def test_threads_get_numbers_without_gap_or_repetition(
    open_log: Open, path: Path, decision: Decision
) -> None:
    log = open_log()
    numbers: list[int | None] = []

    def work() -> None:
        numbers.extend(log.append_sync(decision()).tenant_sequence for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number or 0 for number in numbers) == list(range(1, 101))
    assert verify_log(path).sequences == {"tenant-1": 100}


async def test_a_cancelled_append_is_logged_or_leaves_no_trace(
    open_log: Open, path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    log = open_log()
    taken = asyncio.ensure_future(log.append(decision(request_id="taken")))
    await asyncio.to_thread(disk.waiting.wait, 10)
    waiting = asyncio.ensure_future(log.append(decision(request_id="waiting")))
    await asyncio.sleep(0)
    taken.cancel()
    waiting.cancel()
    await asyncio.gather(taken, waiting, return_exceptions=True)
    disk.gate.set()
    assert (await log.append(decision())).tenant_sequence == 2
    logged = [entry.record for entry in read_entries(path)]
    assert [record.request_id for record in logged if isinstance(record, DecisionRecord)] == [
        "taken",
        "req-1",
    ]


def test_numbers_go_on_after_reopening(open_log: Open, path: Path, decision: Decision) -> None:
    with open_log() as log:
        head = log.append_sync(decision()).hash
    for expected in (2, 3):  # once from the head file, once from all of the log
        with open_log() as log:
            entry = log.append_sync(decision())
            assert (entry.tenant_sequence, entry.event.previous) == (expected, head)
            head = entry.hash
        path.with_name("log.jsonl.head").unlink()
    assert verify_log(path).entries == 3


def test_a_head_file_that_is_behind_is_caught_up(open_log: Open, path: Path, decision: Decision) -> None:
    with open_log() as log:
        log.append_sync(decision())
    behind = path.with_name("log.jsonl.head").read_bytes()
    with open_log() as log:
        log.append_sync(decision())
    path.with_name("log.jsonl.head").write_bytes(behind)
    assert open_log().append_sync(decision()).tenant_sequence == 3


@pytest.mark.parametrize("text", [b"", b"{}", b'{"format":1}', b"\x00" * 100])
def test_an_unreadable_head_file_only_costs_time(
    text: bytes, open_log: Open, path: Path, decision: Decision
) -> None:
    with open_log() as log:
        log.append_sync(decision())
    path.with_name("log.jsonl.head").write_bytes(text)
    assert open_log().append_sync(decision()).tenant_sequence == 2


def test_the_head_is_saved_now_and_then(
    open_log: Open, path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "HEAD_EVERY", 2)
    log = open_log()
    for _ in range(3):
        log.append_sync(decision())
    head = path.with_name("log.jsonl.head")
    deadline = time.monotonic() + 10
    while not head.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert b'"length":2' in head.read_bytes()


def test_a_second_writer_refuses(open_log: Open, path: Path) -> None:
    log = open_log()
    with pytest.raises(AuditUnavailable) as caught:
        AuditLog.open(path)
    assert caught.value.code == "audit-locked"
    script = "import sys, pathlib, gateway.audit.log as log; log.AuditLog.open(pathlib.Path(sys.argv[1]))"
    other = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert "audit-locked" in other.stderr
    log.close()
    open_log()


def test_a_closed_log_takes_nothing(open_log: Open, decision: Decision) -> None:
    log = open_log()
    log.close()
    log.close()
    with pytest.raises(AuditUnavailable) as caught:
        log.append_sync(decision())
    assert caught.value.code == "audit-closed"


def test_closing_writes_what_waits(
    open_log: Open, path: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    log = open_log()
    futures = [log.submit(decision()) for _ in range(5)]
    disk.gate.set()
    log.close()
    assert [future.result(0).index for future in futures] == [0, 1, 2, 3, 4]
    assert verify_log(path).entries == 5


def test_too_many_waiting_refuse_at_once(
    open_log: Open, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING", 2)
    disk = SlowDisk(monkeypatch)
    log = open_log()
    log.submit(decision())
    assert disk.waiting.wait(10)
    log.submit(decision())
    log.submit(decision())
    with pytest.raises(AuditUnavailable) as caught:
        log.submit(decision())
    assert caught.value.code == "audit-overloaded"
    disk.gate.set()


def test_a_record_that_cannot_be_an_entry_harms_nobody_else(
    open_log: Open, decision: Decision, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    log = open_log()
    log.submit(decision())
    assert disk.waiting.wait(10)
    batch = [
        log.submit(decision()),
        log.submit(outcome(decision_index=2)),
        log.submit(decision(rules=tuple(f"rule-{number:0100}" for number in range(700)))),
        log.submit(decision()),
    ]
    disk.gate.set()
    errors = [future.exception(10) for future in batch]
    assert [error.code if isinstance(error, Malformed) else None for error in errors] == [
        None,
        "audit-decision-index",
        "audit-event-too-large",
        None,
    ]
    assert batch[3].result(0).tenant_sequence == 3


def test_the_log_is_its_owners_only(open_log: Open, path: Path, decision: Decision) -> None:
    with open_log() as log:
        log.append_sync(decision())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.with_name("log.jsonl.head").stat().st_mode & 0o777 == 0o600

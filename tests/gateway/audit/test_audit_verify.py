"""Tampering: whatever is done to a log, the first bad line is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import rfc8785

from gateway.audit.chain import Chain, LogRefused
from gateway.audit.entry import Event, encode
from gateway.audit.file import AuditUnavailable
from gateway.audit.record import DecisionRecord, OutcomeRecord
from gateway.audit.verify import KnownHead, read_entries, verify_log

Decision = Callable[..., DecisionRecord]
Outcome = Callable[..., OutcomeRecord]


@pytest.fixture
def lines(decision: Decision, outcome: Outcome) -> list[bytes]:
    """Six lines of a log: three sent, three answered."""
    chain = Chain()
    result = []
    for number in range(3):
        result.append(chain.extend(decision(request_id=f"req-{number}"))[1])
        result.append(chain.extend(outcome(decision_index=2 * number))[1])
    return result


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., tuple[str, int]]:
    """Verifies lines that must refuse; gives the code and the line."""

    def verify(lines: list[bytes], *, head: KnownHead | None = None) -> tuple[str, int]:
        path = tmp_path / "tampered.jsonl"
        path.write_bytes(b"".join(lines))
        with pytest.raises(LogRefused) as caught:
            verify_log(path, head=head)
        return caught.value.code, caught.value.line

    return verify


Refuses = Callable[..., tuple[str, int]]


def _line(data: bytes) -> bytes:
    return b'{"entry":%s,"hash":"sha256:%s"}\n' % (data, hashlib.sha256(data).hexdigest().encode())


def _rehashed(line: bytes, old: bytes, new: bytes) -> bytes:
    data = line[len(b'{"entry":') : line.rindex(b',"hash":"')]
    assert old in data
    return _line(data.replace(old, new))


def _hash(line: bytes) -> str:
    return str(json.loads(line)["hash"])


def test_a_whole_log_verifies(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(lines))
    summary = verify_log(path, head=KnownHead(3, _hash(lines[3])))
    assert (summary.entries, summary.head, summary.torn_bytes) == (6, _hash(lines[5]), 0)
    assert summary.sequences == {"tenant-1": 3}
    assert [entry.index for entry in read_entries(path)] == list(range(6))


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    assert verify_log(tmp_path / "log.jsonl").entries == 0
    with pytest.raises(AuditUnavailable) as caught:
        verify_log(tmp_path / "absent")
    assert caught.value.code == "audit-unopenable"


def test_any_bit_flipped_names_its_line(lines: list[bytes], refused: Refuses) -> None:
    whole = b"".join(lines)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    for bit in range(0, 8 * (len(whole) - 1), 149):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        line = sum(start <= bit // 8 for start in starts)
        _, named = refused([bytes(changed)])
        assert named == line


def test_the_last_byte_is_the_only_one_whose_change_looks_like_a_crash(
    lines: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(lines)[:-1])
    summary = verify_log(path)
    assert (summary.entries, summary.torn_bytes) == (5, len(lines[5]) - 1)


def test_lines_removed_repeated_swapped_or_inserted(lines: list[bytes], refused: Refuses) -> None:
    assert refused(lines[1:]) == ("audit-index", 1)
    assert refused(lines[:2] + lines[3:]) == ("audit-index", 3)
    assert refused([*lines[:3], lines[2], *lines[3:]]) == ("audit-index", 4)
    assert refused([lines[0], lines[2], lines[1], *lines[3:]]) == ("audit-index", 2)
    assert refused([*lines, b"\n"]) == ("audit-line-frame", 7)


def test_a_line_changed_with_its_own_hash_breaks_at_the_next(lines: list[bytes], refused: Refuses) -> None:
    lines[2] = _rehashed(lines[2], b"key_1", b"key_2")
    assert refused(lines) == ("audit-previous-mismatch", 4)


def test_an_end_cut_off_shows_against_a_known_head(lines: list[bytes], refused: Refuses) -> None:
    head = KnownHead(5, _hash(lines[5]))
    assert refused(lines[:4], head=head) == ("audit-truncated", 4)
    assert refused([], head=KnownHead(0, _hash(lines[0]))) == ("audit-truncated", 0)


def test_a_log_written_anew_shows_against_a_known_head(
    lines: list[bytes], refused: Refuses, decision: Decision
) -> None:
    chain = Chain()
    anew = [chain.extend(decision(actor="key_2"))[1] for _ in range(6)]
    assert refused(anew, head=KnownHead(3, _hash(lines[3]))) == ("audit-head-mismatch", 4)


@pytest.mark.parametrize("number", [None, 1, 3, 4])
def test_a_gap_in_a_tenants_numbers_is_named(
    number: int | None, refused: Refuses, decision: Decision
) -> None:
    """A writer that is not ours, so that all hashes are right."""
    chain = Chain()
    first = chain.extend(decision())[1]
    forged = encode(Event(1, chain.head, number, decision()))
    assert refused([first, _line(forged)]) == ("audit-sequence-gap", 2)


def test_a_number_on_what_is_not_sent_is_named(refused: Refuses, decision: Decision) -> None:
    forged = encode(Event(0, Chain().head, 1, decision(verdict="deny")))
    assert refused([_line(forged)]) == ("audit-sequence-gap", 1)


def test_an_outcome_without_its_decision_is_named(refused: Refuses, outcome: Outcome) -> None:
    forged = encode(Event(0, Chain().head, None, outcome(decision_index=0)))
    assert refused([_line(forged)]) == ("audit-decision-index", 1)


def test_an_event_with_a_member_too_many_is_named(lines: list[bytes], refused: Refuses) -> None:
    document = json.loads(lines[0])["entry"]
    document["prompt"] = "x"
    assert refused([_line(rfc8785.dumps(document))]) == ("audit-event-not-canonical", 1)


def test_an_event_of_another_spelling_is_named(lines: list[bytes], refused: Refuses) -> None:
    assert refused([_rehashed(lines[0], b'"api":', b'"api": ')]) == ("audit-event-not-canonical", 1)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"entry":{},"hash":""}\n', b"x" * 70000 + b"\n"])
def test_what_is_no_line_is_named(line: bytes, lines: list[bytes], refused: Refuses) -> None:
    assert refused([lines[0], line]) == ("audit-line-frame", 2)


def test_a_hash_that_is_not_the_events_is_named(lines: list[bytes], refused: Refuses) -> None:
    other = _hash(lines[1]).encode()
    assert refused([lines[0].replace(_hash(lines[0]).encode(), other)]) == ("audit-hash-mismatch", 1)


def test_entries_read_in_order_stop_at_the_bad_one(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join([*lines[:2], lines[3]]))
    entries = read_entries(path)
    assert [next(entries).index, next(entries).index] == [0, 1]
    with pytest.raises(LogRefused):
        next(entries)


def test_a_copy_of_a_chain_is_independent(decision: Decision) -> None:
    chain = Chain()
    copy = chain.copy()
    copy.extend(decision())
    assert (chain.length, chain.sequences) == (0, {})
    assert replace(copy).length == 1

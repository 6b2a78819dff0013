"""The CCEL parser: one reading of a log, bounded, and a replay that nothing unmeasured can move."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.event_log import EventLog, replay_event_log
from attest.evidence.tdx_evidence import MAX_EVENT_LOG_BYTES
from attest.mock.tdx_event_log import NO_ACTION, event_log, log_entry, log_header
from attest.refusal import Malformed, Refused, Unsupported

DIGEST = hashlib.sha384(b"data").digest()
ENTRY = log_entry(1, DIGEST, b"data")
ZERO = bytes(48)


def test_replay() -> None:
    """Register by register: SHA-384 over what was there and the digest."""
    log = event_log([(0, b"data"), (0, b"more"), (3, b"data")])
    once = hashlib.sha384(ZERO + DIGEST).digest()
    twice = hashlib.sha384(once + hashlib.sha384(b"more").digest()).digest()
    assert replay_event_log(log) == (twice, ZERO, ZERO, once)
    assert repr(EventLog.parse(log)) == "EventLog(3 events)"
    assert [event.data for event in EventLog.parse(log).events] == [b"data", b"more", b"data"]


@pytest.mark.parametrize("filler", [b"", b"\xff" * 4, b"\xff" * 100, bytes(4), bytes(100)])
def test_fillers(filler: bytes) -> None:
    """What firmware leaves unwritten, of either byte, or nothing."""
    assert replay_event_log(log_header() + ENTRY + filler) == replay_event_log(event_log([(0, b"data")]))


def test_entries_that_are_not_measured() -> None:
    """They are listed, and move no register."""
    log = log_header() + log_entry(0, DIGEST, b"note", event_type=NO_ACTION) + ENTRY
    events = EventLog.parse(log).events
    assert [event.register for event in events] == [None, 0]
    assert replay_event_log(log) == replay_event_log(log_header() + ENTRY)


def test_several_algorithms() -> None:
    """Only SHA-384 is replayed; the others must be there as announced."""
    header = log_header(((0x000B, 32), (0x000C, 48)))
    digests = (2).to_bytes(4, "little") + b"\x0b\x00" + bytes(32) + b"\x0c\x00" + DIGEST
    entry = ENTRY[:8] + digests + ENTRY[-8:]
    assert replay_event_log(header + entry) == replay_event_log(log_header() + ENTRY)
    with pytest.raises(Malformed, match="event-log-digests"):
        replay_event_log(header + ENTRY)


def test_every_algorithm_has_its_size() -> None:
    """Five are known (TCG algorithm registry); each digest has the length of its algorithm."""
    known = ((0x0004, 20), (0x000B, 32), (0x000C, 48), (0x000D, 64), (0x0012, 32))
    digests = b"".join(
        number.to_bytes(2, "little") + (DIGEST if number == 0x000C else bytes(size)) for number, size in known
    )
    entry = ENTRY[:8] + (5).to_bytes(4, "little") + digests + ENTRY[-8:]
    assert replay_event_log(log_header(known) + entry) == replay_event_log(log_header() + ENTRY)
    for place, (number, size) in enumerate(known):
        wrong = (*known[:place], (number, size + 1), *known[place + 1 :])
        with pytest.raises(Malformed, match="event-log-header"):
            replay_event_log(log_header(wrong))


def test_what_the_vendor_adds_to_the_header() -> None:
    """It is stepped over, and nothing stands behind it."""
    header = log_header()

    def with_vendor(tail: bytes) -> bytes:
        body = header[32:-1] + tail
        return header[:28] + len(body).to_bytes(4, "little") + body + ENTRY

    assert replay_event_log(with_vendor(b"\x03abc")) == replay_event_log(header + ENTRY)
    with pytest.raises(Malformed, match="event-log-trailing-bytes"):
        replay_event_log(with_vendor(b"\x03abcd"))


def test_where_a_refusal_points() -> None:
    """At the entry, at its digests, behind the end."""
    start = len(log_header())
    for log, code, offset in (
        (log_header() + ENTRY + log_entry(9, DIGEST, b""), "event-log-register", start + len(ENTRY)),
        (log_header() + ENTRY[:12] + b"\x0b" + ENTRY[13:], "event-log-digests", start + 8),
        (log_header() + b"\xff" * 4 + ENTRY, "event-log-filler", start + 4),
        (bytes(64), "event-log-header", 0),
    ):
        with pytest.raises(Malformed) as refusal:
            EventLog.parse(log)
        assert (refusal.value.code, refusal.value.offset) == (code, offset)


def test_the_facts_of_an_entry() -> None:
    """As they stand in the log."""
    (event,) = EventLog.parse(log_header() + log_entry(4, DIGEST, b"x", event_type=0x80000001)).events
    assert (event.register, event.event_type, event.digest, event.data) == (3, 0x80000001, DIGEST, b"x")


@pytest.mark.parametrize(
    ("log", "kind", "code"),
    [
        (b"", Malformed, "event-log-truncated"),
        (bytes(64), Malformed, "event-log-header"),
        (log_header().replace(b"Event03", b"Event02"), Malformed, "event-log-header"),
        (log_header()[:4] + b"\x04" + log_header()[5:], Malformed, "event-log-header"),
        (log_header(((0x000C, 47),)), Malformed, "event-log-header"),
        (log_header(((0x000C, 48), (0x000C, 48))), Malformed, "event-log-header"),
        (log_header(((0x0099, 48),)), Malformed, "event-log-header"),
        (log_header(((0x000C, 48),) * 9), Malformed, "event-log-header"),
        (log_header(((0x000B, 32),)), Unsupported, "event-log-algorithms"),
        (log_header() + ENTRY[:-1], Malformed, "event-log-truncated"),
        (log_header() + ENTRY[:8] + bytes(4) + ENTRY[-8:], Malformed, "event-log-digests"),
        (log_header() + ENTRY[:12] + b"\x0b" + ENTRY[13:], Malformed, "event-log-digests"),
        (log_header() + log_entry(5, DIGEST, b"data"), Malformed, "event-log-register"),
        (log_header() + log_entry(0, DIGEST, b"data"), Malformed, "event-log-register"),
        (log_header() + bytes(4) + ENTRY, Malformed, "event-log-digests"),
        (log_header() + b"\xff" * 8 + ENTRY, Malformed, "event-log-filler"),
        *(
            (log_header() + b"\xff" * 4 + bytes([byte]), Malformed, "event-log-filler")
            for byte in range(1, 0xFF)
        ),
        (log_header() + ENTRY + b"X" * 8, Malformed, "event-log-truncated"),
        (bytes(MAX_EVENT_LOG_BYTES), Malformed, "event-log-header"),
        (bytes(MAX_EVENT_LOG_BYTES + 1), Malformed, "event-log-too-large"),
    ],
)
def test_refusals(log: bytes, kind: type[Refused], code: str) -> None:
    """Each malformation by its own code."""
    with pytest.raises(kind) as refusal:
        EventLog.parse(log)
    assert refusal.value.code == code
    assert type(refusal.value) is kind


def test_every_byte_that_is_no_filler() -> None:
    """Ones, or zeros to the very end, and nothing else."""
    for byte in range(1, 0xFF):
        with pytest.raises(Malformed, match="event-log-filler"):
            EventLog.parse(log_header() + b"\xff" * 4 + bytes([byte]))


def test_longest_log() -> None:
    """As many entries as fit: the time stays in bounds."""
    entry = log_entry(1, DIGEST, b"")
    log = log_header() + entry * ((MAX_EVENT_LOG_BYTES - 100) // len(entry))
    assert len(EventLog.parse(log).events) > 7000


@settings(max_examples=200)
@given(st.integers(0, 400), st.binary(max_size=20))
def test_any_bytes(position: int, noise: bytes) -> None:
    """A log or a refusal, whatever is written over it."""
    log = event_log([(0, b"data"), (2, b"more")], area=400)
    with contextlib.suppress(Refused):
        EventLog.parse(log[:position] + noise + log[position + len(noise) :]).replay()

"""The hash chain: how one line follows from the one before.

    line = {"entry":<event>,"hash":"sha256:<hex>"} LF       hash = SHA-256 of the event's bytes

An event names the hash of the event before it, so changing, removing, inserting or reordering any line breaks
every later one. What a chain alone cannot show is that its end was cut off or that all of it was written
anew: for that, ``verify_log`` takes a head that was noted elsewhere.

``Chain`` is the state after some line. It writes (``extend``) and reads (``follow``); both keep the same
rules, so what was read back is what could have been written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from attest.refusal import Malformed, Refused
from gateway.audit.entry import MAX_EVENT_BYTES, Event, decode, encode
from gateway.audit.record import AuditRecord, DecisionRecord, OutcomeRecord

GENESIS = "sha256:" + "0" * 64
_BEFORE = b'{"entry":'
_BETWEEN = b',"hash":"'
_AFTER = b'"}\n'
_DIGEST_LENGTH = len(GENESIS)
_FRAME = len(_BEFORE) + len(_BETWEEN) + _DIGEST_LENGTH + len(_AFTER)
MAX_LINE_BYTES = MAX_EVENT_BYTES + _FRAME


class LogRefused(Refused):
    """The log is not what was written, or not all of it; ``line`` (from 1) is the first bad one."""

    def __init__(self, code: str, line: int, *, expected: str = "", got: str = "") -> None:
        self.line = line
        super().__init__(code, f"audit log line {line}", expected=expected, got=got)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that is in the log, and its hash."""

    event: Event
    hash: str

    @property
    def index(self) -> int:
        """Number of the entry, from 0."""
        return self.event.index

    @property
    def tenant_sequence(self) -> int | None:
        """The tenant's number, on an allowed ``send_prompt`` only."""
        return self.event.tenant_sequence

    @property
    def record(self) -> AuditRecord:
        """What happened."""
        return self.event.record


@dataclass(slots=True)
class Chain:
    """The state after ``length`` entries.

    Args:
        length: entries so far, which is the next index.
        head: hash of the last one.
        sequences: each tenant's last sequence number.
    """

    length: int = 0
    head: str = GENESIS
    sequences: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Chain:
        """An independent state, to try a batch on."""
        return Chain(self.length, self.head, dict(self.sequences))

    def extend(self, record: AuditRecord) -> tuple[Entry, bytes]:
        """The next entry and its line.

        Raises:
            Malformed: ``audit-event-too-large``, ``audit-decision-index``.
        """
        if isinstance(record, OutcomeRecord) and record.decision_index >= self.length:
            raise Malformed("audit-decision-index", "an outcome of a decision that is not in the log")
        event = Event(self.length, self.head, self._next_sequence(record), record)
        data = encode(event)
        if len(data) > MAX_EVENT_BYTES:
            raise Malformed("audit-event-too-large", f"{len(data)} bytes, at most {MAX_EVENT_BYTES}")
        entry = Entry(event, _digest(data))
        self._advance(entry)
        return entry, b"".join((_BEFORE, data, _BETWEEN, entry.hash.encode(), _AFTER))

    def follow(self, line: bytes) -> Entry:
        """Accept ``line`` (with its LF) as the next one.

        Raises:
            LogRefused: ``audit-line-frame``, ``audit-hash-mismatch``, ``audit-index``,
                ``audit-previous-mismatch``, ``audit-sequence-gap``, ``audit-decision-index``, or the code of
                what is wrong with the event.
        """
        number = self.length + 1
        data, digest = open_line(line, number)
        try:
            event = decode(data)
        except Malformed as error:
            raise LogRefused(error.code, number, got=error.reason) from error
        self._require_next(event, number)
        entry = Entry(event, digest)
        self._advance(entry)
        return entry

    def _require_next(self, event: Event, number: int) -> None:
        if event.index != self.length:
            raise LogRefused("audit-index", number, expected=str(self.length), got=str(event.index))
        if event.previous != self.head:
            raise LogRefused("audit-previous-mismatch", number, expected=self.head, got=event.previous)
        sequence = self._next_sequence(event.record)
        if event.tenant_sequence != sequence:
            raise LogRefused(
                "audit-sequence-gap", number, expected=str(sequence), got=str(event.tenant_sequence)
            )
        if isinstance(event.record, OutcomeRecord) and event.record.decision_index >= self.length:
            raise LogRefused("audit-decision-index", number, got=str(event.record.decision_index))

    def _next_sequence(self, record: AuditRecord) -> int | None:
        """Only what will be sent is counted: the runtime sees these numbers, and a refusal is no gap."""
        if isinstance(record, DecisionRecord) and (record.action, record.verdict) == ("send_prompt", "allow"):
            return self.sequences.get(record.tenant, 0) + 1
        return None

    def _advance(self, entry: Entry) -> None:
        self.length += 1
        self.head = entry.hash
        record = entry.record
        if entry.tenant_sequence is not None and isinstance(record, DecisionRecord):
            self.sequences[record.tenant] = entry.tenant_sequence


def open_line(line: bytes, number: int) -> tuple[bytes, str]:
    """The event's bytes and their hash, which the line states rightly.

    Args:
        line: with its LF.
        number: of the line, from 1.

    Raises:
        LogRefused: ``audit-line-frame``, ``audit-hash-mismatch``.
    """
    end = len(line) - len(_AFTER) - _DIGEST_LENGTH
    middle = end - len(_BETWEEN)
    framed = (
        _FRAME <= len(line) <= MAX_LINE_BYTES
        and line.startswith(_BEFORE)
        and line[middle:end] == _BETWEEN
        and line.endswith(_AFTER)
    )
    if not framed:
        raise LogRefused("audit-line-frame", number, got=f"{len(line)} bytes")
    data = line[len(_BEFORE) : middle]
    actual = _digest(data)
    if line[end : end + _DIGEST_LENGTH] != actual.encode():
        raise LogRefused("audit-hash-mismatch", number, expected=actual)
    return data, actual


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"

"""The log of what was measured into a TD's runtime registers.

The form is ACPI CCEL: TCG PC Client Platform Firmware Profile section 10, UEFI 2.10 section 38.4.

A log is a claim: anybody may write one. ``EventLog.replay`` computes the registers that it would have led
to, and only a log whose registers are those of a verified quote says anything (``attest.verify.rtmr``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from attest.evidence.reader import Reader
from attest.evidence.tdx_evidence import MAX_EVENT_LOG_BYTES
from attest.refusal import Malformed, Unsupported

RTMR_COUNT: Final = 4

CLAUSE: Final = "TCG PC Client Platform Firmware Profile section 10"
_NAME: Final = "event-log"
_SPEC_ID: Final = b"Spec ID Event03\x00"
_NO_ACTION: Final = 3
_SHA384: Final = 0x000C
_DIGEST_SIZES: Final = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}
_NO_MORE: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Event:
    """One entry.

    Args:
        register: 0 to 3, the RTMR that it was measured into; ``None`` for one that was not measured.
        event_type: TCG's number.
        digest: 48 bytes, SHA-384: what the register was extended by.
        data: what the firmware says about it. Bound to the digest only where the event's type says how.
    """

    register: int | None
    event_type: int
    digest: bytes
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class EventLog:
    """The entries in order.

    Args:
        events: without the header that states the algorithms.
    """

    events: tuple[Event, ...]

    def __repr__(self) -> str:
        return f"EventLog({len(self.events)} events)"

    @classmethod
    def parse(cls, data: bytes) -> EventLog:
        """Read a crypto-agile log, with the filler that reaches to the end of the firmware's area.

        Raises:
            Unsupported: ``event-log-algorithms`` if it is not kept in SHA-384.
            Malformed: ``event-log-too-large``, ``event-log-header``, ``event-log-truncated``,
                ``event-log-digests``, ``event-log-register``, ``event-log-filler``.
        """
        if len(data) > MAX_EVENT_LOG_BYTES:
            raise Malformed("event-log-too-large", f"{len(data)} bytes, at most {MAX_EVENT_LOG_BYTES}")
        reader = Reader(data, _NAME)
        sizes = _header(reader)
        events = []
        written = len(data.rstrip(b"\x00"))  # firmware leaves the rest of its area at zeros, or at ones
        while reader.position < written:
            offset = reader.position
            index = reader.uint_le(4)
            if index == _NO_MORE:
                _filler(reader)
                break
            events.append(_event(reader, index, sizes, offset))
        return cls(tuple(events))

    def replay(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four runtime registers, 48 bytes each, that the events lead to from zero."""
        registers = [bytes(48)] * RTMR_COUNT
        for event in self.events:
            if event.register is not None:
                extended = registers[event.register] + event.digest
                registers[event.register] = hashlib.sha384(extended).digest()
        return registers[0], registers[1], registers[2], registers[3]


def replay_event_log(ccel: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """The four runtime registers that a log in the form of ACPI CCEL leads to.

    Raises:
        Unsupported: see ``EventLog.parse``.
        Malformed: see ``EventLog.parse``.
    """
    return EventLog.parse(ccel).replay()


def _header(reader: Reader) -> dict[int, int]:
    """The first entry, in the older form: which algorithms there are and how long their digests."""
    reader.take(4)  # index: 0 by the specification, 1 in the field; this entry is not measured
    event_type = reader.uint_le(4)
    reader.take(20)
    body = Reader(reader.take(reader.uint_le(4)), _NAME)
    if event_type != _NO_ACTION or body.take(16) != _SPEC_ID:
        raise Malformed("event-log-header", "not a crypto-agile log", offset=0, clause=CLAUSE)
    body.take(8)  # platform class, versions, size of a pointer: nothing here depends on them
    count = body.uint_le(4)
    sizes: dict[int, int] = {}
    for _ in range(count):  # ends with the first that is unknown or there already, after five at the latest
        algorithm, size = body.uint_le(2), body.uint_le(2)
        if algorithm in sizes or _DIGEST_SIZES.get(algorithm) != size:
            raise Malformed("event-log-header", f"algorithm {algorithm:#06x} of {size} bytes", clause=CLAUSE)
        sizes[algorithm] = size
    body.take(body.uint_le(1))
    body.end()
    if _SHA384 not in sizes:
        got = ", ".join(f"{algorithm:#06x}" for algorithm in sizes)
        raise Unsupported("event-log-algorithms", CLAUSE, expected="SHA-384", got=got)
    return sizes


def _event(reader: Reader, index: int, sizes: dict[int, int], offset: int) -> Event:
    event_type = reader.uint_le(4)
    digests = _digests(reader, sizes)
    data = reader.take(reader.uint_le(4))
    if event_type == _NO_ACTION:
        return Event(None, event_type, digests[_SHA384], data)
    # UEFI 2.10 table 38-4: index 0 is MRTD, which nothing extends after launch; such an entry binds nothing.
    if not 1 <= index <= RTMR_COUNT:
        raise Malformed(
            "event-log-register", f"index {index}", offset=offset, clause="UEFI 2.10 section 38.4"
        )
    return Event(index - 1, event_type, digests[_SHA384], data)


def _digests(reader: Reader, sizes: dict[int, int]) -> dict[int, bytes]:
    """One digest for each algorithm of the header, no more and no fewer."""
    offset = reader.position
    count = reader.uint_le(4)
    digests: dict[int, bytes] = {}
    if count == len(sizes):
        for _ in range(count):
            algorithm = reader.uint_le(2)
            if algorithm in sizes:
                digests[algorithm] = reader.take(sizes[algorithm])
    if digests.keys() != sizes.keys():
        raise Malformed("event-log-digests", "not those of the header", offset=offset, clause=CLAUSE)
    return digests


def _filler(reader: Reader) -> None:
    """The rest of the firmware's area. An entry hidden behind the end would be seen by some readers only."""
    start = reader.position
    if reader.take(reader.remaining).strip(b"\xff"):
        raise Malformed("event-log-filler", "entries after the end", offset=start, clause=CLAUSE)

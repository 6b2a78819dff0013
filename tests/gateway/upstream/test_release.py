"""What of an answer is released before its receipt is verified."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.refusal import Malformed
from gateway.upstream.release import MAX_EVENT_BYTES, EventGate, WholeGate

EVENTS = [b'data: {"a":1}\n\n', b": comment\n\n", 'data: {"text":"data: [DONE] ü"}\n\n'.encode()]
END = b"data: [DONE]\n\n"


@settings(max_examples=200)
@given(cuts=st.lists(st.integers(0, 70), max_size=8))
def test_however_the_bytes_are_cut_only_whole_events_pass_and_the_end_waits(cuts: list[int]) -> None:
    stream = b"".join(EVENTS) + END
    borders = [0, *sorted(cuts), len(stream)]
    gate = EventGate()
    released = b""
    for start, end in pairwise(borders):
        released += gate.feed(stream[start:end])
        assert released == b"" or released.endswith(b"\n\n")
    assert released == b"".join(EVENTS)
    assert gate.rest() == END


def test_everything_after_the_end_marker_waits_too() -> None:
    gate = EventGate()
    assert gate.feed(EVENTS[0] + END) == EVENTS[0]
    assert gate.feed(EVENTS[0]) == b""
    assert gate.rest() == END + EVENTS[0]


def test_a_stream_without_an_end_marker_has_no_rest() -> None:
    gate = EventGate()
    gate.feed(EVENTS[0] + b"data: [DO")
    with pytest.raises(Malformed) as caught:
        gate.rest()
    assert caught.value.code == "event-stream-unfinished"


def test_an_end_marker_must_be_a_whole_event() -> None:
    """A marker without its empty line is not yet an event, whatever follows."""
    gate = EventGate()
    gate.feed(b"data: [DONE]\n")
    with pytest.raises(Malformed):
        gate.rest()


def test_an_endless_event_is_refused() -> None:
    gate = EventGate()
    for _ in range(MAX_EVENT_BYTES // 1024):
        gate.feed(b"x" * 1024)
    with pytest.raises(Malformed) as caught:
        gate.feed(b"x")
    assert caught.value.code == "event-too-large"


def test_endless_bytes_after_the_end_marker_are_refused() -> None:
    gate = EventGate()
    gate.feed(END)
    with pytest.raises(Malformed):
        gate.feed(b"x\n\n" * MAX_EVENT_BYTES)


def test_a_whole_answer_is_withheld_and_bounded() -> None:
    gate = WholeGate(max_bytes=10)
    assert gate.feed(b"12345") == b""
    assert gate.feed(b"67890") == b""
    assert gate.rest() == b"1234567890"
    with pytest.raises(Malformed) as caught:
        gate.feed(b"1")
    assert caught.value.code == "answer-too-large"


def test_gates_show_sizes_only() -> None:
    event_gate, whole_gate = EventGate(), WholeGate(100)
    event_gate.feed(b"secret")
    whole_gate.feed(b"secret")
    assert "secret" not in repr(event_gate) + repr(whole_gate)

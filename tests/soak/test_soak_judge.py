"""The judge of a soak sees a leak, a stall, a wrong token and a bad end; its clock sleeps with the soak."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.soak.clock import ActiveClock
from tests.soak.judge import NEAR_TIE, flatness, longest_gap, outcome, spot_checks, stalls
from tests.soak.load import Scale, arrivals, asks, references


def dice(seed: int) -> random.Random:
    """Repeatable."""
    return random.Random(seed)  # noqa: S311 a load's dice


class Time:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def test_a_pause_does_not_count_and_a_late_tick_does() -> None:
    time = Time()
    clock = ActiveClock(time, tick_s=0.2)
    time.now += 1.0  # a busy machine
    assert clock.now() == pytest.approx(1.0)
    time.now += 200.0  # SIGSTOP
    assert clock.now() == pytest.approx(2.4)
    assert clock.paused_s == pytest.approx(198.6)


def test_memory_that_grows_is_seen_and_noise_is_not() -> None:
    chance = dice(1)
    noise = [(float(t), 1e9 + chance.uniform(-4e6, 4e6)) for t in range(400)]
    flat = flatness(noise)
    assert abs(flat.growth) < 0.002
    assert abs(flat.drift) < 0.002
    leaking = flatness([(t, size + t * 1e5) for t, size in noise])
    assert leaking.growth == pytest.approx(0.03, rel=0.1)
    assert leaking.drift == pytest.approx(0.04, rel=0.1)


def test_a_stall_is_the_longest_wait_within_a_stream() -> None:
    seen = {"number": 7, "events": [4.0, 4.1, 9.6, 9.7], "ended_at": 1009.7, "seconds": 9.7}
    assert longest_gap([4.0, 4.1, 9.6, 9.7]) == (pytest.approx(5.5), 9.6)
    assert longest_gap([3.0]) == (0.0, 0.0)
    awake = [(1000.0 + t, 0.0) for t in range(12)]
    assert [each["number"] for each in stalls([seen], awake, 5.0)] == [7]
    assert stalls([seen], awake, 6.0) == []
    busy = [(1000.0 + t, 0.5 * max(0, min(t - 5, 4))) for t in range(12)]  # others had the processor for 2 s
    assert stalls([seen], busy, 5.0) == []
    assert stalls([seen], [(t + 500, waited) for t, waited in busy], 5.0) != []


def result(*pieces: str, margins: tuple[float, ...] = ()) -> dict[str, Any]:
    return {"number": 1, "reference": 0, "pieces": list(pieces), "margins": list(margins)}


def test_another_token_is_wrong_unless_two_were_as_likely() -> None:
    truth = [result("a", "b", "c", margins=(3.0, NEAR_TIE / 2, 3.0))]
    assert spot_checks([result("a", "b", "c")], truth).equal == 1
    tie = spot_checks([result("a", "x", "y")], truth)
    assert (tie.equal, len(tie.near_ties), tie.wrong) == (0, 1, [])
    for other in (result("x", "b", "c"), result("a", "b"), result("a", "b", "c", "d")):
        assert len(spot_checks([other], truth).wrong) == 1


@pytest.mark.parametrize(
    ("kind", "seen", "word"),
    [
        ("plain", {"status": 200, "done": True}, "answered"),
        ("plain", {"status": 200}, "bad: cut off"),
        ("plain", {"status": 200, "code": "engine_failed"}, "bad: (200, 'engine_failed')"),
        ("plain", {"broken": "ConnectionResetError"}, "bad: ConnectionResetError"),
        ("plain", {"status": 429, "code": "engine_overloaded", "retry_after": "2"}, "turned away"),
        ("plain", {"status": 429, "code": "engine_overloaded"}, "bad: 429 without retry-after"),
        ("cancelled", {"status": 200, "hung_up": True}, "hung up"),
        ("unknown-adapter", {"status": 404, "code": "adapter_not_found"}, "refused as it must be"),
        ("unknown-adapter", {"status": 200, "done": True}, "bad: unknown-adapter got (200, None)"),
        ("absurd", {"status": 500, "code": "internal"}, "bad: absurd got (500, 'internal')"),
    ],
)
def test_how_a_request_ended(kind: str, seen: dict[str, Any], word: str) -> None:
    assert outcome(kind, seen) == word


@pytest.mark.shared
def test_the_load_is_the_traces_thinned(shared: Path) -> None:
    """The rate asked for, bursts kept, every kind of trouble in it, the same for the same dice."""
    scale = Scale(shrink=8, rate=1.5, seconds=1800)
    came = arrivals(shared / "data" / "traces", scale, dice(1))
    assert 0.7 < len(came) / (1800 * 1.5) < 1.3
    assert all(0 <= a.at <= b.at <= 1800 for a, b in pairwise(came))
    chance = dice(2)
    wanted = references(24, 200, chance)
    plan = asks(came, wanted, 200, chance)
    assert {ask.kind for ask in plan} == {
        "plain",
        "checked",
        "cancelled",
        "unknown-adapter",
        "too-long",
        "absurd",
    }
    assert len({ask.adapter for ask in plan}) > 150
    assert [ask.number for ask in plan] == list(range(len(plan)))
    for ask in plan:
        if ask.kind == "checked":
            assert ask.reference is not None
            assert ask.prompt == wanted[ask.reference].prompt
    again = arrivals(shared / "data" / "traces", scale, dice(1))
    assert again == came

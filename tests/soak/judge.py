"""What a soak must show, as arithmetic over what was seen."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

NEAR_TIE = 0.002
"""Natural-log units by which a likeliest token may lead and rounding still decide otherwise: in this model
logits are near 20, and float32 sums of a few thousand products differ by about one in ten thousand."""

Sample = tuple[float, float]
"""(seconds, bytes)"""


@dataclass(frozen=True)
class Flatness:
    """How memory went after the warm-up.

    Args:
        first: median of the first quarter, bytes.
        last: median of the last quarter.
        highest: of all.
        drift: of a straight line fitted to all samples, from end to end, relative to ``first``.
    """

    first: float
    last: float
    highest: float
    drift: float

    @property
    def growth(self) -> float:
        """From the first quarter to the last, relative."""
        return self.last / self.first - 1


def flatness(samples: Sequence[Sample]) -> Flatness:
    """Fit samples, of which there must be at least eight."""
    times, sizes = zip(*samples, strict=True)
    quarter = len(sizes) // 4
    first, last = statistics.median(sizes[:quarter]), statistics.median(sizes[-quarter:])
    slope = statistics.linear_regression(times, sizes).slope
    return Flatness(first, last, max(sizes), slope * (times[-1] - times[0]) / first)


def longest_gap(events: Sequence[float]) -> tuple[float, float]:
    """Seconds of the longest wait between two events of one stream, and when it ended."""
    return max(((b - a, b) for a, b in pairwise(events)), default=(0.0, 0.0))


def starved(samples: Sequence[Sample], begin: float, end: float) -> float:
    """Seconds within a stretch in which the server waited for a processor that others had.

    Args:
        samples: moments, and seconds waited until then.
        begin: of the stretch, on the same clock.
        end: of the stretch.
    """
    inside = [waited for moment, waited in samples if begin - 2 <= moment <= end + 2]
    return inside[-1] - inside[0] if inside else 0.0


def stalls(
    results: Sequence[dict[str, Any]], waits: Sequence[Sample], bound_s: float
) -> list[dict[str, Any]]:
    """Streams that waited longer than ``bound_s`` for their next token, a processor's absence not counted."""
    found: list[dict[str, Any]] = []
    for each in results:
        gap, ended = longest_gap(each["events"])
        end = each["ended_at"] - (each["seconds"] - ended)
        if gap > bound_s and (own := gap - starved(waits, end - gap, end)) > bound_s:
            found.append({"number": each["number"], "gap_s": round(gap, 3), "own_s": round(own, 3)})
    return found


@dataclass(frozen=True)
class SpotChecks:
    """Answers compared with the same requests' answers made alone.

    Args:
        compared: how many.
        equal: whole.
        near_ties: that part where two tokens were as good as equally likely; (number, margin).
        wrong: that part anywhere else.
    """

    compared: int
    equal: int
    near_ties: list[tuple[int, float]]
    wrong: list[dict[str, Any]]


def spot_checks(results: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]) -> SpotChecks:
    """Compare every complete checked answer with its reference."""
    compared = equal = 0
    near: list[tuple[int, float]] = []
    wrong: list[dict[str, Any]] = []
    for result in results:
        reference = references[result["reference"]]
        compared += 1
        if result["pieces"] == reference["pieces"]:
            equal += 1
            continue
        at = first_difference(result["pieces"], reference["pieces"])
        margin = reference["margins"][at] if at < len(reference["margins"]) else 1.0
        if margin <= NEAR_TIE:
            near.append((result["number"], margin))
        else:
            wrong.append(
                {"number": result["number"], "reference": result["reference"], "at": at, "margin": margin}
            )
    return SpotChecks(compared, equal, near, wrong)


def first_difference(one: Sequence[str], other: Sequence[str]) -> int:
    """The first place where two lists differ; the shorter one's length if one begins with the other."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


EXPECTED = {
    "unknown-adapter": {(404, "adapter_not_found")},
    "too-long": {(400, "context_length_exceeded")},
    "absurd": {(400, "invalid_value")},
}
BUSY = (429, "engine_overloaded")


def outcome(kind: str, result: dict[str, Any]) -> str:
    """How a request ended, in a word; ``bad: ...`` for what must not happen."""
    answer = (result.get("status"), result.get("code"))
    if kind in EXPECTED:
        return "refused as it must be" if answer in EXPECTED[kind] else f"bad: {kind} got {answer}"
    if answer == BUSY:
        return "turned away" if result.get("retry_after") else "bad: 429 without retry-after"
    if "broken" in result:
        return f"bad: {result['broken']}"
    if result.get("code"):
        return f"bad: {answer}"
    if result.get("hung_up"):
        return "hung up"
    return "answered" if result.get("done") else "bad: cut off"


def outcomes(kinds: dict[int, str], results: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many ended how."""
    return Counter(outcome(kinds[each["number"]], each) for each in results)

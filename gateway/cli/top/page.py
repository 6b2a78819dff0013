"""A page of metrics in the Prometheus text format, as far as a runtime writes it.

Whoever answers at the runtime's address writes the page: it is read strictly and in time linear in its
length, values have a range in which nobody's arithmetic fails, and labels hold nothing that a terminal obeys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MAX_PAGE_BYTES: Final = 1024 * 1024

MAX_VALUE: Final = float(1 << 53)
"""Counts above are not exact, and no gauge comes near."""

MAX_LABEL: Final = 128
"""Characters of a label's value."""

_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([0-9.e+-]+)(?: -?[0-9]+)?")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", '"': '"', "\\": "\\"}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Histogram:
    """Values counted in buckets.

    Args:
        bounds: upper ends, ascending, the last infinite.
        counts: of each bucket by itself.
        total: sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    def since(self, earlier: Histogram | None) -> Histogram:
        """What was counted after ``earlier``."""
        if earlier is None or earlier.bounds != self.bounds:
            return self
        counts = tuple(new - old for new, old in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, counts, self.total - earlier.total)

    def quantile(self, part: float) -> float | None:
        """The value below which so much lies, evenly spread within its bucket; None if nothing was counted.

        In the bucket without an upper end it is that bucket's lower end.
        """
        wanted = part * sum(self.counts)
        below = 0.0
        if wanted <= 0:
            return None
        for (low, high), count in zip(pairwise((0.0, *self.bounds)), self.counts, strict=True):
            if count > 0 and below + count >= wanted:
                return low if high == math.inf else low + (high - low) * (wanted - below) / count
            below += count
        return None


class Page:
    """The samples of one page.

    Args:
        text: the page.

    Raises:
        ValueError: it is not one, or too long.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PAGE_BYTES:
            raise ValueError("the page is too long")
        self._samples: dict[tuple[str, Labels], float] = {}
        for line in text.split("\n"):
            if line and not line.startswith("#"):
                match = _SAMPLE.fullmatch(line)
                if match is None:
                    raise ValueError("not a page of metrics")
                self._samples[match[1], _labels(match[2] or "")] = _value(match[3])

    def value(self, name: str, **labels: str) -> float | None:
        """One sample; None if it is not there."""
        return self._samples.get((name, tuple(labels.items())))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Samples of a family with one label, by its value."""
        return {
            labels[0][1]: value
            for (family, labels), value in self._samples.items()
            if family == name and len(labels) == 1 and labels[0][0] == label
        }

    def histogram(self, name: str) -> Histogram | None:
        """A histogram; None if it is not there.

        Raises:
            ValueError: its bounds are none.
        """
        ends = sorted((_bound(end), count) for end, count in self.by(f"{name}_bucket", "le").items())
        if not ends:
            return None
        counts = tuple(_differences(count for _, count in ends))
        return Histogram(tuple(end for end, _ in ends), counts, self.value(f"{name}_sum") or 0.0)

    def labels(self, name: str) -> dict[str, str]:
        """The labels of a family's first sample."""
        return next((dict(labels) for family, labels in self._samples if family == name), {})


def _value(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_VALUE:
        raise ValueError("a value is out of range")
    return value


def _bound(text: str) -> float:
    return math.inf if text == "+Inf" else _value(text)


def _labels(text: str) -> Labels:
    labels, at = [], 0
    while at < len(text):
        match = _LABEL.match(text, at)
        if match is None or len(match[2]) > MAX_LABEL:
            raise ValueError("a label is malformed")
        value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), match[2])
        if not value.isprintable():
            raise ValueError("a label holds what does not print")
        labels.append((match[1], value))
        at = match.end()
    return tuple(labels)


def _differences(cumulative: Iterator[float]) -> Iterator[float]:
    before = 0.0
    for count in cumulative:
        yield count - before
        before = count

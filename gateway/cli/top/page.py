"""A page of metrics in the Prometheus text format, as far as a runtime writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MAX_PAGE_BYTES: Final = 1024 * 1024

_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')

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
                return low if high == float("inf") else low + (high - low) * (wanted - below) / count
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
        for line in text.splitlines():
            if line and not line.startswith("#"):
                match = _SAMPLE.fullmatch(line)
                if match is None:
                    raise ValueError("not a page of metrics")
                labels = tuple(_LABEL.findall(match[2] or ""))
                self._samples[match[1], labels] = float(match[3])

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
        """A histogram; None if it is not there."""
        ends = sorted((float(end), count) for end, count in self.by(f"{name}_bucket", "le").items())
        if not ends:
            return None
        counts = tuple(_differences(count for _, count in ends))
        return Histogram(tuple(end for end, _ in ends), counts, self.value(f"{name}_sum") or 0.0)

    def labels(self, name: str) -> dict[str, str]:
        """The labels of a family's first sample."""
        return next((dict(labels) for family, labels in self._samples if family == name), {})


def _differences(cumulative: Iterator[float]) -> Iterator[float]:
    before = 0.0
    for count in cumulative:
        yield count - before
        before = count

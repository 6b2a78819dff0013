"""The Prometheus text format, version 0.0.4: families of samples in, a page out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Sample:
    """One line.

    Args:
        value: finite.
        labels: names and values; values from fixed sets, so that nobody outside can make a page grow.
        suffix: what a histogram's lines add to its name.
    """

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """One metric.

    Args:
        name: with its unit; a counter's ends in ``_total``.
        kind: see there.
        help: one sentence.
        samples: in order.
    """

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]

    def lines(self) -> Iterable[str]:
        """As they stand on the page."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for sample in self.samples:
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
            yield f"{self.name}{sample.suffix}{'{' + labels + '}' if labels else ''} {_number(sample.value)}"


def page(families: Iterable[Family]) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for family in families for line in family.lines())


def single(name: str, kind: Kind, help_text: str, value: float) -> Family:
    """A family of one sample."""
    return Family(name, kind, help_text, (Sample(value),))


def labelled(name: str, kind: Kind, help_text: str, label: str, values: Mapping[str, float]) -> Family:
    """A family with one label."""
    samples = tuple(Sample(value, ((label, key),)) for key, value in values.items())
    return Family(name, kind, help_text, samples)


def histogram(
    name: str, help_text: str, bounds: Iterable[float], cumulative: Iterable[int], total: float
) -> Family:
    """A histogram.

    Args:
        name: with its unit.
        help_text: one sentence.
        bounds: upper ends of the buckets but the last, which has none.
        cumulative: values up to each bound, and then all.
        total: sum of all values.
    """
    ends = [*(_number(bound) for bound in bounds), "+Inf"]
    counts = tuple(cumulative)
    buckets = [Sample(count, (("le", end),), "_bucket") for end, count in zip(ends, counts, strict=True)]
    return Family(
        name,
        "histogram",
        help_text,
        (*buckets, Sample(total, suffix="_sum"), Sample(counts[-1], suffix="_count")),
    )


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

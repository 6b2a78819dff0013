"""Counters for operators, in the Prometheus text format; no content, no callers' names.

Label values come from fixed sets (routes, error codes), so that no request can grow the page.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Histogram:
    """Durations in seconds, counted in fixed buckets."""

    name: str
    help: str
    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.total_s += seconds
        for index, bound in enumerate(LATENCY_BUCKETS_S):
            if seconds <= bound:
                self.counts[index] += 1
                return
        self.counts[-1] += 1

    def lines(self) -> list[str]:
        """The metric as exposition lines."""
        result = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} histogram"]
        running = 0
        for bound, count in zip((*LATENCY_BUCKETS_S, "+Inf"), self.counts, strict=True):
            running += count
            result.append(f'{self.name}_bucket{{le="{bound}"}} {running}')
        return [*result, f"{self.name}_sum {self.total_s:.6f}", f"{self.name}_count {running}"]


class Metrics:
    """What one gateway process counted since it started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.in_flight = 0
        self.client_hangups = 0
        self.verdicts: Counter[str] = Counter()
        self.first_byte = Histogram(
            "sealgate_first_byte_seconds", "Time from the request to the first byte of its answer."
        )
        self.whole = Histogram(
            "sealgate_request_seconds", "Time from the request to the last byte of its answer."
        )

    def judged(self, outcome: str) -> None:
        """Count one question for evidence: ``verified``, ``refused`` or ``unreachable``."""
        self.verdicts[outcome] += 1

    def render(self, *, verdict_seconds_left: float) -> str:
        """The page of /metrics."""
        lines = [
            "# HELP sealgate_requests_total Requests by route and outcome code.",
            "# TYPE sealgate_requests_total counter",
        ]
        lines += [
            f'sealgate_requests_total{{route="{route}",code="{code}"}} {count}'
            for (route, code), count in sorted(self.requests.items())
        ]
        lines += [
            "# HELP sealgate_verdicts_total Evidence judged, by outcome.",
            "# TYPE sealgate_verdicts_total counter",
        ]
        lines += [
            f'sealgate_verdicts_total{{outcome="{outcome}"}} {count}'
            for outcome, count in sorted(self.verdicts.items())
        ]
        lines += [
            "# HELP sealgate_client_hangups_total Applications that left before their answer ended.",
            "# TYPE sealgate_client_hangups_total counter",
            f"sealgate_client_hangups_total {self.client_hangups}",
            "# HELP sealgate_in_flight Requests being served now.",
            "# TYPE sealgate_in_flight gauge",
            f"sealgate_in_flight {self.in_flight}",
            "# HELP sealgate_verdict_seconds_left Until the current verdict ends; 0 without one.",
            "# TYPE sealgate_verdict_seconds_left gauge",
            f"sealgate_verdict_seconds_left {verdict_seconds_left:.0f}",
            *self.first_byte.lines(),
            *self.whole.lines(),
        ]
        return "\n".join(lines) + "\n"

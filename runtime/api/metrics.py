"""What the host may know: counts and durations, by route and outcome. No tenant, no label, no content."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Final

from runtime.engine.base import Engine

_GAUGES: Final = frozenset({"running", "waiting"})


class RuntimeMetrics:
    """Counters since start.

    Args:
        engine: whose counters are shown beside ours.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self.open_requests = 0
        self.sealed_bytes_in = 0
        self.sealed_bytes_out = 0

    def count(self, route: str, outcome: str) -> None:
        """One request ended.

        Args:
            route: ``attestation`` or ``sealed``.
            outcome: an HTTP status inside the seal, or a refusal code: never a text from outside.
        """
        self._outcomes[route, outcome] += 1

    def render(self) -> str:
        """The Prometheus text format, version 0.0.4."""
        lines = ["# TYPE sealgate_runtime_requests_total counter"]
        lines += [
            f'sealgate_runtime_requests_total{{route="{route}",outcome="{outcome}"}} {count}'
            for (route, outcome), count in sorted(self._outcomes.items())
        ]
        lines += _sample("open_requests", "gauge", self.open_requests)
        lines += _sample("sealed_bytes_in_total", "counter", self.sealed_bytes_in)
        lines += _sample("sealed_bytes_out_total", "counter", self.sealed_bytes_out)
        stats = self._engine.stats()
        for field in fields(stats):
            value = getattr(stats, field.name)
            if field.name in _GAUGES:
                lines += _sample(f"engine_{field.name}", "gauge", value)
            else:
                lines += _sample(f"engine_{field.name}_total", "counter", value)
        return "\n".join(lines) + "\n"


def _sample(name: str, kind: str, value: int) -> list[str]:
    return [f"# TYPE sealgate_runtime_{name} {kind}", f"sealgate_runtime_{name} {value}"]

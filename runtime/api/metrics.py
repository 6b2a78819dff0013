"""What the host may know: counts and durations over all tenants. No tenant, no label, no content."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from runtime.api.embedder_metrics import embedder_families
from runtime.api.engine_metrics import EngineMetrics
from runtime.api.exposition import Family, Sample, page, single
from runtime.api.served import ServedEmbedder
from runtime.engine.base import Engine

PERIOD_S: Final = 2.0
"""A page stands for so long: who asks more often learns no more, of single requests in particular."""


class RuntimeMetrics:
    """Counters since start.

    Args:
        engine: whose figures are shown beside ours.
        embedder: whose figures are shown too; None for none.
        period_s: how long a page stands.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: ServedEmbedder | None = None,
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._embedder = embedder
        self._shown = EngineMetrics()
        self._period_s = period_s
        self._clock = clock
        self._started = clock()
        self._page = ""
        self._stands_until = -math.inf
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
        """The Prometheus text format, version 0.0.4: of now, or of up to a period ago."""
        now = self._clock()
        if now >= self._stands_until:
            self._page = page(self.families(now - self._started))
            self._stands_until = now + self._period_s
        return self._page

    def families(self, up_s: float) -> Iterator[Family]:
        """Everything that is exported.

        Args:
            up_s: seconds since start.
        """
        yield single(
            "sealgate_runtime_uptime_seconds", "gauge", "Since this page's counters began.", int(up_s)
        )
        yield Family(
            "sealgate_runtime_requests_total",
            "counter",
            "Requests by route and outcome: a status inside the seal, or a refusal code.",
            tuple(
                Sample(count, (("route", route), ("outcome", outcome)))
                for (route, outcome), count in sorted(self._outcomes.items())
            ),
        )
        yield single(
            "sealgate_runtime_open_requests", "gauge", "Sealed requests being served.", self.open_requests
        )
        yield single(
            "sealgate_runtime_sealed_bytes_in_total",
            "counter",
            "Bytes of sealed requests, padding included.",
            self.sealed_bytes_in,
        )
        yield single(
            "sealgate_runtime_sealed_bytes_out_total",
            "counter",
            "Bytes of sealed answers, padding included.",
            self.sealed_bytes_out,
        )
        yield from self._shown.families(self._engine.info, self._engine.stats())
        if self._embedder is not None:
            yield from embedder_families(self._embedder.figures())

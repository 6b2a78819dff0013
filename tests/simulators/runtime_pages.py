"""Pages of metrics as the runtime's exporter writes them, of figures that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.api.metrics import RuntimeMetrics
from runtime.engine.base import EngineInfo, EngineStats
from runtime.engine.telemetry import (
    AdapterFigure,
    AdaptersFigures,
    Meter,
    PageFigures,
    SelfCheckFigures,
    Telemetry,
)

MIB = 1 << 20


@dataclass
class WatchedRuntime:
    """A runtime that works as it is told.

    Args:
        up_s: seconds since its start.
        tokens: generated since then, in whole grains; as many were read.
        slow: how many of its first steps took 0.9 seconds.
        step_s: what each of the others took; there is a step per token.
        refusals: by code.
        adapters: loads by digest; None serves the base alone.
        waiting: sequences.
        audits_failed: audits of the page books.
        backend: of the engine.
        plain: whether the engine keeps no telemetry.
    """

    up_s: float = 100.0
    tokens: int = 0
    slow: int = 0
    step_s: float = 0.03
    refusals: Mapping[str, int] = field(default_factory=dict)
    adapters: Mapping[str, int] | None = None
    waiting: int = 0
    audits_failed: int = 0
    backend: str = "sealgate"
    plain: bool = False

    @property
    def info(self) -> EngineInfo:
        """See ``Engine``."""
        return EngineInfo(self.backend, "smollm2", 8192, "bf16")

    def stats(self) -> EngineStats:
        """See ``Engine``."""
        telemetry = None if self.plain else self._telemetry()
        return EngineStats(
            running=3,
            waiting=self.waiting,
            finished=5,
            cancelled=1,
            failed=0,
            prompt_tokens=self.tokens,
            completion_tokens=self.tokens,
            steps=self.tokens,
            preemptions=2,
            telemetry=telemetry,
        )

    def page(self) -> str:
        """What ``GET /metrics`` answers."""
        # Only its figures are asked for.
        return RuntimeMetrics(self, clock=iter((0.0, self.up_s)).__next__).render()  # type: ignore[arg-type]

    def _telemetry(self) -> Telemetry:
        meter = Meter(step_rows=self.tokens, budget_rows=2 * self.tokens)
        for step in range(self.tokens):
            seconds = 0.9 if step < self.slow else self.step_s
            meter.step.observe(seconds)
            meter.token(seconds, first=False)
        if self.tokens:
            meter.token(0.4, first=True)
        meter.refusals.update(self.refusals)
        meter.audits_failed = self.audits_failed
        return Telemetry.of(
            meter,
            rows_limit=512,
            pages=PageFigures(1000, 16, 300, 200, 4 * self.tokens, self.tokens),
            adapters=None if self.adapters is None else _adapters(self.adapters),
            self_check=SelfCheckFigures(0.25, 0.125),
        )


def _adapters(loads: Mapping[str, int]) -> AdaptersFigures:
    busiest = {digest: AdapterFigure(count, 1, 9 * MIB) for digest, count in loads.items()}
    return AdaptersFigures(
        registered=1000,
        hot=len(loads),
        placed=2,
        pinned=1,
        waiting=0,
        tables_bytes=64 * MIB,
        failed_loads=0,
        every=sum(busiest.values(), AdapterFigure()),
        busiest=busiest,
    )

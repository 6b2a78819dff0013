"""What two pages of metrics say of the time between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.cli.top.page import Page

_ENGINE = "sealgate_engine"


@dataclass(frozen=True)
class Adapter:
    """One of the adapters asked for most.

    Args:
        name: its pseudonym, or ``other``.
        loads: since start.
        evictions: since start.
        memory_bytes: now.
    """

    name: str
    loads: int
    evictions: int
    memory_bytes: int


@dataclass(frozen=True)
class Figures:
    """A runtime's state, and its pace over a window.

    Args:
        backend: of the engine.
        weights: how they are held.
        up_s: since the runtime started.
        window_s: that paces and quantiles are of.
        running: sequences.
        waiting: sequences.
        open_requests: sealed requests.
        generated_per_s: tokens; None before the window has a length.
        read_per_s: prompt tokens.
        first_token_s: p50 and p99.
        between_tokens_s: p50 and p99.
        step_s: p50 and p99.
        budget_used: part of the steps' room that was run; None if there were no steps.
        rows_limit: tokens of any one step.
        pages: by state.
        hit_rate: part of the prompt tokens looked up that were found; None if none were.
        preemptions: in the window.
        refusals: in the window, by code.
        adapters: by state.
        adapter_bytes: by place.
        busiest: see there.
        audits: since start, by outcome.
        self_check_s: how long it took; None if there was none.
        self_check_error: as a part of what is allowed.
    """

    backend: str
    weights: str
    up_s: float
    window_s: float
    running: int
    waiting: int
    open_requests: int
    generated_per_s: float | None
    read_per_s: float | None
    first_token_s: tuple[float | None, float | None]
    between_tokens_s: tuple[float | None, float | None]
    step_s: tuple[float | None, float | None]
    budget_used: float | None
    rows_limit: int | None
    pages: Mapping[str, int]
    hit_rate: float | None
    preemptions: int
    refusals: Mapping[str, int]
    adapters: Mapping[str, int]
    adapter_bytes: Mapping[str, int]
    busiest: tuple[Adapter, ...]
    audits: Mapping[str, int]
    self_check_s: float | None
    self_check_error: float | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def figures(now: Page, before: Page | None = None) -> Figures:
    """The figures of a page.

    Args:
        now: the page.
        before: an earlier one of the same process; None counts from its start.

    Raises:
        ValueError: it is not a runtime's page.
    """
    pages = _Two(now, before)
    up_s = now.value("sealgate_runtime_uptime_seconds")
    if up_s is None:
        raise ValueError("not the metrics of a runtime")
    earlier = 0.0 if before is None else before.value("sealgate_runtime_uptime_seconds") or 0.0
    window_s = up_s - earlier
    labels = now.labels(f"{_ENGINE}_info")
    return Figures(
        backend=labels.get("backend", "?"),
        weights=labels.get("weights", "?"),
        up_s=up_s,
        window_s=window_s,
        running=pages.now(f"{_ENGINE}_requests_running"),
        waiting=pages.now(f"{_ENGINE}_requests_waiting"),
        open_requests=pages.now("sealgate_runtime_open_requests"),
        generated_per_s=_part(pages.rise(f"{_ENGINE}_completion_tokens_total"), window_s),
        read_per_s=_part(pages.rise(f"{_ENGINE}_prompt_tokens_total"), window_s),
        first_token_s=pages.quantiles(f"{_ENGINE}_time_to_first_token_seconds"),
        between_tokens_s=pages.quantiles(f"{_ENGINE}_time_between_tokens_seconds"),
        step_s=pages.quantiles(f"{_ENGINE}_step_seconds"),
        budget_used=_part(
            pages.rise(f"{_ENGINE}_step_rows_total"),
            pages.rise(f"{_ENGINE}_step_budget_rows_total"),
            most=1.0,
        ),
        rows_limit=_whole(now.value(f"{_ENGINE}_step_rows_limit")),
        pages=_counts(now.by(f"{_ENGINE}_kv_pages", "state")),
        hit_rate=_part(
            pages.rise(f"{_ENGINE}_prefix_hit_tokens_total"),
            pages.rise(f"{_ENGINE}_prefix_lookup_tokens_total"),
            most=1.0,
        ),
        preemptions=int(pages.rise(f"{_ENGINE}_preemptions_total")),
        refusals=pages.rises(f"{_ENGINE}_refusals_total", "code"),
        adapters=_counts(now.by(f"{_ENGINE}_adapters", "state")),
        adapter_bytes=_counts(now.by(f"{_ENGINE}_adapter_memory_bytes", "place")),
        busiest=_busiest(now),
        audits=_counts(now.by(f"{_ENGINE}_audits_total", "outcome")),
        self_check_s=now.value(f"{_ENGINE}_self_check_seconds"),
        self_check_error=now.value(f"{_ENGINE}_self_check_error_ratio"),
    )


class _Two:
    """A page and an earlier one."""

    def __init__(self, now: Page, before: Page | None) -> None:
        self._now, self._before = now, before

    def now(self, name: str) -> int:
        return int(self._now.value(name) or 0)

    def rise(self, name: str) -> float:
        earlier = 0.0 if self._before is None else self._before.value(name) or 0.0
        return (self._now.value(name) or 0.0) - earlier

    def rises(self, name: str, label: str) -> dict[str, int]:
        earlier = {} if self._before is None else self._before.by(name, label)
        rises = {key: int(value - earlier.get(key, 0)) for key, value in self._now.by(name, label).items()}
        return {key: rise for key, rise in rises.items() if rise}

    def quantiles(self, name: str) -> tuple[float | None, float | None]:
        now = self._now.histogram(name)
        if now is None:
            return None, None
        values = now.since(None if self._before is None else self._before.histogram(name))
        return values.quantile(0.5), values.quantile(0.99)


def _busiest(page: Page) -> tuple[Adapter, ...]:
    names = f"{_ENGINE}_busiest_adapter"
    evictions, sizes = page.by(f"{names}_evictions", "adapter"), page.by(f"{names}_bytes", "adapter")
    return tuple(
        Adapter(name, int(loads), int(evictions.get(name, 0)), int(sizes.get(name, 0)))
        for name, loads in page.by(f"{names}_loads", "adapter").items()
    )


def _part(some: float, whole: float, most: float = float("inf")) -> float | None:
    """A ratio; counts in grains may pass what is possible."""
    return min(most, some / whole) if whole > 0 else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _counts(values: Mapping[str, float]) -> dict[str, int]:
    return {key: int(value) for key, value in values.items()}

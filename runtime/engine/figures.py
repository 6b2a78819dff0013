"""Collect what the engine's parts count into the figures that it shows."""

from __future__ import annotations

import heapq

from runtime.engine.lora.store import AdapterStore
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.telemetry import AdapterFigure, AdaptersFigures, PageFigures

_BUSIEST = 16
"""Adapters whose figures are shown one by one."""


def page_figures(scheduler: Scheduler, page_tokens: int) -> PageFigures:
    """The memory for keys and values; whoever guards the scheduler holds its lock.

    Args:
        scheduler: of the pages.
        page_tokens: positions in each.
    """
    pool, cache = scheduler.pool, scheduler.cache
    return PageFigures(
        capacity=pool.usable,
        page_tokens=page_tokens,
        used=pool.usable - pool.free - cache.idle,
        cached=cache.idle,
        tokens_looked_up=cache.counts.looked_up * page_tokens,
        tokens_found=cache.counts.found * page_tokens,
    )


def adapters_figures(store: AdapterStore) -> AdaptersFigures:
    """All adapters, and those asked for most one by one; the store has its own lock."""
    stats, counts = store.stats(), store.counts()
    figures = {
        digest: AdapterFigure(each.loaded, each.evicted, each.hot_bytes) for digest, each in counts.items()
    }
    busiest = heapq.nlargest(_BUSIEST, counts, key=lambda digest: counts[digest].acquired)
    return AdaptersFigures(
        registered=stats.registered,
        hot=stats.hot,
        placed=stats.placed,
        pinned=stats.pinned,
        waiting=stats.waiting,
        tables_bytes=stats.tables_bytes,
        failed_loads=sum(each.failed for each in counts.values()),
        every=sum(figures.values(), AdapterFigure()),
        busiest={digest: figures[digest] for digest in busiest},
    )

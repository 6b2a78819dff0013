"""An engine's figures as its host may read them.

The host knows when a request came and, in padded steps, how long it and its answer were. Exact counts of
tokens, read before and after a request, would undo the padding, so what counts tokens, rows, steps or pages
leaves here in grains: rounded down to multiples that a busy engine fills in a second or two. What counts
requests is exact, since the host sees each of them anyway. All figures are of all tenants together.

An adapter's digest would name it to anyone who has its files, so adapters are called by pseudonyms keyed at
start. How often each is asked for is not told: with the times of requests, that would say who uses which.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from runtime.api.exposition import Family, Sample, histogram, labelled, single
from runtime.engine.base import EngineInfo, EngineStats
from runtime.engine.telemetry import AdapterFigure, AdaptersFigures, Distribution, PageFigures, Telemetry

TOKEN_GRAIN: Final = 256
"""Of token counts. The padding's smallest step, 1 KiB of a request, is about as many tokens of text."""
STEP_GRAIN: Final = 64
"""Of counts that rise by one per step, or per token of one sequence."""
PAGE_GRAINS: Final = 50
"""Memory is told in so many parts of the whole."""

_PSEUDONYM_BYTES: Final = 4
_MEGABYTE: Final = 1 << 20


class EngineMetrics:
    """Names the adapters and coarsens the counts."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def families(self, info: EngineInfo, stats: EngineStats) -> Iterator[Family]:
        """Everything that may be said of an engine.

        Args:
            info: its kind. The model's name is not told: a path may be a person's or a customer's.
            stats: its counters.
        """
        yield Family(
            "sealgate_engine_info",
            "gauge",
            "Always 1; which engine this is and how it holds weights.",
            (Sample(1, (("backend", info.backend), ("weights", info.dtype))),),
        )
        yield from _requests(stats)
        yield from _tokens(stats)
        if stats.telemetry is not None:
            yield from self._telemetry(stats.telemetry)

    def _telemetry(self, figures: Telemetry) -> Iterator[Family]:
        yield labelled(
            "sealgate_engine_refusals_total",
            "counter",
            "Requests that the engine did not serve, or not to their end, by code.",
            "code",
            dict(sorted(figures.refusals.items())),
        )
        yield from _durations(figures)
        yield from _budget(figures)
        if figures.pages is not None:
            yield from _pages(figures.pages)
        if figures.adapters is not None:
            yield from self._adapters(figures.adapters)
        yield labelled(
            "sealgate_engine_audits_total",
            "counter",
            "Checks of the page books while idle; the engine stops at the first that fails.",
            "outcome",
            {"passed": grained(figures.audits_passed, STEP_GRAIN), "failed": figures.audits_failed},
        )
        check = figures.self_check
        if check is not None:
            yield single(
                "sealgate_engine_self_check_seconds",
                "gauge",
                "How long the check at start took; an engine that failed it serves nothing.",
                round(check.seconds, 3),
            )
            yield single(
                "sealgate_engine_self_check_error_ratio",
                "gauge",
                "Largest deviation that the check at start found, as a part of what is allowed.",
                round(check.worst_error, 3),
            )

    def _adapters(self, figures: AdaptersFigures) -> Iterator[Family]:
        yield labelled(
            "sealgate_engine_adapters",
            "gauge",
            "Adapters that may be asked for, are in memory, ready to run, in use.",
            "state",
            {
                "registered": figures.registered,
                "hot": figures.hot,
                "placed": figures.placed,
                "pinned": figures.pinned,
            },
        )
        yield single(
            "sealgate_engine_adapter_requests_waiting",
            "gauge",
            "Requests that wait for an adapter to be loaded.",
            figures.waiting,
        )
        yield labelled(
            "sealgate_engine_adapter_memory_bytes",
            "gauge",
            "Memory of adapters: laid out (whole MiB), and the tables that they run from.",
            "place",
            {"hot": _whole(figures.every.memory_bytes), "tables": figures.tables_bytes},
        )
        every = figures.every
        yield from (
            single(f"sealgate_engine_adapter_{name}_total", "counter", text, value)
            for name, text, value in (
                ("loads", "Times an adapter was read from its source.", every.loads),
                ("evictions", "Times an adapter left memory for another.", every.evictions),
                ("load_failures", "Loads of adapters that were refused.", figures.failed_loads),
            )
        )
        yield from self._busiest(figures)

    def _busiest(self, figures: AdaptersFigures) -> Iterator[Family]:
        """Each adapter asked for most, and all others together."""
        every, rest = figures.every, sum(figures.busiest.values(), AdapterFigure())
        named = {self._pseudonym(digest): figure for digest, figure in figures.busiest.items()}
        named["other"] = AdapterFigure(
            every.loads - rest.loads,
            every.evictions - rest.evictions,
            every.memory_bytes - rest.memory_bytes,
        )
        # Gauges: when another adapter becomes one of the busiest, "other" falls.
        for name, text, values in (
            ("loads", "Times read from its source", {key: each.loads for key, each in named.items()}),
            ("evictions", "Times it left memory", {key: each.evictions for key, each in named.items()}),
            ("bytes", "Memory, whole MiB", {key: _whole(each.memory_bytes) for key, each in named.items()}),
        ):
            yield labelled(
                f"sealgate_engine_busiest_adapter_{name}",
                "gauge",
                f"{text}, of each adapter asked for most, by a pseudonym.",
                "adapter",
                values,
            )

    def _pseudonym(self, digest: str) -> str:
        return hashlib.blake2b(digest.encode(), key=self._key, digest_size=_PSEUDONYM_BYTES).hexdigest()


def _requests(stats: EngineStats) -> Iterator[Family]:
    yield single(
        "sealgate_engine_requests_running", "gauge", "Sequences that hold memory now.", stats.running
    )
    yield single(
        "sealgate_engine_requests_waiting", "gauge", "Sequences that are not started yet.", stats.waiting
    )
    yield labelled(
        "sealgate_engine_requests_total",
        "counter",
        "Sequences that ended: by themselves, given up by who asked, by a fault or a deadline.",
        "outcome",
        {"finished": stats.finished, "cancelled": stats.cancelled, "failed": stats.failed},
    )
    yield single(
        "sealgate_engine_preemptions_total",
        "counter",
        "Times a sequence gave its memory up for another, to be run again.",
        stats.preemptions,
    )


def _tokens(stats: EngineStats) -> Iterator[Family]:
    yield _counter(
        "sealgate_engine_prompt_tokens_total",
        "Prompt tokens run through the model",
        stats.prompt_tokens,
        TOKEN_GRAIN,
    )
    yield _counter(
        "sealgate_engine_completion_tokens_total", "Tokens generated", stats.completion_tokens, TOKEN_GRAIN
    )
    yield _counter("sealgate_engine_steps_total", "Passes through the model", stats.steps, STEP_GRAIN)


def _durations(figures: Telemetry) -> Iterator[Family]:
    yield grained_histogram(
        "sealgate_engine_time_to_first_token_seconds",
        "From asking the engine to a sequence's first token.",
        figures.first_token,
        grain=1,
    )
    yield grained_histogram(
        "sealgate_engine_time_between_tokens_seconds",
        f"From a token to the next of its sequence; counts in grains of {STEP_GRAIN}.",
        figures.between_tokens,
        grain=STEP_GRAIN,
    )
    yield grained_histogram(
        "sealgate_engine_step_seconds",
        f"Duration of a pass through the model; counts in grains of {STEP_GRAIN}.",
        figures.step,
        grain=STEP_GRAIN,
    )


def _budget(figures: Telemetry) -> Iterator[Family]:
    if figures.rows_limit is None:
        return
    yield single(
        "sealgate_engine_step_rows_limit", "gauge", "Tokens that any one step may run.", figures.rows_limit
    )
    yield _counter("sealgate_engine_step_rows_total", "Tokens run by steps", figures.step_rows, TOKEN_GRAIN)
    yield _counter(
        "sealgate_engine_step_budget_rows_total",
        "Tokens that steps had room for under their budgets",
        figures.budget_rows,
        TOKEN_GRAIN,
    )


def _pages(pages: PageFigures) -> Iterator[Family]:
    grain = max(1, pages.capacity // PAGE_GRAINS)
    used, cached = grained(pages.used, grain), grained(pages.cached, grain)
    yield labelled(
        "sealgate_engine_kv_pages",
        "gauge",
        f"Pages of keys and values by state, in grains of a {PAGE_GRAINS}th of all; free is the rest.",
        "state",
        {"used": used, "cached": cached, "free": pages.capacity - used - cached},
    )
    yield single("sealgate_engine_kv_page_tokens", "gauge", "Tokens that a page holds.", pages.page_tokens)
    yield _counter(
        "sealgate_engine_prefix_lookup_tokens_total",
        "Prompt tokens looked up in the prefix cache",
        pages.tokens_looked_up,
        TOKEN_GRAIN,
    )
    yield _counter(
        "sealgate_engine_prefix_hit_tokens_total",
        "Prompt tokens found in the prefix cache",
        pages.tokens_found,
        TOKEN_GRAIN,
    )


def _counter(name: str, text: str, value: int, grain: int) -> Family:
    """A count that leaves in grains, and says so."""
    return single(name, "counter", f"{text}, in grains of {grain}.", grained(value, grain))


def grained_histogram(name: str, text: str, values: Distribution, *, grain: int) -> Family:
    """Each count up to a bound is rounded down, and the sum by as much of it as the number of values.

    Args:
        name: with its unit.
        text: one sentence.
        values: in buckets.
        grain: of the counts.
    """
    cumulative = [grained(count, grain) for count in accumulate(values.counts)]
    seen = sum(values.counts)
    total = values.total * cumulative[-1] / seen if seen else 0.0
    return histogram(name, text, values.bounds, cumulative, round(total, 3))


def grained(count: int, grain: int) -> int:
    """Rounded down to a multiple of ``grain``."""
    return count - count % grain


def _whole(size: int) -> int:
    return -(-size // _MEGABYTE) * _MEGABYTE

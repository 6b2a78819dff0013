"""The benches of the scheduler at a reduced size: what they report holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.schedule.prefix import Share
from tests.bench import bench_prefix_trace as trace
from tests.bench import bench_scheduler as bench


@pytest.fixture(scope="module")
def prompts(shared: Path) -> list[trace.Prompt]:
    """The first requests of the Mooncake conversation trace."""
    return trace.read_trace(shared / "data" / "traces" / trace.TRACE.name, 2000)


@pytest.mark.shared
def test_the_cache_finds_what_there_is_to_find(prompts: list[trace.Prompt]) -> None:
    """With memory unbounded the hit rate is within a point of the trace's ceiling."""
    most = trace.ceiling(prompts, trace.one_owner)
    blocks = sum(len(prompt.blocks) for prompt in prompts)
    for share in (Share(), Share(per_tenant=False)):
        assert most - 0.01 <= trace.replay(prompts, blocks, share).rate <= most


@pytest.mark.shared
def test_owners_find_their_own_blocks_only(prompts: list[trace.Prompt]) -> None:
    """Dealt to tenants, the rate is within a point of the ceiling that the same tenant's requests give."""
    most = trace.ceiling(prompts, trace.dealt)
    blocks = sum(len(prompt.blocks) for prompt in prompts)
    assert most - 0.01 <= trace.replay(prompts, blocks, Share(), trace.dealt).rate <= most


@pytest.mark.shared
def test_a_bounded_cache_finds_less_and_a_flood_takes_little_of_it(prompts: list[trace.Prompt]) -> None:
    """Beside a flood, shares keep most of what the tenants found without it; one queue loses more."""
    bound = 4000
    queue, shares = Share(per_tenant=False), Share(protected=0.5)
    alone = trace.replay(prompts, bound, shares, trace.dealt).rate
    flooded = trace.replay(prompts, bound, shares, trace.dealt, flood=True).rate
    assert flooded > 0.85 * alone
    unshared = trace.replay(prompts, bound, queue, trace.dealt).rate
    assert flooded > trace.replay(prompts, bound, queue, trace.dealt, flood=True).rate
    assert unshared <= trace.ceiling(prompts, trace.dealt)


@pytest.mark.parametrize("name", bench.MACHINES)
def test_chunks_keep_the_time_between_tokens(name: str) -> None:
    """With a long prompt intruding, the 99th percentile stays near the median, far below whole prompts'."""
    machine = bench.MACHINES[name]
    chunked = bench.flywheel(machine, bench.CHUNKED, 120)
    whole = bench.flywheel(machine, bench.WHOLE, 120)
    assert chunked["p99_over_p50"] <= 1.75  # type: ignore[operator]  # figures of a JSON object
    assert whole["between_p99_ms"] >= 5 * chunked["between_p99_ms"]  # type: ignore[operator]


@pytest.mark.parametrize("name", bench.MACHINES)
def test_chunks_cost_little_capacity(name: str) -> None:
    """A lot of requests takes at most a tenth longer."""
    machine = bench.MACHINES[name]
    assert bench.capacity(machine, bench.CHUNKED, 120) >= 0.9 * bench.capacity(machine, bench.WHOLE, 120)


@pytest.mark.parametrize("name", bench.MACHINES)
def test_a_stated_time_between_tokens_is_kept(name: str) -> None:
    """Nine steps in ten are within it, though nobody told the scheduler what a step costs."""
    machine = bench.MACHINES[name]
    stated = 1.6 * bench.flywheel(machine, bench.WHOLE, 60)["between_p50_ms"] / 1000  # type: ignore[operator]
    simulation = bench.Simulation(machine, replace(bench.CHUNKED, between_tokens_s=stated), 7)
    simulation.serve(120)
    gaps = [gap for watch in simulation.watches.values() for gap in watch.between][1000:]
    assert sum(gap <= stated for gap in gaps) >= 0.9 * len(gaps)


def test_planning_takes_no_time() -> None:
    """Planning and collecting a step of 64 sequences is far below a millisecond, however busy the machine."""
    figures = bench.overhead(steps=100)
    assert figures["schedule_us"] + figures["collect_us"] < 1000

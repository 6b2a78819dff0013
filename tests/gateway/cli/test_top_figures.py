"""What ``runtime top`` says of a runtime between two pages, and when it begins anew."""

from __future__ import annotations

import json

import pytest

from gateway.cli.top.command import WINDOW_S, Watched
from gateway.cli.top.figures import figures
from gateway.cli.top.page import Page
from tests.simulators.runtime_pages import MIB, WatchedRuntime

DIGESTS = {"sha256:" + "a" * 64: 7, "sha256:" + "b" * 64: 3}


def page(runtime: WatchedRuntime) -> Page:
    return Page(runtime.page())


def test_figures_are_of_the_time_between_two_pages() -> None:
    before = page(WatchedRuntime(up_s=100, tokens=2560, refusals={"engine_overloaded": 5}))
    refusals = {"engine_overloaded": 5, "deadline_exceeded": 2}
    later = WatchedRuntime(up_s=110, tokens=5120, refusals=refusals, waiting=4, adapters=DIGESTS)
    found = figures(page(later), before)
    assert (found.backend, found.weights, found.up_s, found.window_s) == ("sealgate", "bf16", 110, 10)
    assert (found.running, found.waiting) == (3, 4)
    assert found.generated_per_s == found.read_per_s == 256
    assert found.budget_used == 0.5
    assert found.hit_rate == 0.25
    assert found.rows_limit == 512
    assert found.preemptions == 0
    assert found.refusals == {"deadline_exceeded": 2}
    assert found.pages == {"used": 300, "cached": 200, "free": 500}
    assert found.adapters == {"registered": 1000, "hot": 2, "placed": 2, "pinned": 1}
    assert found.adapter_bytes == {"hot": 18 * MIB, "tables": 64 * MIB}
    assert [each.loads for each in found.busiest] == [7, 3, 0]
    assert found.busiest[-1].name == "other"
    assert (found.self_check_s, found.self_check_error) == (0.25, 0.125)
    assert found.audits == {"passed": 0, "failed": 0}


def test_quantiles_are_of_the_time_between_two_pages() -> None:
    """2,560 slow steps lie before; all in between are in the bucket from 25 to 30 ms."""
    before = page(WatchedRuntime(tokens=2560, slow=2560))
    found = figures(page(WatchedRuntime(up_s=200, tokens=5120, slow=2560)), before)
    for each in (*found.step_s, *found.between_tokens_s):
        assert each is not None
        assert 0.025 < each <= 0.03
    since_start = figures(page(WatchedRuntime(up_s=200, tokens=5120, slow=2560)))
    assert since_start.step_s[1] == pytest.approx(0.75, abs=0.26)
    assert since_start.first_token_s[0] == pytest.approx(0.4, abs=0.11)


def test_an_engine_without_telemetry_has_figures_all_the_same() -> None:
    found = figures(page(WatchedRuntime(backend="vllm 0.32.0", plain=True, tokens=2560)))
    assert found.backend == "vllm 0.32.0"
    assert found.generated_per_s == 25.6
    assert found.step_s == (None, None)
    assert (found.budget_used, found.rows_limit, found.hit_rate, found.self_check_s) == (None,) * 4
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["pages"] == {}


def test_another_page_is_not_a_runtimes() -> None:
    with pytest.raises(ValueError, match="not the metrics of a runtime"):
        figures(Page("go_goroutines 12\n"))


class World:
    """A runtime, a clock, and somebody who watches.

    Args:
        runtime: that answers; None while none does.
    """

    def __init__(self, runtime: WatchedRuntime | None) -> None:
        self.now = 1000.0
        self.runtime = runtime
        self.watched = Watched(self._ask, clock=lambda: self.now)

    def _ask(self) -> str:
        if self.runtime is None:
            raise ConnectionRefusedError("refused")
        return self.runtime.page()

    def after(self, seconds: float, **changes: object) -> Watched:
        """Time passes, the runtime works, and it is asked."""
        self.now += seconds
        if self.runtime is not None:
            self.runtime.up_s += seconds
            for name, value in changes.items():
                setattr(self.runtime, name, value)
        self.watched.look()
        return self.watched


def pace(watched: Watched) -> float | None:
    assert watched.figures is not None
    return watched.figures.generated_per_s


def test_the_window_moves_on() -> None:
    world = World(WatchedRuntime(tokens=2560))
    assert pace(world.after(0)) == 25.6  # since start
    assert pace(world.after(2, tokens=2560 + 512)) == 256
    tokens = 2560 + 512
    for _ in range(30):
        tokens += 2560
        watched = world.after(2, tokens=tokens)
    assert watched.figures is not None
    assert watched.figures.window_s == WINDOW_S
    assert pace(watched) == 1280


@pytest.mark.parametrize("up_s", [1.0, 160.0])
def test_a_runtime_that_was_started_again_is_counted_from_its_start(up_s: float) -> None:
    """Though it may be up for longer by now than the one before was when it last answered."""
    world = World(WatchedRuntime(up_s=100, tokens=25_600))
    world.after(0)
    world.runtime = None
    assert world.after(200).trouble == "no metrics for 200 s: refused"
    world.runtime = WatchedRuntime(up_s=up_s - 2, tokens=512)
    watched = world.after(2)
    assert watched.trouble == ""
    assert watched.figures is not None
    assert watched.figures.window_s == up_s
    assert pace(watched) == 512 / up_s


def test_a_page_that_stands_still_is_no_restart_and_no_window() -> None:
    """The runtime's page is up to two seconds old, and its uptime is whole seconds."""
    world = World(WatchedRuntime(tokens=2560))
    world.after(0)
    shown = world.after(10, tokens=5120).figures
    for seconds in (0.5, 0.5, 0.9):
        assert world.runtime is not None
        world.runtime.up_s -= seconds
        watched = world.after(seconds)
        assert watched.figures is shown
        assert watched.trouble == ""
    assert pace(world.after(2, tokens=7680)) == 5120 / 12


def test_what_is_no_page_leaves_the_figures_and_says_why() -> None:
    world = World(WatchedRuntime(tokens=2560))
    shown = world.after(0).figures
    assert world.runtime is not None
    world.runtime.backend = "\x1b[2J"
    watched = world.after(2)
    assert watched.figures is shown
    assert watched.trouble == "no metrics for 2 s: a label holds what does not print"

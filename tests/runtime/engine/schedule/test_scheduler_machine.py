"""The scheduler as a state machine: whatever comes, in whatever order, its promises hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.schedule.prefix import Share
from runtime.engine.schedule.sequence import Owner
from runtime.engine.schedule.settings import SchedulerSettings
from tests.simulators.scheduled_world import World

OWNERS = st.builds(
    Owner,
    tenant=st.sampled_from(["a", "b", "c"]),
    label_domain=st.sampled_from(["", "secret"]),
    adapter_digest=st.sampled_from([None, "", "sha256:1"]),
)


def prompt_of(stem: int, stem_length: int, tail: list[int]) -> list[int]:
    """Prompts that often begin alike."""
    return [(stem + i) % 3 for i in range(stem_length)] + tail


PROMPTS = st.builds(
    prompt_of, st.integers(0, 1), st.integers(0, 30), st.lists(st.integers(0, 4), min_size=1, max_size=6)
)


class SchedulerMachine(RuleBasedStateMachine):
    """Requests arrive, steps run, consumers leave and runs fail; the checks are in ``World``."""

    @initialize(
        sizes=st.tuples(st.integers(12, 40), st.integers(1, 5), st.integers(1, 6)),
        share=st.builds(Share, st.booleans(), st.sampled_from([0.0, 0.25, 1.0])),
        between=st.sampled_from([None, 0.001, 0.1]),
        cache=st.booleans(),
    )
    def start(self, sizes: tuple[int, int, int], share: Share, between: float | None, cache: bool) -> None:
        """A small engine, with some settings."""
        pages, page_size, max_running = sizes
        budget = BudgetSettings(step_rows=24, between_tokens_s=between, least_rows=4, multiple=4)
        self.world = World(
            SchedulerSettings(
                pages=pages,
                page_size=page_size,
                max_running=max_running,
                max_waiting=8,
                budget=budget,
                share=share,
                prefix_cache=cache,
            )
        )

    @rule(
        owner=OWNERS,
        prompt=PROMPTS,
        max_tokens=st.integers(1, 12),
        priority=st.integers(-2, 2),
        deadline_in=st.none() | st.floats(0.001, 0.3),
        prefix_limit=st.none() | st.integers(0, 20),
    )
    def arrive(self, owner: Owner, prompt: list[int], max_tokens: int, **options: object) -> None:
        """A request comes."""
        self.world.add(owner, prompt, max_tokens, **options)  # type: ignore[arg-type]  # drawn by name

    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        """A consumer gives up."""
        living = sorted(self.world.living)
        if living:
            self.world.cancel(living[which % len(living)])

    @rule(seconds=st.floats(0.0001, 0.05))
    def step(self, seconds: float) -> None:
        """A step runs."""
        self.world.step(seconds=seconds)

    @rule(which=st.integers(0, 20), fails=st.booleans())
    def step_under_which_one_leaves(self, which: int, fails: bool) -> None:
        """A step runs while a consumer gives up, or yields logits that are not finite."""
        living = sorted(self.world.living)
        if living:
            chosen = {living[which % len(living)]}
            self.world.step(**{"fail" if fails else "cancel": chosen})

    @rule()
    def step_that_breaks(self) -> None:
        """A step fails as a whole."""
        self.world.step(abandon=True)

    @rule()
    def forget_what_is_idle(self) -> None:
        """The cache is emptied."""
        self.world.scheduler.cache.clear()

    @invariant()
    def books_balance(self) -> None:
        """No page is lost or held twice."""
        if hasattr(self, "world"):
            self.world.scheduler.verify()

    def teardown(self) -> None:
        """All that were admitted end, and all pages are there."""
        if hasattr(self, "world"):
            self.world.finish()


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSchedulerMachine = SchedulerMachine.TestCase

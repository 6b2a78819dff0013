"""How Sealgate's engine runs: plain data, without the engine's libraries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.schedule.settings import SchedulerSettings

if TYPE_CHECKING:
    from runtime.engine.run.runner import Kernels
    from runtime.engine.run.weights import WeightMode


@dataclass(frozen=True)
class EngineSettings:
    """How the engine runs.

    Args:
        mode: of the weights.
        device: of the model.
        kernels: whose compute on a CPU: Sealgate's own (``native``), torch's, or ``auto``, its own where they
            are built and know the model.
        threads: of the CPU; by default what torch chooses.
        kv_bytes: memory for keys and values, taken as it is first used.
        page_size: positions in a page.
        max_running: sequences decoded together.
        max_waiting: sequences queued beyond those.
        max_wait_s: refuse whoever would wait longer for a first token; None refuses nobody for it.
        prefix_cache: whether a tenant's computed prompts are kept for its later ones.
        budget: of a step.
    """

    mode: WeightMode = "bf16"
    device: str = "cpu"
    kernels: Kernels = "auto"
    threads: int | None = None
    kv_bytes: int = 1 << 30
    page_size: int = 16
    max_running: int = 64
    max_waiting: int = 1024
    max_wait_s: float | None = None
    prefix_cache: bool = True
    budget: BudgetSettings = field(default_factory=BudgetSettings)

    def of_scheduler(self, pages: int) -> SchedulerSettings:
        """What of this the scheduler goes by.

        Args:
            pages: that ``kv_bytes`` hold, the null page included.
        """
        return SchedulerSettings(
            pages=pages,
            page_size=self.page_size,
            max_running=self.max_running,
            max_waiting=self.max_waiting,
            max_wait_s=self.max_wait_s,
            budget=self.budget,
            prefix_cache=self.prefix_cache,
        )

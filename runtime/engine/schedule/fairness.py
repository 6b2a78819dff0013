"""Whose turn it is: virtual token counters (Sheng et al., Fairness in Serving LLMs, OSDI 2024).

Each tenant has a counter of the work done for it, divided by its weight; the waiting tenant with the lowest
is served next. A tenant that had nothing waiting is lifted to the lowest of those who do, so that idling
earns no credit. Of two tenants that always have something waiting, neither gets further ahead than

    2 * max(longest prompt * PROMPT_TOKEN, tokens that run at once * GENERATED_TOKEN) / weight.
"""

from __future__ import annotations

from collections.abc import Collection

PROMPT_TOKEN = 1.0
"""Work of reading a prompt token; one found in a cached page is no work."""
GENERATED_TOKEN = 2.0
"""Work of generating a token."""
_MOST_REMEMBERED = 4096


class TokenCounters:
    """The counters."""

    def __init__(self) -> None:
        self._work: dict[str, float] = {}
        self._weight: dict[str, float] = {}
        self._last_served = 0.0  # counter of the tenant whose waiting came to an end most recently

    def work(self, tenant: str) -> float:
        """The counter; 0 for a tenant never seen."""
        return self._work.get(tenant, 0.0)

    def arrive(self, tenant: str, weight: float, waiting: Collection[str]) -> None:
        """A tenant with nothing waiting is about to have something.

        Args:
            tenant: who.
            weight: its share from now on.
            waiting: the tenants that have something waiting.
        """
        work = self._work
        floor = min((work.get(each, 0.0) for each in waiting), default=self._last_served)
        work[tenant] = max(work.get(tenant, 0.0), floor)
        self._weight[tenant] = weight
        if len(work) > _MOST_REMEMBERED:
            self._forget(floor, {tenant, *waiting})

    def leave(self, tenant: str) -> None:
        """A tenant has nothing waiting any more."""
        self._last_served = self.work(tenant)

    def charge(self, tenant: str, work: float) -> None:
        """Count work done for a tenant."""
        self._work[tenant] = self._work.get(tenant, 0.0) + work / self._weight.get(tenant, 1.0)

    def _forget(self, floor: float, waiting: set[str]) -> None:
        """Drop whom the lift would bring to the floor anyway; if those are few, whoever is nearest to it."""
        others = sorted((work, tenant) for tenant, work in self._work.items() if tenant not in waiting)
        for position, (work, tenant) in enumerate(others):
            if work > floor and position >= len(others) // 2:
                break
            del self._work[tenant]
            self._weight.pop(tenant, None)

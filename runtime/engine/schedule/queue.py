"""Sequences that wait, and which of them is next.

Higher priority first; within a priority the tenant that is furthest behind (see ``fairness``); within a
tenant whoever came first. Waiting raises the priority, so that a stream of urgent requests delays the
others but cannot keep them out: after enough of it all are equal.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from runtime.engine.schedule.fairness import TokenCounters
from runtime.engine.schedule.sequence import Sequence

HIGHEST_PRIORITY = 8


class WaitingQueue:
    """The queue.

    Args:
        counters: of the tenants.
        aging_s: waiting this long counts as one step of priority.
    """

    def __init__(self, counters: TokenCounters, aging_s: float) -> None:
        self._counters = counters
        self._aging_s = aging_s
        self._lanes: dict[str, dict[int, list[Sequence]]] = {}  # tenant, priority: in order of arrival
        self._count = 0
        self.pending = 0
        """Tokens to be run, over all that wait."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sequence]:
        for lanes in self._lanes.values():
            for lane in lanes.values():
                yield from lane

    def of(self, tenant: str) -> int:
        """How many of a tenant's wait."""
        return sum(map(len, self._lanes.get(tenant, {}).values()))

    def ahead_of(self, sequence: Sequence) -> tuple[int, int]:
        """Tokens and sequences expected to go before a new one, if its tenant and the others take turns."""
        own_tokens, own_count = self._not_below(sequence.owner.tenant, sequence.priority)
        tokens, count = own_tokens, own_count
        for tenant in self._lanes:
            if tenant != sequence.owner.tenant:
                their_tokens, their_count = self._not_below(tenant, sequence.priority)
                tokens += min(their_tokens, own_tokens + len(sequence.tokens))
                count += min(their_count, own_count + 1)
        return tokens, count

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence by its order of arrival, whether it is new or had to give up its pages."""
        tenant = sequence.owner.tenant
        if tenant not in self._lanes:
            self._counters.arrive(tenant, sequence.weight, self._lanes.keys())
            self._lanes[tenant] = {}
        lane = self._lanes[tenant].setdefault(sequence.priority, [])
        insort(lane, sequence, key=lambda each: each.order)
        self._count += 1
        self.pending += len(sequence.tokens)

    def remove(self, sequence: Sequence) -> None:
        """Take a waiting sequence out. Called before its pages or tokens change."""
        tenant = sequence.owner.tenant
        lanes = self._lanes[tenant]
        lane = lanes[sequence.priority]
        lane.remove(sequence)
        if not lane:
            del lanes[sequence.priority]
        if not lanes:
            del self._lanes[tenant]
            self._counters.leave(tenant)
        self._count -= 1
        self.pending -= len(sequence.tokens)

    def urgency(self, sequence: Sequence, now: float) -> int:
        """Its priority, raised by how long ago it came."""
        raised = sequence.priority + int((now - sequence.arrived) / self._aging_s)
        return min(HIGHEST_PRIORITY, raised)

    def best(self, now: float) -> Sequence | None:
        """Whose turn it is."""
        best: Sequence | None = None
        best_key = (0, 0.0, 0)
        for tenant, lanes in self._lanes.items():
            work = self._counters.work(tenant)
            for lane in lanes.values():
                first = lane[0]
                key = (-self.urgency(first, now), work, first.order)
                if best is None or key < best_key:
                    best, best_key = first, key
        return best

    def _not_below(self, tenant: str, priority: int) -> tuple[int, int]:
        lanes = self._lanes.get(tenant, {})
        urgent = [each for lane in lanes if lane >= priority for each in lanes[lane]]
        return sum(len(each.tokens) for each in urgent), len(urgent)

"""Cached pages that no sequence uses: which of them goes first when room is needed.

Each tenant has its own queue, least recently used first. Room is taken from whoever has most, so that a
tenant who floods the cache drops its own pages; and never from a tenant who has no more than its floor, an
equal part of the protected pages, but by that tenant itself (or as a last resort: see ``pop``).

A sequence gives its pages back last first, and takes them first first. So within a queue a block always
stands before the block it continues, and taking from the front never leaves a block without its past.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator

_STALE_SLACK = 64


class IdlePages:
    """The queues.

    Args:
        protected: pages whose equal parts are the tenants' floors; None for one queue over all tenants.
    """

    def __init__(self, protected: int | None) -> None:
        self._protected = protected
        self._queues: dict[str, OrderedDict[int, None]] = {}
        self._largest: list[tuple[int, str]] = []  # heap of (-size, tenant); sizes may lie above the truth
        self._entered: dict[str, int] = {}  # the size of each tenant's entry that counts; others are stale
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        for queue in self._queues.values():
            yield from queue

    def of(self, tenant: str) -> int:
        """Pages in a tenant's queue."""
        return len(self._queues.get(self._name(tenant), ()))

    def add(self, tenant: str, pages: Iterable[int]) -> None:
        """Queue pages as the most recently used, in this order."""
        name = self._name(tenant)
        queue = self._queues.setdefault(name, OrderedDict())
        before = len(queue)
        queue.update(dict.fromkeys(pages))
        self.count += len(queue) - before
        self._enter(name, len(queue))

    def remove(self, tenant: str, page: int) -> None:
        """Take out a page that is in use again."""
        name = self._name(tenant)
        queue = self._queues[name]
        del queue[page]
        self.count -= 1
        self._drop_if_empty(name, queue)

    def spare(self, tenant: str) -> int:
        """How many pages ``pop`` gives to this tenant without ``force``."""
        if self._protected is None:
            return self.count
        floor = self._floor()
        others = sum(max(0, len(queue) - floor) for queue in self._queues.values())
        own = len(self._queues.get(tenant, ()))
        return others - max(0, own - floor) + own

    def pop(self, tenant: str, count: int, *, force: bool = False) -> list[int]:
        """The pages to drop so that ``tenant`` gets room; they are no longer idle.

        Args:
            tenant: who needs them.
            count: how many; no more than ``spare`` (with ``force``, than there are).
            force: take below other tenants' floors too, for a sequence that could otherwise never run.
        """
        floor = 0 if force else self._floor()  # as it was when spare was asked, though queues may vanish now
        return [self._pop(self._name(tenant), floor) for _ in range(count)]

    def _name(self, tenant: str) -> str:
        return "" if self._protected is None else tenant

    def _floor(self) -> int:
        return (self._protected or 0) // max(1, len(self._queues))

    def _pop(self, asking: str, floor: int) -> int:
        name = self._find_largest()
        if self._protected is not None and len(self._queues[name]) <= floor:
            name = asking
        queue = self._queues[name]
        page, _ = queue.popitem(last=False)
        self.count -= 1
        self._drop_if_empty(name, queue)
        return page

    def _find_largest(self) -> str:
        while self._largest:
            size, name = self._largest[0]
            if self._entered.get(name) != -size:
                heapq.heappop(self._largest)
                continue
            actual = len(self._queues[name])
            if actual == -size:
                return name
            self._entered[name] = actual
            heapq.heapreplace(self._largest, (-actual, name))
        raise LookupError("no page is idle")

    def _enter(self, name: str, size: int) -> None:
        if not size or self._entered.get(name) == size:
            self._drop_if_empty(name, self._queues[name])
            return
        self._entered[name] = size
        heapq.heappush(self._largest, (-size, name))
        if len(self._largest) > 2 * len(self._queues) + _STALE_SLACK:
            self._entered = {name: len(queue) for name, queue in self._queues.items()}
            self._largest = [(-size, name) for name, size in self._entered.items()]
            heapq.heapify(self._largest)

    def _drop_if_empty(self, name: str, queue: OrderedDict[int, None]) -> None:
        if not queue:
            del self._queues[name]
            self._entered.pop(name, None)

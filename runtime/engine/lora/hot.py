"""Adapters laid out in memory, under a byte budget: the least recently used leaves first, overwritten."""

from __future__ import annotations

from collections import OrderedDict

from runtime.engine.lora.adapter import Adapter


class HotSet:
    """Belongs to one thread; the figures may be read from any.

    Args:
        budget_bytes: for all adapters together.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._adapters)

    def get(self, digest: str) -> Adapter | None:
        """An adapter, which counts as used now."""
        adapter = self._adapters.get(digest)
        if adapter is not None:
            self._adapters.move_to_end(digest)
        return adapter

    def fits(self, adapter: Adapter) -> bool:
        """Whether the budget could hold it at all."""
        return adapter.memory_bytes <= self.budget_bytes

    def keep(self, adapter: Adapter) -> list[str]:
        """Take an adapter that fits; the digests of those that had to leave for it."""
        evicted: list[str] = []
        if adapter.digest in self._adapters:
            self.drop(adapter.digest)
        while self.used_bytes + adapter.memory_bytes > self.budget_bytes:
            oldest = next(iter(self._adapters))
            self.drop(oldest)
            evicted.append(oldest)
        self._adapters[adapter.digest] = adapter
        self.used_bytes += adapter.memory_bytes
        return evicted

    def drop(self, digest: str) -> None:
        """Overwrite and forget an adapter, if it is here."""
        adapter = self._adapters.pop(digest, None)
        if adapter is not None:
            self.used_bytes -= adapter.memory_bytes
            adapter.zeroise()

    def clear(self) -> None:
        """Overwrite and forget all."""
        for digest in tuple(self._adapters):
            self.drop(digest)

"""A sequence's hold on an adapter, and what is counted of each adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from runtime.engine.base import EngineRefusal
from runtime.engine.lora.tables import Placed


class Lease:
    """A sequence's hold on an adapter.

    ``future`` gives where the adapter lies once it is ready; await it anywhere but on the engine's thread.
    It fails with ``EngineRefusal`` ``adapter_failed`` if the adapter cannot be loaded.

    Args:
        digest: of the adapter.
        tenant: whose lease it is.
        give_back: called once, at release.
    """

    def __init__(self, digest: str, tenant: str, give_back: Callable[[Lease], None]) -> None:
        self.digest = digest
        self.tenant = tenant
        self.future: Future[Placed] = Future()
        self._give_back = give_back

    def __repr__(self) -> str:
        return f"Lease({self.digest}, ready={self.future.done()})"

    async def ready(self) -> None:
        """Wait until the adapter is ready; where that does not come about, it is given back.

        Raises:
            EngineRefusal: as ``future`` fails.
        """
        try:
            await asyncio.wrap_future(self.future)
        except BaseException:
            self.release()
            raise

    def grant(self, placed: Placed) -> None:
        """The adapter is ready."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(placed)

    def refuse(self, refusal: EngineRefusal) -> None:
        """It will never be."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(refusal)

    def release(self) -> None:
        """Give the adapter back, after the last step with its rows has ended. May be called twice."""
        self.future.cancel()
        self._give_back(self)


@dataclass
class AdapterCounts:
    """What happened to one adapter since it was registered; free of content.

    Args:
        acquired: leases given.
        loaded: times it was read from its source.
        placed: times it was copied into the tables.
        evicted: times it left the hot set for another.
        failed: loads that were refused.
        hot_bytes: that it takes in the hot set now.
    """

    acquired: int = 0
    loaded: int = 0
    placed: int = 0
    evicted: int = 0
    failed: int = 0
    hot_bytes: int = 0


@dataclass(frozen=True)
class StoreStats:
    """Figures of the whole store, free of content.

    Args:
        registered: adapters that can be asked for.
        hot: adapters laid out in memory.
        hot_bytes: what they take.
        placed: adapters in the tables.
        pinned: of those, in use now.
        waiting: leases that are not ready yet.
        tables_bytes: what the tables take, full or empty.
    """

    registered: int
    hot: int
    hot_bytes: int
    placed: int
    pinned: int
    waiting: int
    tables_bytes: int

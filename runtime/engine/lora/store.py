"""The adapters that may run: where each comes from, which are in memory, and which are in use.

    source      files from a folder or a vault, read and checked again at every load
    hot set     laid out in memory, under a byte budget, least recently used first out
    tables      placed and ready to run; pinned while a lease on it lives

``acquire`` answers at once. Fetching threads read and check; one keeping thread alone changes the hot set
and the tables; so a step never waits for an adapter, and a slow source delays only those who asked for it.
What leaves memory is overwritten. A tenant can only name adapters registered for it, and is told the same
of another's as of one that does not exist.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from attest.refusal import Refused
from runtime.engine.adapters import AdapterFacts
from runtime.engine.base import EngineRefusal
from runtime.engine.lora.adapter import Adapter, AdapterFiles, AdapterLimits, read_adapter, read_folder
from runtime.engine.lora.hot import HotSet
from runtime.engine.lora.lease import AdapterCounts, Lease, StoreStats
from runtime.engine.lora.tables import LoraTables, Placed

_LOG = logging.getLogger(__name__)

_RESERVE = 8
"""Units kept free where nobody needs them, so that a cold adapter is placed without displacing another."""

EVERYONE = "*"
"""In place of a tenant: whoever it is. No thumbprint looks like it."""

Source = Callable[[], AdapterFiles]
"""Gives an adapter's files. Called on a fetching thread; a ``bytearray`` in it is zeroised after reading."""


@dataclass(eq=False)
class _Known:
    """One registered adapter; guarded by the store's lock."""

    digest: str
    sources: dict[str, Source]  # by tenant
    counts: AdapterCounts = field(default_factory=AdapterCounts)
    placed: Placed | None = None
    loading: bool = False
    leases: set[Lease] = field(default_factory=set)
    waiting: list[Lease] = field(default_factory=list)


class AdapterStore:
    """Adapters of one base model.

    Args:
        tables: where they run.
        base_model_digest: of the base.
        budget_bytes: for the hot set; ``tables`` come on top.
        limits: for each adapter.
        dtype: of the hot set; by default that of the tables. bfloat16 halves it, and rounds.
        threads: that fetch.
    """

    def __init__(
        self,
        tables: LoraTables,
        *,
        base_model_digest: str,
        budget_bytes: int,
        limits: AdapterLimits | None = None,
        dtype: torch.dtype | None = None,
        threads: int = 1,
    ) -> None:
        self._tables = tables
        self._base_model_digest = base_model_digest
        self._limits = limits or AdapterLimits()
        self._dtype = dtype or tables.dtype
        self._reserve = min(_RESERVE, tables.units // 4)
        self._hot = HotSet(budget_bytes)  # the keeper's own
        self._blocked: deque[_Known] = deque()  # the keeper's own: no room in the tables, oldest first
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}  # guarded by _lock
        self._idle: OrderedDict[str, _Known] = (
            OrderedDict()
        )  # guarded by _lock: placed, without leases, by age
        self._closed = False  # guarded by _lock
        self._fetchers = ThreadPoolExecutor(threads, thread_name_prefix="adapter-fetch")
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="adapter-keep")

    # -- for the engine and the API: any thread, at once -------------------------------------------------

    def register(self, digest: str, source: Source, *, tenant: str) -> None:
        """Let ``tenant`` (or ``EVERYONE``) name the adapter ``digest``, given by ``source``."""
        with self._lock:
            self._known.setdefault(digest, _Known(digest, {})).sources[tenant] = source

    def register_folder(self, folder: Path, *, tenant: str) -> str:
        """As ``adopt_folder``; its digest alone."""
        return self.adopt_folder(folder, tenant=tenant).digest

    def adopt_folder(self, folder: Path, *, tenant: str) -> AdapterFacts:
        """Read and check a PEFT folder, keep it hot, register it, and say what it is. Waits for the disk.

        Raises:
            Refused: as ``read_folder`` and ``read_adapter`` do; ``adapter-too-large`` for the budget.
        """
        adapter = self._read(read_folder(folder, self._limits))
        if not self._runnable(adapter):
            adapter.zeroise()
            raise Refused("adapter-too-large", expected="within budget and tables")
        facts = AdapterFacts(adapter.digest, adapter.rank)
        self.register(facts.digest, lambda: read_folder(folder, self._limits), tenant=tenant)
        self._keeper.submit(self._keep, adapter).result()
        return facts

    def unregister(self, digest: str, *, tenant: str) -> None:
        """Take ``tenant``'s right away. What nobody may name leaves memory once no lease on it lives."""
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                return
            known.sources.pop(tenant, None)
            unwanted = not known.sources and not known.leases
        if unwanted:
            self._ask_keeper(self._forget, known)

    def acquire(self, digest: str, *, tenant: str) -> Lease:
        """Hold an adapter for a sequence; ``Lease.future`` says when it is ready.

        Raises:
            EngineRefusal: ``adapter_not_found`` if it is unknown or not the tenant's own;
                ``engine_stopped`` after ``close``.
        """
        lease = Lease(digest, tenant, self._release)
        with self._lock:
            if self._closed:
                raise EngineRefusal("engine_stopped")
            known = self._known.get(digest)
            if known is None or not {tenant, EVERYONE} & known.sources.keys():
                raise EngineRefusal("adapter_not_found", digest)
            known.counts.acquired += 1
            known.leases.add(lease)
            self._idle.pop(digest, None)
            placed = known.placed
            load = placed is None and not known.loading
            if placed is None:
                known.waiting.append(lease)
                known.loading = True
        if placed is not None:
            lease.grant(placed)
        if load:
            self._ask_keeper(self._want, known)
        return lease

    def stats(self) -> StoreStats:
        """Figures of the whole store."""
        with self._lock:
            placed = [known for known in self._known.values() if known.placed is not None]
            return StoreStats(
                registered=len(self._known),
                hot=len(self._hot),
                hot_bytes=self._hot.used_bytes,
                placed=len(placed),
                pinned=sum(bool(known.leases) for known in placed),
                waiting=sum(len(known.waiting) for known in self._known.values()),
                tables_bytes=self._tables.memory_bytes,
            )

    def counts(self) -> dict[str, AdapterCounts]:
        """Figures of each adapter, by digest."""
        with self._lock:
            return {digest: replace(known.counts) for digest, known in self._known.items()}

    def close(self) -> None:
        """End what waits with ``engine_stopped``, and overwrite everything. No step may run any more."""
        with self._lock:
            self._closed = True
            waiting = [lease for known in self._known.values() for lease in known.waiting]
            for known in self._known.values():
                known.waiting = []
        for lease in waiting:
            lease.refuse(EngineRefusal("engine_stopped"))
        self._fetchers.shutdown(cancel_futures=True)
        self._keeper.shutdown()
        self._hot.clear()
        for known in self._known.values():
            if known.placed is not None:
                self._tables.remove(known.placed)
        self._known.clear()
        self._idle.clear()

    def _release(self, lease: Lease) -> None:
        """See ``Lease.release``."""
        with self._lock:
            known = self._known.get(lease.digest)
            if known is None or lease not in known.leases:
                return
            known.leases.discard(lease)
            if lease in known.waiting:
                known.waiting.remove(lease)
            unused = not known.leases
            unwanted = unused and not known.sources
            if unused and known.placed is not None:
                self._idle[known.digest] = known
        if unwanted:
            self._ask_keeper(self._forget, known)
        elif unused:
            self._ask_keeper(self._retry)

    def _ask_keeper(self, task: Callable[..., None], *arguments: object) -> bool:
        """Whether the keeper will do it: not once ``close`` has begun."""
        with self._lock:
            if not self._closed:
                self._keeper.submit(task, *arguments)
            return not self._closed

    # -- on the fetching threads -------------------------------------------------------------------------

    def _fetch(self, known: _Known) -> None:
        with self._lock:
            known.loading = bool(known.waiting)
            if not known.loading:  # who asked has gone
                return
            tenants = {lease.tenant for lease in known.waiting} | {EVERYONE}
            sources = [source for tenant, source in known.sources.items() if tenant in tenants]
        reason = "adapter-not-found"
        for source in sources:  # one tenant's broken source is no reason to fail another's request
            try:
                adapter = self._read(source())
                if adapter.digest != known.digest:
                    adapter.zeroise()
                    raise Refused("adapter-digest", expected=known.digest, got=adapter.digest)  # noqa: TRY301 counts like any other refusal
                if not self._runnable(adapter):
                    adapter.zeroise()
                    raise Refused("adapter-too-large", expected="within budget and tables")  # noqa: TRY301 likewise
            except Refused as error:
                reason = error.code
            except Exception as error:  # noqa: BLE001 a source is foreign code: whatever it raises, nobody may be left waiting
                _LOG.error("an adapter's source failed: %s", type(error).__name__)
                reason = "adapter-source"
            else:
                if not self._ask_keeper(self._arrive, known, adapter):
                    adapter.zeroise()
                return
        self._ask_keeper(self._fail, known, reason)

    def _read(self, files: AdapterFiles) -> Adapter:
        return read_adapter(
            files,
            self._tables.shape,
            base_model_digest=self._base_model_digest,
            limits=self._limits,
            dtype=self._dtype,
        )

    def _runnable(self, adapter: Adapter) -> bool:
        return self._hot.fits(adapter) and adapter.units <= self._tables.units

    # -- on the keeping thread ---------------------------------------------------------------------------

    def _want(self, known: _Known, *, its_turn: bool = False) -> None:
        """Make an adapter ready: from the hot set now, otherwise once it is fetched."""
        adapter = self._hot.get(known.digest)
        if adapter is not None:
            self._install(known, adapter, its_turn=its_turn)
            return
        with self._lock:
            if not self._closed:
                self._fetchers.submit(self._fetch, known)

    def _arrive(self, known: _Known, adapter: Adapter) -> None:
        known.counts.loaded += 1
        self._keep(adapter)
        self._install(known, adapter)

    def _keep(self, adapter: Adapter) -> None:
        if not self._runnable(adapter):
            adapter.zeroise()
            raise Refused("adapter-too-large", expected="within budget and tables")
        evicted = self._hot.keep(adapter)
        with self._lock:
            for digest in evicted:
                if digest in self._known:
                    self._known[digest].counts.evicted += 1
                    self._known[digest].counts.hot_bytes = 0
            if adapter.digest in self._known:
                self._known[adapter.digest].counts.hot_bytes = adapter.memory_bytes

    def _install(self, known: _Known, adapter: Adapter, *, its_turn: bool = False) -> None:
        """Place an adapter and tell who waits; if others hold all the room, or wait for it, wait too."""
        if self._blocked and not its_turn:  # a small adapter must not keep a large one out for ever
            self._blocked.append(known)
            return
        placed = self._tables.place(adapter.digest, adapter.weights)
        while placed is None and self._displace_idle():
            placed = self._tables.place(adapter.digest, adapter.weights)
        if placed is None:
            self._blocked.append(known)
            return
        with self._lock:
            known.counts.placed += 1
            known.placed = placed
            known.loading = False
            ready, known.waiting = known.waiting, []
            if not known.leases:
                self._idle[known.digest] = known
        for lease in ready:
            lease.grant(placed)
        while self._tables.free < self._reserve and self._displace_idle():
            pass  # what must be overwritten is so now, not when the next adapter waits for its place

    def _displace_idle(self) -> bool:
        """Take the adapter out of the tables that has been unused for longest; False if all are in use."""
        with self._lock:
            if not self._idle:
                return False
            _, known = self._idle.popitem(last=False)
            placed, known.placed = known.placed, None
        if placed is not None:
            self._tables.remove(placed)
        return True

    def _retry(self) -> None:
        """Room may have come free: serve who waited for it, in order, as far as it goes."""
        for _ in range(len(self._blocked)):
            known = self._blocked.popleft()
            with self._lock:
                wanted = bool(known.waiting)
                known.loading = wanted
            if not wanted:
                continue
            before = len(self._blocked)
            self._want(known, its_turn=True)
            if len(self._blocked) > before:  # still no room: it keeps its turn
                self._blocked.rotate(1)
                return

    def _fail(self, known: _Known, reason: str) -> None:
        with self._lock:
            known.counts.failed += 1
            known.loading = False
            waiting, known.waiting = known.waiting, []
        for lease in waiting:
            lease.refuse(EngineRefusal("adapter_failed", reason))

    def _forget(self, known: _Known) -> None:
        """Overwrite what nobody may name any more."""
        with self._lock:
            if known.sources or known.leases:  # it was registered or acquired again meanwhile
                return
            self._known.pop(known.digest, None)
            self._idle.pop(known.digest, None)
            placed, known.placed = known.placed, None
        if placed is not None:
            self._tables.remove(placed)
        self._hot.drop(known.digest)
        self._retry()

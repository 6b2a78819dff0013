"""A folder of adapters by name: PEFT folders, each read when it is first asked for.

The folder is the host's, so nothing in it is trusted: what an adapter is called says nothing of what it is,
and its digest, made of what was read, says all. A folder whose files changed is read anew and has another
digest from then on; one that changes under an adapter in use cannot become a part of it, for every load is
held against the digest.
"""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from attest.refusal import Malformed, Refused
from runtime.engine.adapters import AdapterFacts, AdapterRefused, AdapterSettings
from runtime.engine.lora.adapter import CONFIG_NAME, TENSORS_NAME, AdapterLimits, read_folder
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.shape import UNIT, BaseShape
from runtime.engine.lora.store import EVERYONE, AdapterStore
from runtime.engine.lora.tables import LoraTables
from runtime.engine.run.runner import adapter_dtype
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_READERS = 2
"""Folders read at once: each may take as much memory as an adapter may."""

_Signature = tuple[tuple[int, int, int] | None, ...]
"""What changes when a file is replaced: inode, size and time of each, None where there is none."""


@dataclass(frozen=True)
class _Read:
    """What came of reading a folder."""

    signature: _Signature
    outcome: AdapterFacts | tuple[str, str]  # a refusal's code and rule


class AdapterCatalogue:
    """The ``Adapters`` of a folder. Belongs to one event loop.

    Args:
        folder: of PEFT folders.
        store: where they are kept.
        limits: for each.
        reserved: the base's name, which no adapter may have.
    """

    def __init__(self, folder: Path, store: AdapterStore, limits: AdapterLimits, *, reserved: str) -> None:
        self._folder = folder
        self._store = store
        self._limits = limits
        self._reserved = reserved
        self._read: dict[str, _Read] = {}
        self._reading: dict[str, asyncio.Task[_Read]] = {}
        self._readers = asyncio.Semaphore(_READERS)

    @property
    def max_rank(self) -> int:
        """Of any linear of any adapter."""
        return self._limits.max_rank

    def names(self) -> list[str]:
        """The folders that have an adapter's configuration and a name that can be asked for."""
        try:
            found = [path.name for path in self._folder.iterdir()]
        except OSError:  # the host took the folder away: nobody can be given an adapter, all others go on
            return []
        return sorted(name for name in found if self._signature(name) is not None)

    def known(self, name: str) -> AdapterFacts | None:
        """What was found when the adapter was last asked for."""
        read = self._read.get(name)
        return read.outcome if read is not None and isinstance(read.outcome, AdapterFacts) else None

    async def find(self, name: str) -> AdapterFacts | None:
        """See ``Adapters.find``."""
        signature = self._signature(name)
        if signature is None:
            return None
        read = self._read.get(name)
        if read is None or read.signature != signature:
            read = await self._read_once(name, signature)
        if not isinstance(read.outcome, AdapterFacts):
            raise AdapterRefused(*read.outcome)
        # Two folders may hold the same adapter: it is loaded from the one that was asked for last.
        self._store.register(read.outcome.digest, self._source(name), tenant=EVERYONE)
        return read.outcome

    def close(self) -> None:
        """Overwrite every adapter in memory."""
        self._store.close()

    def _source(self, name: str) -> Callable[[], dict[str, bytearray]]:
        return partial(read_folder, self._folder / name, self._limits)

    def _signature(self, name: str) -> _Signature | None:
        """None if there is no adapter of this name."""
        if not NAME.fullmatch(name) or name == self._reserved:
            return None
        config, tensors = (_of_file(self._folder / name / file) for file in (CONFIG_NAME, TENSORS_NAME))
        return None if config is None else (config, tensors)

    async def _read_once(self, name: str, signature: _Signature) -> _Read:
        """Read a folder, once for all who ask for it meanwhile; who gives up does not end it for others."""
        task = self._reading.get(name)
        if task is None:
            task = self._reading[name] = asyncio.create_task(self._read_folder(name, signature))
            task.add_done_callback(lambda _: self._reading.pop(name, None))
        return await asyncio.shield(task)

    async def _read_folder(self, name: str, signature: _Signature) -> _Read:
        async with self._readers:
            outcome = await asyncio.to_thread(self._outcome, name)
        before = self.known(name)
        self._read[name] = read = _Read(signature, outcome)
        if before is not None and before != outcome:
            others = (self.known(other) for other in self._read)
            if before.digest not in {facts.digest for facts in others if facts is not None}:
                self._store.unregister(before.digest, tenant=EVERYONE)
        return read

    def _outcome(self, name: str) -> AdapterFacts | tuple[str, str]:
        try:
            return self._store.adopt_folder(self._folder / name, tenant=EVERYONE)
        except Malformed as refusal:
            return refusal.code, refusal.reason
        except Refused as refusal:
            return refusal.code, f"expected {refusal.expected}" if refusal.expected else ""


def open_adapters(
    settings: AdapterSettings, opened: OpenModel, engine: EngineSettings
) -> tuple[AdapterCatalogue, tuple[AdapterStore, LoraBatches]]:
    """The adapters of a folder, and what the engine takes to run them.

    Args:
        settings: see there.
        opened: the base model.
        engine: how the base runs; sequences decoded together bound how many adapters are of use at once.

    Raises:
        Refused: ``adapter-folder`` if there is no such folder; ``adapter-memory`` if the memory could not
            hold one adapter of the highest rank.
    """
    if not settings.folder.is_dir():
        raise Refused("adapter-folder", expected="a folder of PEFT folders")
    shape = BaseShape.of(opened.architecture)
    dtype = adapter_dtype(opened.architecture, engine.mode, engine.device, engine.kernels)
    unit_bytes = shape.unit_size * dtype.itemsize
    of_highest_rank = -(-settings.max_rank // UNIT)
    units = min(settings.memory_bytes // 2 // unit_bytes, engine.max_running * of_highest_rank)
    if units < of_highest_rank:
        least = 2 * of_highest_rank * unit_bytes
        raise Refused(
            "adapter-memory",
            expected=f"at least {least} bytes for adapters of rank {settings.max_rank}",
            got=str(settings.memory_bytes),
        )
    limits = AdapterLimits(settings.max_rank, min(AdapterLimits.max_bytes, settings.memory_bytes))
    tables = LoraTables(shape, units, dtype, engine.device)
    store = AdapterStore(
        tables,
        base_model_digest=opened.base_model_digest,
        budget_bytes=settings.memory_bytes - tables.memory_bytes,
        limits=limits,
    )
    return AdapterCatalogue(settings.folder, store, limits, reserved=opened.name), (
        store,
        LoraBatches(tables),
    )


def _of_file(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

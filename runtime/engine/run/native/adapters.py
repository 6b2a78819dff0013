"""The adapters of a step's rows, as the kernels read them."""

from __future__ import annotations

import numpy as np

from runtime.engine.lora.batch import LoraBatch
from runtime.engine.lora.shape import BaseShape, Group
from runtime.engine.lora.tables import LoraTables
from runtime.engine.run.native.library import FORMATS, CAdapterTable, CStep

MOST_TARGETS = 3
"""Linears of a group that the kernels know of."""


class NativeTables:
    """The C view of ``LoraTables``.

    Args:
        tables: kept; they never move.

    Raises:
        ValueError: a group has more linears than the kernels know.
    """

    def __init__(self, tables: LoraTables) -> None:
        self.tables = tables
        groups = tables.shape.groups
        self._chunk_targets = [np.array(group.chunk_targets, dtype=np.int32) for group in groups]
        made = [
            _table(tables, group, targets) for group, targets in zip(groups, self._chunk_targets, strict=True)
        ]
        self.structs = (CAdapterTable * len(made))(*made)


class NativeAdapters:
    """Which units each row uses. A decoding batch keeps its composition for many steps, so it is kept.

    Args:
        shape: of the base that the kernels compute.
    """

    def __init__(self, shape: BaseShape) -> None:
        self._shape = shape
        self._tables: NativeTables | None = None
        self._of: LoraBatch | None = None

    def fill(self, step: CStep, batch: LoraBatch) -> None:
        """Point a step at a batch's adapters; they stay in place until the next call.

        Raises:
            ValueError: they are of another base, or lie outside their tables.
        """
        if self._tables is None or self._tables.tables is not batch.tables:
            if batch.tables.shape != self._shape or batch.tables.device.type != "cpu":
                raise ValueError("the adapters are those of another base")
            self._tables = NativeTables(batch.tables)
        if batch is not self._of:
            self._index(batch)
        step.unit_first = self._first.ctypes.data
        step.unit_counts = self._counts.ctypes.data
        step.units = self._units.ctypes.data
        step.tables = self._tables.structs

    def _index(self, batch: LoraBatch) -> None:
        first: list[int] = []
        units: list[int] = []
        groups = batch.tables.shape.groups
        counts: list[list[int]] = [[] for _ in groups]
        for placed, rows in batch.spans:
            first += [len(units)] * rows
            for group, each in zip(groups, counts, strict=True):
                each.extend([0 if placed is None else len(placed.in_group(group.name))] * rows)
            units += () if placed is None else placed.units
        self._first = np.array(first, dtype=np.int32)
        self._counts = np.array(counts, dtype=np.int32)
        self._units = np.array(units or [0], dtype=np.int32)
        if not 0 <= int(self._units.min()) <= int(self._units.max()) < batch.tables.units:
            raise ValueError("an adapter lies outside its tables")
        self._of = batch


def _table(
    tables: LoraTables, group: Group, targets: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> CAdapterTable:
    if len(group.targets) > MOST_TARGETS:
        raise ValueError(f"{len(group.targets)} linears in {group.name}, at most {MOST_TARGETS}")
    down, up = tables.weights(group.name)
    return CAdapterTable(
        targets=len(group.targets),
        chunks=len(targets),
        chunk=group.chunk,
        format=FORMATS[tables.dtype],
        chunk_targets=targets.ctypes.data,
        down=down.data_ptr(),
        up=up.data_ptr(),
        down_layer=down.stride(0),
        down_unit=down.stride(1),
        up_layer=up.stride(0),
        up_unit=up.stride(1),
    )

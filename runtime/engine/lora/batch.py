"""The adapters of one step's rows, ready to be added after each fused projection.

    batches = LoraBatches(tables)
    batch = batches.of(spans)                    once per step; spans = ((lease.placed or None, rows), ...)
    batch.apply("qkv", layer, x, y)              after y = x W: adds the rows' adapters to y in place

The groups are ``qkv``, ``o``, ``gate_up`` and ``down``; ``y`` is the whole fused output, its parts in that
order. A decoding batch keeps its composition for many steps, so the last plan is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from runtime.engine.lora.kernels import DENSE_WORK, Bags, add_bags, add_dense
from runtime.engine.lora.shape import UNIT, Group
from runtime.engine.lora.tables import LoraTables, Placed

Span = tuple[Placed | None, int]
"""The adapter of the next so many rows, or None for the base model alone."""


@dataclass(frozen=True)
class _Stretch:
    """Rows in sequence that share an adapter: enough of them for the dense products."""

    rows: slice
    units: Tensor


@dataclass(frozen=True)
class _Plan:
    """What one group does in a step, alike for all layers."""

    stretches: tuple[_Stretch, ...]
    bags: Bags | None
    columns: tuple[slice, ...]


class LoraBatch:
    """The adapters of one step's rows.

    Args:
        tables: where they lie.
        spans: whose rows follow each other.
    """

    def __init__(self, tables: LoraTables, spans: Sequence[Span]) -> None:
        self.tables = tables
        self.spans = tuple(spans)

    @cached_property
    def _plans(self) -> dict[str, _Plan]:
        """By group. The CPU's own kernels need none, and read the spans."""
        rows = sum(count for _, count in self.spans)
        groups = self.tables.shape.groups
        return {group.name: _plan(group, self.spans, rows, self.tables.device) for group in groups}

    def apply(self, group: str, layer: int, x: Tensor, y: Tensor) -> None:
        """Add the adapters' share to a fused projection, in place.

        Args:
            group: ``qkv``, ``o``, ``gate_up`` or ``down``.
            layer: which decoder block.
            x: (R, inputs), what the projection was given.
            y: (R, outputs), what it gave; a view with strided rows is fine.
        """
        plan = self._plans[group]
        tables = self.tables.layers[layer][group]
        if plan.bags is not None:
            add_bags(tables, plan.bags, x, y)
        for stretch in plan.stretches:
            add_dense(tables, stretch.units, plan.columns, x[stretch.rows], y[stretch.rows])


class LoraBatches:
    """Makes the batches of a runner's steps. Belongs to the engine's thread.

    Args:
        tables: where the adapters lie.
    """

    def __init__(self, tables: LoraTables) -> None:
        self._tables = tables
        self._spans: tuple[Span, ...] = ()
        self._batch: LoraBatch | None = None

    def of(self, spans: Sequence[Span]) -> LoraBatch | None:
        """The batch of a step's rows; None if none of them has an adapter."""
        wanted = tuple(spans)
        if wanted != self._spans:
            adapted = any(placed is not None for placed, _ in wanted)
            self._batch = LoraBatch(self._tables, wanted) if adapted else None
            self._spans = wanted
        return self._batch


def _plan(group: Group, spans: Sequence[Span], rows: int, device: torch.device) -> _Plan:
    stretches: list[_Stretch] = []
    single: list[tuple[int, tuple[int, ...]]] = []  # row, units
    first = 0
    for placed, count in spans:
        units = placed.in_group(group.name) if placed is not None else ()
        if len(units) * count >= DENSE_WORK:
            stretches.append(_Stretch(slice(first, first + count), torch.tensor(units, device=device)))
        elif units:
            single += [(row, units) for row in range(first, first + count)]
        first += count
    bags = _bags(group, single, rows).to(device) if single else None
    return _Plan(tuple(stretches), bags, group.columns)


def _bags(group: Group, single: Sequence[tuple[int, tuple[int, ...]]], rows: int) -> Bags:
    """The index tensors; see ``Bags``."""
    chunks, width = len(group.chunk_targets), len(group.targets) * UNIT
    inner = torch.arange(UNIT)
    entry_rows = torch.tensor([row for row, units in single for _ in units])
    entry_units = torch.tensor([unit for _, units in single for unit in units])
    counts = torch.tensor([len(units) for _, units in single])
    plain = len(single) == rows and len(entry_rows) == rows

    # Entries regrouped so that a row's units lie side by side within each of its chunks.
    ends = counts.cumsum(0)
    owner = torch.repeat_interleave(torch.arange(len(single)), counts)
    position = torch.arange(len(entry_rows)) - (ends - counts)[owner]
    starts = (ends - counts)[owner] * chunks + position  # of chunk 0, in units
    chunk = torch.arange(chunks)
    places = (starts.unsqueeze(1) + chunk * counts[owner].unsqueeze(1)).flatten()  # (e * chunks,)
    up_units = torch.empty(len(places), dtype=torch.int64)
    up_units[places] = (entry_units.unsqueeze(1) * chunks + chunk).flatten()
    up_index = (up_units.unsqueeze(1) * UNIT + inner).flatten()
    hidden_units = torch.empty(len(places), dtype=torch.int64)
    hidden_units[places] = (
        torch.arange(len(entry_rows)).unsqueeze(1) * width + torch.tensor(group.chunk_targets) * UNIT
    ).flatten()
    hidden_index = (hidden_units.unsqueeze(1) + inner).flatten()
    bag_sizes = counts.repeat_interleave(chunks) * UNIT
    up_offsets = torch.zeros(len(bag_sizes) + 1, dtype=torch.int32)
    torch.cumsum(bag_sizes, 0, out=up_offsets[1:])

    return Bags(
        rows=None if len(single) == rows else torch.tensor([row for row, _ in single]),
        entries=None if plain else entry_rows,
        down_index=(entry_units.unsqueeze(1) * group.inputs + torch.arange(group.inputs)).flatten().int(),
        down_offsets=(torch.arange(len(entry_rows) + 1) * group.inputs).int(),
        hidden_index=None
        if torch.equal(hidden_index, torch.arange(len(entry_rows) * width))
        else hidden_index,
        up_index=up_index.int(),
        up_offsets=up_offsets,
    )

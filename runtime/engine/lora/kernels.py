"""The two products of an adapter, ``h = x A`` and ``y += h B``, for rows of many adapters at once.

*Bags*: both products are weighted sums of table rows (the rows of A weighted by x, those of B by h), and
that is what ``embedding_bag`` computes: it reads each adapter's weights where they lie, through an index,
so nothing is gathered, ranks may differ from row to row, and what a row gets does not depend on its
neighbours. It is as fast as memory for the single rows of a decoding step.

*Dense*: many rows of one adapter (a chunk of a prompt) are ordinary matrix products, which reuse what
they read.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

DENSE_ROWS = 24
"""From this many rows of one adapter in sequence the dense products are the faster (bench_lora.py)."""


@dataclass(frozen=True)
class Tables:
    """The units of one group in one layer.

    Args:
        down: (units, inputs, targets * UNIT): A, transposed.
        up: (units, chunks, UNIT, chunk): B, transposed and scaled.
        down_rows: ``down`` as (units * inputs, targets * UNIT).
        up_rows: ``up`` as (units * chunks * UNIT, chunk).
    """

    down: Tensor
    up: Tensor
    down_rows: Tensor
    up_rows: Tensor


@dataclass(frozen=True)
class Bags:
    """Where the rows of a batch find their adapters in one group's tables; made once per batch.

    Args:
        rows: (n,) of the batch's rows, those with an adapter; None if they are all of them, in order.
        entries: (e,) for each unit of each of these rows, the row; None if every row has one unit.
        down_index: (e * inputs,) rows of ``down_rows``.
        down_offsets: (e,) where each entry's begin.
        hidden_index: which of the (e * targets * UNIT) inner values weigh them; None if all, in order.
        up_index: rows of ``up_rows``, for each row and chunk those of all its units.
        up_offsets: (n * chunks,) where they begin.
    """

    rows: Tensor | None
    entries: Tensor | None
    down_index: Tensor
    down_offsets: Tensor
    hidden_index: Tensor | None
    up_index: Tensor
    up_offsets: Tensor

    def to(self, device: torch.device) -> Bags:
        """The same on another device."""
        moved = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in moved.items() if value is not None})


def add_bags(tables: Tables, bags: Bags, x: Tensor, y: Tensor) -> None:
    """Add the rows' adapters: (R, inputs) rows ``x`` into the (R, outputs) ``y``."""
    source = x if bags.entries is None else x.index_select(0, bags.entries)
    hidden = _weighted_sums(tables.down_rows, bags.down_index, bags.down_offsets, source).view(-1)
    if bags.hidden_index is not None:
        hidden = hidden.index_select(0, bags.hidden_index)
    change = _weighted_sums(tables.up_rows, bags.up_index, bags.up_offsets, hidden).view(-1, y.shape[1])
    if bags.rows is None:
        y.add_(change)
    else:
        y.index_add_(0, bags.rows, change)


def _weighted_sums(table: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """For each bag, the sum of its table rows, each times its weight."""
    sums: Tensor = torch.embedding_bag(table, index, offsets, False, 0, False, weights.reshape(-1))[0]
    return sums


def add_dense(tables: Tables, unit: int, chunk_targets: tuple[int, ...], x: Tensor, y: Tensor) -> None:
    """Add one unit of one adapter: (r, inputs) rows ``x`` into the (r, outputs) slice ``y``."""
    hidden = torch.mm(x, tables.down[unit])
    width = tables.up.shape[2]
    step = tables.up.shape[3]
    for chunk, target in enumerate(chunk_targets):
        inner = hidden[:, target * width : (target + 1) * width]
        y[:, chunk * step : (chunk + 1) * step].addmm_(inner, tables.up[unit, chunk])

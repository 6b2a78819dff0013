"""The two products of an adapter, ``h = x A`` and ``y += h B``, for rows of many adapters at once.

*Bags*: both products are weighted sums of table rows (the rows of A weighted by x, those of B by h), and
that is what ``embedding_bag`` computes: it reads each adapter's weights where they lie, through an index,
so nothing is gathered, ranks may differ from row to row, and what a row gets does not depend on its
neighbours. It is as fast as memory for the single rows of a decoding step.

*Dense*: many rows of one adapter (a chunk of a prompt) are ordinary matrix products, which reuse what
they read.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

DENSE_WORK = 64
"""Rows in sequence of one adapter, times its units, from which the dense products are the faster.

Measured at 8 to 256 rows and 1, 2 and 8 units; at 64 the two are within a tenth of each other.
"""


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
        down_offsets: (e + 1,) where each entry's begin and end.
        hidden_index: which of the (e * targets * UNIT) inner values weigh them; None if all, in order.
        up_index: rows of ``up_rows``, for each row and chunk those of all its units.
        up_offsets: (n * chunks + 1,) where they begin and end.
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
    if y.is_cuda and (fused := _fused_kernels()) is not None:
        fused(tables, bags, x, y)
        return
    source = x if bags.entries is None else x.index_select(0, bags.entries)
    hidden = _weighted_sums(tables.down_rows, bags.down_index, bags.down_offsets, source).view(-1)
    if bags.hidden_index is not None:
        hidden = hidden.index_select(0, bags.hidden_index)
    change = _weighted_sums(tables.up_rows, bags.up_index, bags.up_offsets, hidden).view(-1, y.shape[1])
    if bags.rows is None:
        y.add_(change)
    else:
        y.index_add_(0, bags.rows, change)


@functools.cache
def _fused_kernels() -> Callable[[Tables, Bags, Tensor, Tensor], None] | None:
    """The CUDA kernels, where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    module = importlib.import_module("runtime.engine.lora.triton_kernels")
    kernel: Callable[[Tables, Bags, Tensor, Tensor], None] = module.add_bags
    return kernel


def _weighted_sums(table: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """For each bag, the sum of its table rows, each times its weight."""
    sums: Tensor = torch.embedding_bag(
        table, index, offsets, False, 0, False, weights.reshape(-1), include_last_offset=True
    )[0]
    return sums


def add_dense(tables: Tables, units: Tensor, columns: tuple[slice, ...], x: Tensor, y: Tensor) -> None:
    """Add one adapter to rows in sequence.

    Args:
        tables: of the group and layer.
        units: (u,) the adapter's places.
        columns: each target's part of the output.
        x: (r, inputs).
        y: (r, outputs), changed in place.
    """
    down = tables.down.index_select(0, units)  # u is small: its weights are few beside the rows' activations
    up = tables.up.index_select(0, units)
    hidden = torch.matmul(x, down)  # (u, r, targets * UNIT)
    count, rank, chunk = len(units), up.shape[2], up.shape[3]
    for target, part in enumerate(columns):
        inner = hidden[:, :, target * rank : (target + 1) * rank].transpose(0, 1).reshape(len(x), -1)
        outer = up[:, part.start // chunk : part.stop // chunk].transpose(1, 2).reshape(count * rank, -1)
        y[:, part].addmm_(inner, outer)

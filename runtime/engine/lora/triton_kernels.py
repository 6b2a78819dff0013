"""The same two products as ``kernels.add_bags``, for CUDA, in Triton. Not yet run on hardware.

One program computes one entry's inner values (*shrink*), or one row's chunk of the output (*expand*), and
reads each unit where it lies. Import this only where Triton is installed: ``kernels`` does, and falls back
to ``embedding_bag``, which runs on CUDA too and is what these must agree with.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from runtime.engine.lora.kernels import Bags, Tables
from runtime.engine.lora.shape import UNIT

_BLOCK_INPUTS = 128


@triton.jit  # type: ignore[untyped-decorator]  # triton is untyped
def _shrink(  # noqa: PLR0917 Triton passes by position
    x: Any,
    x_stride: Any,
    down_rows: Any,
    first_rows: Any,
    entry_rows: Any,
    hidden: Any,
    inputs: tl.constexpr,
    width: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One entry: (inputs,) of its row times (inputs, width) of its unit."""
    entry = tl.program_id(0)
    row = tl.load(entry_rows + entry)
    table = tl.load(first_rows + entry).to(tl.int64) * width
    columns = tl.arange(0, padded)
    total = tl.zeros((padded,), dtype=tl.float32)
    for start in range(0, inputs, block):
        index = start + tl.arange(0, block)
        values = tl.load(x + row * x_stride + index, mask=index < inputs, other=0.0).to(tl.float32)
        place = table + index[:, None] * width + columns[None, :]
        inside = (index[:, None] < inputs) & (columns[None, :] < width)
        weights = tl.load(down_rows + place, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(values[:, None] * weights, axis=0)
    tl.store(hidden + entry * width + columns, total, mask=columns < width)


@triton.jit  # type: ignore[untyped-decorator]  # as above
def _expand(  # noqa: PLR0917 as above
    hidden: Any,
    hidden_index: Any,
    up_rows: Any,
    up_index: Any,
    up_offsets: Any,
    rows: Any,
    y: Any,
    y_stride: Any,
    chunks: tl.constexpr,
    chunk: tl.constexpr,
    padded: tl.constexpr,
) -> None:
    """One chunk of one row: the sum of its units' rows, each times its inner value, added to y."""
    bag = tl.program_id(0)
    row = tl.load(rows + bag // chunks)
    columns = tl.arange(0, padded)
    inside = columns < chunk
    total = tl.zeros((padded,), dtype=tl.float32)
    for position in range(tl.load(up_offsets + bag), tl.load(up_offsets + bag + 1)):
        weight = tl.load(hidden + tl.load(hidden_index + position))
        line = tl.load(up_index + position).to(tl.int64) * chunk
        total += weight * tl.load(up_rows + line + columns, mask=inside, other=0.0).to(tl.float32)
    place = y + row * y_stride + (bag % chunks) * chunk + columns
    tl.store(place, (tl.load(place, mask=inside, other=0.0) + total).to(y.dtype.element_ty), mask=inside)


def add_bags(tables: Tables, bags: Bags, x: Tensor, y: Tensor) -> None:
    """See ``kernels.add_bags``. The inner values stay in float32."""
    inputs, width = tables.down.shape[1], tables.down.shape[2]
    chunks, chunk = tables.up.shape[1], tables.up.shape[3]
    every = torch.arange(len(x), device=x.device)
    rows = every if bags.rows is None else bags.rows
    entry_rows = every if bags.entries is None else bags.entries
    first_rows = bags.down_index[bags.down_offsets[:-1].long()]
    hidden = torch.empty((len(entry_rows), width), dtype=torch.float32, device=x.device)
    index = bags.hidden_index
    if index is None:
        index = torch.arange(hidden.numel(), device=x.device)
    _shrink[(len(entry_rows),)](
        x,
        x.stride(0),
        tables.down_rows,
        first_rows,
        entry_rows,
        hidden,
        inputs=inputs,
        width=width,
        padded=triton.next_power_of_2(max(width, UNIT)),
        block=_BLOCK_INPUTS,
    )
    _expand[(len(rows) * chunks,)](
        hidden,
        index,
        tables.up_rows,
        bags.up_index,
        bags.up_offsets,
        rows,
        y,
        y.stride(0),
        chunks=chunks,
        chunk=chunk,
        padded=triton.next_power_of_2(chunk),
    )

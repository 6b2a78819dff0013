"""Keys and values of all sequences, in pages.

A sequence's positions lie in the pages of its block table, in order; which pages those are is the
scheduler's business. Page 0 is nobody's: block tables of a batch are padded with it, so it stays zeros.

A page is cleared when its first position is written. The padding behind a sequence's last position is read
under a weight of zero, and zero times what a stranger left there is not zero if that was NaN; nor should a
tenant's activations outlive the page's use.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

from runtime.model.architecture import Architecture


class PagedCache:
    """(layers, pages, 2K, page_size, D): in each page K heads of keys, then K heads of values.

    A head's positions lie together, so that what is gathered for it is a matrix as it stands.

    Args:
        architecture: of the model.
        pages: how many, the null page included.
        page_size: positions in each.
        dtype: of the activations.
        device: of the model.
    """

    def __init__(
        self, architecture: Architecture, pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.page_size = page_size
        self.pages = pages
        self._heads = 2 * architecture.kv_heads
        width = architecture.head_dim
        shape = (architecture.layers, pages, self._heads, page_size, width)
        self._pool = zeros(shape, dtype, device)
        self._slots = tuple(layer.view(-1, width) for layer in self._pool)
        self._runs = tuple(layer.view(-1, page_size * width) for layer in self._pool)
        self._gathered = torch.empty(0, dtype=dtype, device=device)

    def clear(self, pages: Tensor) -> None:
        """Zero (P,) pages in all layers."""
        self._pool.index_fill_(1, pages, 0)

    def slot_rows(self, slots: Tensor) -> Tensor:
        """Where ``write`` puts the heads of (R,) slots: page times page size, plus the position within it."""
        pages, positions = slots.div(self.page_size, rounding_mode="floor"), slots % self.page_size
        heads = torch.arange(self._heads, device=slots.device)
        rows = (pages.unsqueeze(1) * self._heads + heads) * self.page_size + positions.unsqueeze(1)
        return rows.flatten()

    def write(self, layer: int, rows: Tensor, pairs: Tensor) -> None:
        """Store (R, 2K, D) at ``slot_rows``."""
        self._slots[layer].index_copy_(0, rows, pairs.reshape(len(rows), -1))

    def run_rows(self, pages: Tensor, sequences: int) -> Tensor:
        """Where ``read`` finds the heads of (S * P,) pages: (2 * S * K * P,), P consecutive ones per head."""
        heads = torch.arange(self._heads, device=pages.device).view(2, 1, -1, 1)
        return (pages.view(1, sequences, 1, -1) * self._heads + heads).flatten()

    def read(self, layer: int, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """The keys and values at ``run_rows``, as ``shape``; good until the next call.

        Args:
            layer: which block.
            rows: of S sequences over P pages.
            shape: (2, S * K, P * page_size, D), or the like.
        """
        runs = self._runs[layer]
        size = len(rows) * runs.shape[1]
        if len(self._gathered) < size:  # kept: a fresh block costs a page fault for each of its pages
            with torch.inference_mode(mode=False):
                self._gathered = runs.new_empty(size)
        block = self._gathered[:size].view(len(rows), -1)
        return torch.index_select(runs, 0, rows, out=block).view(*shape)


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Zeros whose memory is taken as each part is first used: torch's own write all of it."""
    if device is not None and device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def page_bytes(architecture: Architecture, page_size: int, dtype: torch.dtype) -> int:
    """What one page takes over all layers."""
    width = 2 * architecture.kv_heads * architecture.head_dim
    return architecture.layers * page_size * width * dtype.itemsize

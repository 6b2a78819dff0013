"""Keys and values of all sequences, in pages.

A sequence's positions lie in the pages of its block table, in order; which pages those are is the
scheduler's business. Page 0 is nobody's: block tables of a batch are padded with it, so it stays zeros.

A page is cleared when its first position is written. The padding behind a sequence's last position is read
under a weight of zero, and zero times what a stranger left there is not zero if that was NaN; nor should a
tenant's activations outlive the page's use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.model.architecture import Architecture


class PagedCache:
    """(layers, pages, page_size, 2K, D): each position's K keys, then its K values.

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
        shape = (architecture.layers, pages, page_size, 2 * architecture.kv_heads, architecture.head_dim)
        self._pool = torch.zeros(shape, dtype=dtype, device=device)  # memory is taken as pages are first used
        self.layers: tuple[Tensor, ...] = tuple(self._pool)
        self._slots = tuple(layer.view(pages * page_size, *shape[3:]) for layer in self.layers)

    def clear(self, pages: Tensor) -> None:
        """Zero (P,) pages in all layers."""
        self._pool.index_fill_(1, pages, 0)

    def write(self, layer: int, slots: Tensor, pairs: Tensor) -> None:
        """Store (R, 2K, D) at (R,) slots: page times page size, plus the position within it."""
        self._slots[layer].index_copy_(0, slots, pairs)

    def read(self, layer: int, pages: Tensor) -> Tensor:
        """A copy of (P,) pages, (P * page_size, 2K, D)."""
        return self.layers[layer].index_select(0, pages).flatten(0, 1)


def page_bytes(architecture: Architecture, page_size: int, dtype: torch.dtype) -> int:
    """What one page takes over all layers."""
    width = 2 * architecture.kv_heads * architecture.head_dim
    return architecture.layers * page_size * width * dtype.itemsize

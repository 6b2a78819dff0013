"""Keys and values of all sequences, in pages, as the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from runtime.engine.run.cache import zeros
from runtime.engine.run.native.library import FORMATS, CCache
from runtime.model.architecture import Architecture


class NativeCache:
    """(layers, pages, 2K, page_size * D): K heads of keys by dimension, then K heads of values by position.

    Which pages are whose is the scheduler's business; page 0 is nobody's. A page is cleared when its first
    position is written: a tenant's activations shall not outlive the page's use.

    Args:
        architecture: of the model.
        pages: how many, the null page included.
        page_size: positions in each.
        dtype: float32 or float16.
    """

    def __init__(self, architecture: Architecture, pages: int, page_size: int, dtype: torch.dtype) -> None:
        self.page_size = page_size
        self.pages = pages
        heads, width = 2 * architecture.kv_heads, architecture.head_dim
        self._pool = zeros((architecture.layers, pages, heads, page_size * width), dtype)
        self.struct = CCache(
            pool=self._pool.data_ptr(),
            layer_stride=self._pool.stride(0),
            page_size=page_size,
            format=FORMATS[dtype],
        )

    def clear(self, pages: Sequence[int]) -> None:
        """Zero pages in all layers."""
        for page in pages:
            self._pool[:, page].zero_()

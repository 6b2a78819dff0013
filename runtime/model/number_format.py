"""Which number format this CPU multiplies fastest.

bfloat16 halves the bytes that a decoding step must read, but a CPU without bfloat16 instructions
emulates the products, many times slower than float32 once there are several rows (a prompt, a batch).
Rather than read instruction-set flags for every make of CPU, a small product is timed in both: where the
instructions exist bfloat16 takes about half the time, where they do not several times as long. The tries
alternate, on one thread, and the best of each counts, so that a busy machine does not change the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

from runtime.model.linear import Linear

DtypeName = Literal["auto", "float32", "bfloat16"]

_SHAPE = (512, 512)
_ROWS = 64
_TRIES = 12
_MARGIN = 1.25
"""bfloat16 costs precision: it must be this many times faster to be worth it."""


def resolve_dtype(name: DtypeName) -> torch.dtype:
    """The format by name; ``"auto"`` measures, in about 50 ms.

    Raises:
        ValueError: for any other name.
    """
    if name == "auto":
        return faster_dtype()
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {name!r}: auto, float32 or bfloat16")
    return torch.float32 if name == "float32" else torch.bfloat16


def faster_dtype() -> torch.dtype:
    """bfloat16 if it is clearly faster than float32, else float32."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for one another, and time the rest of the machine
    try:
        products = {dtype: _product(dtype) for dtype in (torch.float32, torch.bfloat16)}
        best = dict.fromkeys(products, float("inf"))
        for _ in range(_TRIES):
            for dtype, product in products.items():
                best[dtype] = min(best[dtype], _seconds(product))
    finally:
        torch.set_num_threads(threads)
    return torch.bfloat16 if best[torch.bfloat16] * _MARGIN <= best[torch.float32] else torch.float32


def _product(dtype: torch.dtype) -> Callable[[], object]:
    layer = Linear(torch.ones(_SHAPE, dtype=dtype))
    rows = torch.ones((_ROWS, _SHAPE[1]), dtype=dtype)
    return lambda: layer(rows)


def _seconds(product: Callable[[], object]) -> float:
    start = time.perf_counter()
    product()
    return time.perf_counter() - start

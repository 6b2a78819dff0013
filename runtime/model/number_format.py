"""Which number format this CPU multiplies fastest.

bfloat16 halves the bytes that a decoding step must read, but a CPU without bfloat16 instructions
emulates the products, many times slower than float32 once there are several rows (a prompt, a batch).
Rather than read instruction-set flags for every make of CPU, two small products are timed: where the
instructions exist bfloat16 wins both clearly, where they do not it loses the tall one several times
over, so that a busy machine does not change the answer.
"""

from __future__ import annotations

import time
from typing import Literal

import torch

from runtime.model.linear import Linear

DtypeName = Literal["auto", "float32", "bfloat16"]

_SHAPE = (1024, 512)
_TALL = 64
_TRIES = 5


def resolve_dtype(name: DtypeName) -> torch.dtype:
    """The format by name; ``"auto"`` measures, in about 20 ms.

    Raises:
        ValueError: for any other name.
    """
    if name == "auto":
        return faster_dtype()
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {name!r}: auto, float32 or bfloat16")
    return torch.float32 if name == "float32" else torch.bfloat16


def faster_dtype() -> torch.dtype:
    """bfloat16 if it is no slower than float32 for 64 rows, else float32."""
    return torch.bfloat16 if _seconds(torch.bfloat16) <= _seconds(torch.float32) else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """The fastest of a few products, so that one interruption does not count."""
    layer = Linear(torch.ones(_SHAPE, dtype=dtype))
    rows = torch.ones((_TALL, _SHAPE[1]), dtype=dtype)
    best = float("inf")
    for _ in range(_TRIES):
        start = time.perf_counter()
        layer(rows)
        best = min(best, time.perf_counter() - start)
    return best

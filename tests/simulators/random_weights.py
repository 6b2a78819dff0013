"""Random decoders of any shape, without a file."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from runtime.model.architecture import Architecture


def small(**changes: Any) -> Architecture:
    """Two layers of few numbers."""
    values: dict[str, Any] = {
        "layers": 2,
        "hidden_size": 40,
        "intermediate_size": 56,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "vocab_size": 50,
        "context_length": 256,
        "rms_eps": 1e-5,
        "rope_theta": 1e4,
    }
    return Architecture(**{**values, **changes})


class RandomWeights:
    """A weight source that has whatever it is asked for, alike each time.

    Args:
        biases: whether attention's first products have them.
        changes: weights by name that are others.
    """

    def __init__(self, *, biases: bool = False, changes: dict[str, Tensor] | None = None) -> None:
        self._biases = biases
        self._changes = changes or {}

    def has(self, name: str) -> bool:
        """See ``WeightSource``."""
        if name.endswith(".bias"):
            return self._biases and "self_attn" in name and "o_proj" not in name
        return name != "lm_head.weight" or name in self._changes

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See ``WeightSource``."""
        if name in self._changes:
            return self._changes[name]
        random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if "norm" in name:
            return torch.rand(shape, generator=random) + 0.5
        return torch.randn(shape, generator=random) * 0.3

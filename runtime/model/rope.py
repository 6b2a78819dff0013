"""Rotary position embedding, in the half-split form that Hugging Face checkpoints use."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from runtime.model.architecture import Architecture, RopeScaling


def rope_frequencies(architecture: Architecture) -> Tensor:
    """(D/2,) float32: radians per position of each pair of dimensions."""
    exponents = torch.arange(0, architecture.head_dim, 2, dtype=torch.int64).float() / architecture.head_dim
    frequencies = 1.0 / (architecture.rope_theta**exponents)
    scaling = architecture.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    return _llama3(frequencies, scaling)


class Rotation(NamedTuple):
    """What turns the heads of R rows, each (R, 1, D): dimension i pairs with i + D/2.

    The sines carry the sign of their half: turned = heads * cos + (heads, halves swapped) * signed_sin.
    """

    cos: Tensor
    signed_sin: Tensor


def rotation(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Rotation:
    """The rotation of rows at (R,) ``positions``."""
    angles = torch.outer(positions.float(), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(
        torch.cat((cos, cos), dim=-1).unsqueeze(1).to(dtype),
        torch.cat((-sin, sin), dim=-1).unsqueeze(1).to(dtype),
    )


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves are slowed by the factor, short ones kept, those between blended (Llama 3.1)."""
    wavelengths = 2 * math.pi / frequencies
    longest_kept = scaling.original_context / scaling.high_freq_factor
    shortest_slowed = scaling.original_context / scaling.low_freq_factor
    blend = (scaling.original_context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = (1 - blend) * frequencies / scaling.factor + blend * frequencies
    slowed = torch.where(wavelengths > shortest_slowed, frequencies / scaling.factor, frequencies)
    return torch.where((wavelengths >= longest_kept) & (wavelengths <= shortest_slowed), between, slowed)

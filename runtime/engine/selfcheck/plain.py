"""A decoder as its papers have it: no cache, no fusion, no chunks, whole prompts at a time.

It shares no arithmetic with the runner: rotations are complex numbers, attention is a softmax written out,
norms are sums. Who computes the products is the caller's choice: plain weights, or the runner's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.model.architecture import Architecture
from runtime.model.rope import rope_frequencies

Product = Callable[[str, Tensor], Tensor]
"""The fused projection of a name (``3.gate_up``) over (R, in) rows."""


@dataclass(frozen=True, repr=False)
class Norms:
    """The norms' weights of one block.

    Args:
        before_attention: (H,).
        before_mlp: (H,).
        queries: (D,), or None where heads are not normalised.
        keys: likewise.
    """

    before_attention: Tensor
    before_mlp: Tensor
    queries: Tensor | None
    keys: Tensor | None


class PlainDecoder:
    """The blocks, over the tokens of a few prompts, one prompt after the other: R rows.

    Args:
        architecture: of the model.
        prompts: token ids.
    """

    def __init__(self, architecture: Architecture, prompts: Sequence[Sequence[int]]) -> None:
        self._shape = architecture
        self._lengths = tuple(map(len, prompts))
        positions = torch.cat([torch.arange(length) for length in self._lengths])
        angles = torch.outer(positions.double(), _frequencies(architecture))
        self._turns = torch.polar(torch.ones_like(angles), angles).unsqueeze(1)  # (R, 1, D/2)

    def block(self, layer: int, hidden: Tensor, norms: Norms, product: Product) -> Tensor:
        """(R, H) through one block."""
        shape = self._shape
        y = product(f"{layer}.qkv", self.normalised(hidden, norms.before_attention))
        widths = [shape.query_width, shape.kv_width, shape.kv_width]
        queries, keys, values = torch.split(y, widths, dim=1)
        attended = self._attention(
            self._turned(queries, norms.queries),
            self._turned(keys, norms.keys),
            values.reshape(len(hidden), shape.kv_heads, shape.head_dim),
        )
        hidden = hidden + product(f"{layer}.o", attended)
        gate, up = product(f"{layer}.gate_up", self.normalised(hidden, norms.before_mlp)).chunk(2, dim=1)
        return hidden + product(f"{layer}.down", gate * gate.sigmoid() * up)

    def normalised(self, x: Tensor, weight: Tensor) -> Tensor:
        """Root mean square normalisation."""
        return x / (x.square().mean(dim=-1, keepdim=True) + self._shape.rms_eps).sqrt() * weight

    def _turned(self, heads: Tensor, norm: Tensor | None) -> Tensor:
        """(R, heads * D) to (R, heads, D), turned by position: dimension i pairs with i + D/2."""
        heads = heads.reshape(len(heads), -1, self._shape.head_dim)
        if norm is not None:
            heads = self.normalised(heads, norm)
        first, second = heads.double().chunk(2, dim=-1)
        turned = torch.complex(first, second) * self._turns
        return torch.cat((turned.real, turned.imag), dim=-1).float()

    def _attention(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Each token over those of its own prompt up to itself: (R, heads * D)."""
        shape, first, parts = self._shape, 0, []
        for length in self._lengths:
            rows = slice(first, first + length)
            first = rows.stop
            repeat = shape.heads // shape.kv_heads
            k = keys[rows].repeat_interleave(repeat, dim=1)
            v = values[rows].repeat_interleave(repeat, dim=1)
            scores = torch.einsum("qhd,khd->hqk", queries[rows], k) / math.sqrt(shape.head_dim)
            later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
            weights = scores.masked_fill(later, -math.inf).softmax(dim=-1)
            parts.append(torch.einsum("hqk,khd->qhd", weights, v).flatten(1))
        return torch.cat(parts)


def _frequencies(architecture: Architecture) -> Tensor:
    """(D/2,) float64: radians per position; as the runner's where they are stretched for long contexts."""
    if architecture.rope_scaling is not None:
        return rope_frequencies(architecture).double()
    pairs = torch.arange(architecture.head_dim // 2, dtype=torch.float64)
    return torch.exp(-2.0 * pairs / architecture.head_dim * math.log(architecture.rope_theta))

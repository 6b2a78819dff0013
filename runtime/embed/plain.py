"""A BERT encoder as its paper has it (Devlin et al., 2019), in float64: one text at a time, nothing fused.

It shares no arithmetic with ``runtime.embed.encoder``: norms are sums, attention is a softmax written out,
GELU is its definition. What the one computes in float32 must be what the other does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from runtime.embed.folder import EmbeddingFolder

_TABLES: Final = ("word", "position", "token_type")


class PlainEncoder:
    """The encoder.

    Args:
        folder: whose weights these are; each is widened when it is used.
    """

    def __init__(self, folder: EmbeddingFolder) -> None:
        self._tensors = folder.tensors
        self._shape = folder.shape

    @torch.inference_mode()
    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The vectors of texts.

        Args:
            texts: token ids of each.

        Returns:
            (texts, hidden) float64, each row of length 1.
        """
        states = [self._embedded(text) for text in texts]
        for layer in range(self._shape.layers):
            states = [self._layer(f"encoder.layer.{layer}", rows) for rows in states]
        means = torch.stack([rows.sum(dim=0) / len(rows) for rows in states])
        return means / means.square().sum(dim=1, keepdim=True).sqrt()

    def _embedded(self, text: Sequence[int]) -> Tensor:
        words, places, kinds = (self._tensors[f"embeddings.{name}_embeddings.weight"] for name in _TABLES)
        rows = words[list(text)].double() + places[: len(text)].double() + kinds[0].double()
        return self._norm("embeddings.LayerNorm", rows)

    def _layer(self, name: str, rows: Tensor) -> Tensor:
        attended = self._affine(f"{name}.attention.output.dense", self._attention(name, rows))
        rows = self._norm(f"{name}.attention.output.LayerNorm", rows + attended)
        wide = self._affine(f"{name}.intermediate.dense", rows)
        gelu = wide * (1 + torch.erf(wide / math.sqrt(2))) / 2
        return self._norm(f"{name}.output.LayerNorm", rows + self._affine(f"{name}.output.dense", gelu))

    def _attention(self, name: str, rows: Tensor) -> Tensor:
        """(rows, hidden) in and out: every row over every row."""
        queries, keys, values = (
            self._affine(f"{name}.attention.self.{part}", rows).reshape(len(rows), self._shape.heads, -1)
            for part in ("query", "key", "value")
        )
        weights = (torch.einsum("qhd,khd->hqk", queries, keys) / math.sqrt(queries.shape[2])).exp()
        weights = weights / weights.sum(dim=2, keepdim=True)
        return torch.einsum("hqk,khd->qhd", weights, values).flatten(1)

    def _affine(self, name: str, rows: Tensor) -> Tensor:
        return rows @ self._take(f"{name}.weight").T + self._take(f"{name}.bias")

    def _norm(self, name: str, rows: Tensor) -> Tensor:
        centred = rows - rows.sum(dim=1, keepdim=True) / rows.shape[1]
        variance = centred.square().sum(dim=1, keepdim=True) / rows.shape[1]
        scaled = centred / (variance + self._shape.norm_eps).sqrt()
        return scaled * self._take(f"{name}.weight") + self._take(f"{name}.bias")

    def _take(self, name: str) -> Tensor:
        return self._tensors[name].double()

"""A BERT encoder (Devlin et al., 2019), mean pooling, unit length; float32.

The rows of all texts lie one after the other, so that nothing is padded: the linear layers see one tall
input, and each text attends to itself alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from runtime.embed.folder import EmbeddingFolder, take


@dataclass(frozen=True, repr=False)
class _Affine:
    """``weight`` (out, in) and ``bias`` (out)."""

    weight: Tensor
    bias: Tensor

    def of(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.weight, self.bias)


@dataclass(frozen=True, repr=False)
class _Norm:
    """LayerNorm over the last dimension."""

    weight: Tensor
    bias: Tensor
    eps: float

    def of(self, rows: Tensor) -> Tensor:
        return functional.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, repr=False)
class _Layer:
    """One encoder layer; ``qkv`` is three projections in one."""

    qkv: _Affine
    attended: _Affine
    attended_norm: _Norm
    wide: _Affine
    narrow: _Affine
    narrow_norm: _Norm
    heads: int

    def of(self, rows: Tensor, lengths: list[int]) -> Tensor:
        rows = self.attended_norm.of(rows + self.attended.of(self._attention(rows, lengths)))
        return self.narrow_norm.of(rows + self.narrow.of(functional.gelu(self.wide.of(rows))))

    def _attention(self, rows: Tensor, lengths: list[int]) -> Tensor:
        """(rows, hidden) in and out; each text's rows attend to each other."""
        fused = self.qkv.of(rows).view(len(rows), 3, self.heads, -1).permute(1, 2, 0, 3)
        parts = []
        for text in torch.split(fused, lengths, dim=2):
            query, key, value = text.unsqueeze(1).unbind(0)
            parts.append(functional.scaled_dot_product_attention(query, key, value))
        return torch.cat(parts, dim=2).squeeze(0).transpose(0, 1).reshape(len(rows), -1)


class Encoder:
    """The encoder, laid out.

    Args:
        folder: whose weights these are.

    Raises:
        Malformed, Unsupported: as ``take``.
    """

    def __init__(self, folder: EmbeddingFolder) -> None:
        shape, width = folder.shape, folder.shape.hidden_size
        read = _Reader(folder)
        self._words = read.tensor("embeddings.word_embeddings.weight", shape.vocab_size, width)
        types = read.tensor("embeddings.token_type_embeddings.weight", shape.token_types, width)
        positions = read.tensor("embeddings.position_embeddings.weight", shape.positions, width)
        # A text is one segment, so the first type's row is in every token.
        self._places = positions[: folder.max_tokens] + types[0]
        self._norm = read.norm("embeddings.LayerNorm")
        self._layers = [read.layer(f"encoder.layer.{index}") for index in range(shape.layers)]

    @torch.inference_mode()
    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The vectors of texts.

        Args:
            texts: token ids of each, at least one and at most ``max_tokens``.

        Returns:
            (texts, hidden) float32, each row of length 1.
        """
        lengths = [len(text) for text in texts]
        ids = torch.tensor([token for text in texts for token in text])
        places = torch.cat([self._places[:length] for length in lengths])
        rows = self._norm.of(self._words[ids] + places)
        for layer in self._layers:
            rows = layer.of(rows, lengths)
        means = torch.stack([text.mean(dim=0) for text in torch.split(rows, lengths)])
        return functional.normalize(means, dim=1)


class _Reader:
    """Takes a folder's tensors by the names that BERT gives them."""

    def __init__(self, folder: EmbeddingFolder) -> None:
        self._tensors, self._shape = folder.tensors, folder.shape

    def tensor(self, name: str, *shape: int) -> Tensor:
        return take(self._tensors, name, shape)

    def norm(self, name: str) -> _Norm:
        width = self._shape.hidden_size
        weight, bias = self.tensor(f"{name}.weight", width), self.tensor(f"{name}.bias", width)
        return _Norm(weight, bias, self._shape.norm_eps)

    def affine(self, name: str, outputs: int, inputs: int) -> _Affine:
        return _Affine(self.tensor(f"{name}.weight", outputs, inputs), self.tensor(f"{name}.bias", outputs))

    def layer(self, name: str) -> _Layer:
        width, inner = self._shape.hidden_size, self._shape.intermediate_size
        parts = [
            self.affine(f"{name}.attention.self.{part}", width, width) for part in ("query", "key", "value")
        ]
        return _Layer(
            qkv=_Affine(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
            attended=self.affine(f"{name}.attention.output.dense", width, width),
            attended_norm=self.norm(f"{name}.attention.output.LayerNorm"),
            wide=self.affine(f"{name}.intermediate.dense", inner, width),
            narrow=self.affine(f"{name}.output.dense", width, inner),
            narrow_norm=self.norm(f"{name}.output.LayerNorm"),
            heads=self._shape.heads,
        )

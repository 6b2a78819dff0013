"""Takes a decoder's weights one at a time, and has them laid out block by block.

Projections that share an input become one product: queries, keys and values; the gate and what it opens for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from attest.refusal import Malformed
from runtime.model.architecture import Architecture
from runtime.model.weight_source import WeightSource

Norm = TypeVar("Norm")
Linear = TypeVar("Linear")


@dataclass(frozen=True)
class Block(Generic[Norm, Linear]):
    """One decoder block."""

    input_norm: Norm
    qkv: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    output: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class Loader(Generic[Norm, Linear]):
    """Asks a source for what an architecture has.

    Args:
        shape: what the weights must be shaped like.
        source: the weights.
        norm: lays out a norm's weight.
        linear: lays out a product's weight and bias, which it need not keep.
    """

    shape: Architecture
    source: WeightSource
    norm: Callable[[Tensor], Norm]
    linear: Callable[[Tensor, Tensor | None], Linear]

    def last_norm(self) -> Norm:
        """The norm behind the last block."""
        return self._norm("model.norm.weight", self.shape.hidden_size)

    def table(self) -> Tensor:
        """The embedding, (vocabulary, H), as it comes."""
        return self.source.take("model.embed_tokens.weight", (self.shape.vocab_size, self.shape.hidden_size))

    def head(self) -> Linear:
        """The output projection; a tied one is laid out from the embedding."""
        name = "lm_head.weight" if self.source.has("lm_head.weight") else "model.embed_tokens.weight"
        return self.linear(self.source.take(name, (self.shape.vocab_size, self.shape.hidden_size)), None)

    def block(self, layer: int) -> Block[Norm, Linear]:
        """One decoder block.

        Raises:
            Malformed: as the source does; ``model-tensor-missing`` if only some of a product's parts have a
                bias.
        """
        shape, prefix = self.shape, f"model.layers.{layer}"
        hidden, mlp = shape.hidden_size, shape.intermediate_size
        width = shape.head_dim
        per_head = shape.query_key_norm
        attention = {"q_proj": shape.query_width, "k_proj": shape.kv_width, "v_proj": shape.kv_width}
        return Block(
            input_norm=self._norm(f"{prefix}.input_layernorm.weight", hidden),
            qkv=self._fused(f"{prefix}.self_attn", hidden, attention),
            query_norm=self._norm(f"{prefix}.self_attn.q_norm.weight", width) if per_head else None,
            key_norm=self._norm(f"{prefix}.self_attn.k_norm.weight", width) if per_head else None,
            output=self._fused(f"{prefix}.self_attn", shape.query_width, {"o_proj": hidden}),
            mlp_norm=self._norm(f"{prefix}.post_attention_layernorm.weight", hidden),
            gate_up=self._fused(f"{prefix}.mlp", hidden, {"gate_proj": mlp, "up_proj": mlp}),
            down=self._fused(f"{prefix}.mlp", mlp, {"down_proj": hidden}),
        )

    def _norm(self, name: str, width: int) -> Norm:
        return self.norm(self.source.take(name, (width,)))

    def _fused(self, prefix: str, inputs: int, parts: dict[str, int]) -> Linear:
        names = [f"{prefix}.{name}" for name in parts]
        weights = [
            self.source.take(f"{name}.weight", (rows, inputs))
            for name, rows in zip(names, parts.values(), strict=True)
        ]
        with_bias = [name for name in names if self.source.has(f"{name}.bias")]
        if with_bias and with_bias != names:
            raise Malformed("model-tensor-missing", f"a bias of {prefix}")
        biases = [
            self.source.take(f"{name}.bias", (rows,))
            for name, rows in zip(with_bias, parts.values(), strict=False)
        ]
        return self.linear(torch.cat(weights), torch.cat(biases) if biases else None)

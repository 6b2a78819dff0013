"""The Llama, Qwen2 and Qwen3 decoders over one step's rows.

Projections that share an input are one product. Adapters are added after each of the four products of a
block, under the names of ``runtime.engine.lora.shape``.

Shapes: R rows, H hidden size, N query heads, K key heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from attest.refusal import Malformed
from runtime.engine.run.attention import StepAttention
from runtime.engine.run.batch import StepBatch
from runtime.engine.run.cache import PagedCache
from runtime.engine.run.norm import RmsNorm
from runtime.engine.run.weights import Linear, WeightMode, activation_dtype, linear_for, table_dtype
from runtime.model.architecture import Architecture
from runtime.model.rope import Rotation, rope_frequencies, rotation
from runtime.model.weight_source import WeightSource


class Adapters(Protocol):
    """The adapters of a step's rows (``runtime.engine.lora.batch.LoraBatch``)."""

    def apply(self, group: str, layer: int, x: Tensor, y: Tensor) -> None:
        """Add their share to ``y``, the fused projection of ``x``, in place."""
        ...


@dataclass(frozen=True)
class _Block:
    input_norm: RmsNorm
    qkv: Linear
    query_norm: RmsNorm | None
    key_norm: RmsNorm | None
    output: Linear
    mlp_norm: RmsNorm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class Prepared:
    """What is found once per step.

    Args:
        turn: what turns its queries and keys.
        attend: where they are kept, and what they attend to.
    """

    turn: Rotation
    attend: StepAttention


class LlamaRunner:
    """A decoder with its weights, laid out for a device.

    Args:
        architecture: what the weights must be shaped like.
        source: the weights; not kept.
        mode: how they are held.
        device: where.

    Raises:
        Malformed: as ``source.take`` does.
        Unsupported: ``weight-mode``.
    """

    def __init__(
        self,
        architecture: Architecture,
        source: WeightSource,
        mode: WeightMode,
        device: torch.device | str = "cpu",
    ) -> None:
        self.architecture = architecture
        self.mode = mode
        self.device = torch.device(device)
        self.dtype = activation_dtype(mode, self.device)
        self._frequencies = rope_frequencies(architecture).to(self.device)
        load = _Loader(architecture, source, mode, self.device)
        self._embedding = load.table("model.embed_tokens.weight")
        self._blocks = [load.block(layer) for layer in range(architecture.layers)]
        self._norm = load.norm("model.norm.weight", architecture.hidden_size)
        self._head = load.head()
        self.weight_bytes = load.bytes
        self.table_bytes = self._embedding.nbytes

    def forward(self, step: StepBatch, cache: PagedCache, adapters: Adapters | None = None) -> Tensor:
        """Run the rows through all blocks, writing their keys and values to the cache.

        Returns:
            (T, H) normalised hidden states of ``step.logit_rows``.
        """
        if step.fresh_pages is not None:
            cache.clear(step.fresh_pages)
        found = self.prepare(step, cache)
        hidden = self.embedded(step.token_ids)
        for layer in range(len(self._blocks)):
            hidden = self.block(layer, hidden, found, adapters=adapters)
        chosen = hidden if step.logit_rows is None else hidden[step.logit_rows]
        return self._norm(chosen)

    def prepare(self, step: StepBatch, cache: PagedCache) -> Prepared:
        """What all blocks of a step share."""
        shape = self.architecture
        turn = rotation(step.positions, self._frequencies, self.dtype)
        return Prepared(turn, StepAttention(cache, step, shape.heads, shape.kv_heads))

    def block(
        self, layer: int, hidden: Tensor, found: Prepared, *, adapters: Adapters | None = None
    ) -> Tensor:
        """(R, H) through one decoder block; ``hidden`` is changed in place and returned."""
        block = self._blocks[layer]
        x = block.input_norm(hidden)
        y = block.qkv(x)
        if adapters is not None:
            adapters.apply("qkv", layer, x, y)
        x = found.attend(layer, self._turned(block, y, found.turn))
        y = block.output(x)
        if adapters is not None:
            adapters.apply("o", layer, x, y)
        hidden += y
        hidden += self._mlp(block, layer, block.mlp_norm(hidden), adapters)
        return hidden

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every laid-out product with its name: ``3.gate_up``, and ``head``."""
        for layer, block in enumerate(self._blocks):
            yield f"{layer}.qkv", block.qkv
            yield f"{layer}.o", block.output
            yield f"{layer}.gate_up", block.gate_up
            yield f"{layer}.down", block.down
        yield "head", self._head

    def embedded(self, token_ids: Tensor) -> Tensor:
        """(R,) tokens to (R, H)."""
        return self._embedding[token_ids].to(self.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(T, H) hidden states to (T, vocabulary) float32."""
        return self._head(hidden).float()

    def _turned(self, block: _Block, projected: Tensor, turn: Rotation) -> Tensor:
        """The fused projection as (R, N + 2K, D) heads, queries and keys turned in place."""
        shape = self.architecture
        heads = projected.view(len(projected), -1, shape.head_dim)
        queries, keys = heads[:, : shape.heads], heads[:, shape.heads : shape.heads + shape.kv_heads]
        if block.query_norm is not None and block.key_norm is not None:
            queries.copy_(block.query_norm(queries))
            keys.copy_(block.key_norm(keys))
        turned = heads[:, : shape.heads + shape.kv_heads]
        swapped = turned.roll(shape.head_dim // 2, dims=-1)
        turned.mul_(turn.cos).addcmul_(swapped, turn.signed_sin)
        return heads

    def _mlp(self, block: _Block, layer: int, x: Tensor, adapters: Adapters | None) -> Tensor:
        y = block.gate_up(x)
        if adapters is not None:
            adapters.apply("gate_up", layer, x, y)
        gate, up = y.chunk(2, dim=-1)
        x = functional.silu(gate).mul_(up)
        y = block.down(x)
        if adapters is not None:
            adapters.apply("down", layer, x, y)
        return y


class _Loader:
    """Takes weights one at a time and lays them out."""

    def __init__(
        self, architecture: Architecture, source: WeightSource, mode: WeightMode, device: torch.device
    ) -> None:
        self._shape, self._source, self._device = architecture, source, device
        self._linear: Callable[[Tensor, Tensor | None], Linear] = linear_for(mode, device)
        self._dtype = activation_dtype(mode, device)
        self._table_dtype = table_dtype(mode, device)
        self.bytes = 0

    def norm(self, name: str, width: int) -> RmsNorm:
        """A norm."""
        weight = self._source.take(name, (width,)).to(self._device, self._dtype)
        return RmsNorm(weight, self._shape.rms_eps)

    def table(self, name: str) -> Tensor:
        """The embedding."""
        shape = (self._shape.vocab_size, self._shape.hidden_size)
        table = self._source.take(name, shape).to(self._device, self._table_dtype)
        self.bytes += table.nbytes
        return table

    def head(self) -> Linear:
        """The output projection; a tied one is laid out from the embedding."""
        name = "lm_head.weight" if self._source.has("lm_head.weight") else "model.embed_tokens.weight"
        weight = self._source.take(name, (self._shape.vocab_size, self._shape.hidden_size))
        return self._packed(weight, None)

    def block(self, layer: int) -> _Block:
        """One decoder block."""
        shape, prefix = self._shape, f"model.layers.{layer}"
        hidden, mlp = shape.hidden_size, shape.intermediate_size
        width = shape.head_dim
        per_head = shape.query_key_norm
        return _Block(
            input_norm=self.norm(f"{prefix}.input_layernorm.weight", hidden),
            qkv=self._fused(
                f"{prefix}.self_attn",
                hidden,
                {"q_proj": shape.query_width, "k_proj": shape.kv_width, "v_proj": shape.kv_width},
            ),
            query_norm=self.norm(f"{prefix}.self_attn.q_norm.weight", width) if per_head else None,
            key_norm=self.norm(f"{prefix}.self_attn.k_norm.weight", width) if per_head else None,
            output=self._fused(f"{prefix}.self_attn", shape.query_width, {"o_proj": hidden}),
            mlp_norm=self.norm(f"{prefix}.post_attention_layernorm.weight", hidden),
            gate_up=self._fused(f"{prefix}.mlp", hidden, {"gate_proj": mlp, "up_proj": mlp}),
            down=self._fused(f"{prefix}.mlp", mlp, {"down_proj": hidden}),
        )

    def _fused(self, prefix: str, inputs: int, parts: dict[str, int]) -> Linear:
        names = [f"{prefix}.{name}" for name in parts]
        weights = [
            self._source.take(f"{name}.weight", (rows, inputs))
            for name, rows in zip(names, parts.values(), strict=True)
        ]
        with_bias = [name for name in names if self._source.has(f"{name}.bias")]
        if with_bias and with_bias != names:
            raise Malformed("model-tensor-missing", f"a bias of {prefix}")
        biases = [
            self._source.take(f"{name}.bias", (rows,))
            for name, rows in zip(with_bias, parts.values(), strict=False)
        ]
        return self._packed(torch.cat(weights), torch.cat(biases) if biases else None)

    def _packed(self, weight: Tensor, bias: Tensor | None) -> Linear:
        dtype = self._dtype
        packed = self._linear(
            weight.to(self._device, dtype), None if bias is None else bias.to(self._device, dtype)
        )
        self.bytes += packed.bytes
        return packed

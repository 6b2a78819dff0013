"""The Llama, Qwen2 and Qwen3 decoders over one step's rows.

Projections that share an input are one product. Adapters are added after each of the four products of a
block, under the names of ``runtime.engine.lora.shape``.

Shapes: R rows, H hidden size, N query heads, K key heads, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from runtime.engine.run.attention import StepAttention
from runtime.engine.run.batch import Piece, StepBatch
from runtime.engine.run.cache import PagedCache
from runtime.engine.run.layout import Block, Loader
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
        self.cache_dtype = self.adapter_dtype = self.dtype
        self._frequencies = rope_frequencies(architecture).to(self.device)
        self._pack = linear_for(mode, self.device)
        load = Loader(architecture, source, self._norm_of, self._linear_of)
        self._embedding = load.table().to(self.device, table_dtype(mode, self.device))
        self._blocks = [load.block(layer) for layer in range(architecture.layers)]
        self._norm = load.last_norm()
        self._head = load.head()
        self.table_bytes = self._embedding.nbytes
        self.weight_bytes = self.table_bytes + sum(linear.bytes for _, linear in self.linears())

    def cache(self, pages: int, page_size: int) -> PagedCache:
        """Keys and values of all sequences, in so many pages."""
        return PagedCache(self.architecture, pages, page_size, self.cache_dtype, self.device)

    def batch(self, pieces: Sequence[Piece], cache: PagedCache) -> StepBatch:
        """A step of this runner over the pages of ``cache``; see ``StepBatch.of``."""
        return StepBatch.of(pieces, cache.page_size, self.dtype, self.device)

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

    def _norm_of(self, weight: Tensor) -> RmsNorm:
        return RmsNorm(weight.to(self.device, self.dtype), self.architecture.rms_eps)

    def _linear_of(self, weight: Tensor, bias: Tensor | None) -> Linear:
        moved = None if bias is None else bias.to(self.device, self.dtype)
        return self._pack(weight.to(self.device, self.dtype), moved)

    def _turned(self, block: Block[RmsNorm, Linear], projected: Tensor, turn: Rotation) -> Tensor:
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

    def _mlp(self, block: Block[RmsNorm, Linear], layer: int, x: Tensor, adapters: Adapters | None) -> Tensor:
        y = block.gate_up(x)
        if adapters is not None:
            adapters.apply("gate_up", layer, x, y)
        gate, up = y.chunk(2, dim=-1)
        x = functional.silu(gate).mul_(up)
        y = block.down(x)
        if adapters is not None:
            adapters.apply("down", layer, x, y)
        return y

"""The Llama, Qwen2 and Qwen3 decoder, for many sequences in one pass.

Rows of all sequences lie one after the other ("ragged"): the matrix products see one tall input, and
only attention goes sequence by sequence, each against its own cache. A decoding sequence is a segment
of one row, a prompt being read is a segment of many, and a pass may mix them.

Shapes: R rows, H hidden size, N query heads, K key-value heads, D head width, P positions so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from attest.refusal import Malformed
from runtime.model.architecture import Architecture
from runtime.model.linear import Linear
from runtime.model.rope import Rotation, rope_frequencies, rotate, rotation


class WeightSource(Protocol):
    """Where weights come from, by their Hugging Face names."""

    def has(self, name: str) -> bool:
        """Whether the tensor exists."""
        ...

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor.

        Raises:
            Malformed: ``model-tensor-missing``, or ``model-tensor-shape`` if it is not ``shape``.
        """
        ...


class KvCache:
    """Keys and values of one sequence: (layers, capacity, 2K, D), allocated once, filled from the front.

    Args:
        architecture: of the model.
        capacity: in positions.
        dtype: of the model.
    """

    def __init__(self, architecture: Architecture, capacity: int, dtype: torch.dtype) -> None:
        shape = (architecture.layers, capacity, 2 * architecture.kv_heads, architecture.head_dim)
        self.pairs = torch.empty(shape, dtype=dtype)  # pages are touched, thus used, only as it fills
        self.capacity = capacity
        self.length = 0


@dataclass(frozen=True)
class Segment:
    """The next ``rows`` rows of a pass belong to the sequence of ``cache``, and follow what it holds."""

    cache: KvCache
    rows: int


@dataclass(frozen=True)
class _Block:
    input_norm: Tensor
    query_key_value: Linear
    head_norms: tuple[Tensor, Tensor] | None
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


class LlamaModel:
    """The decoder with its weights.

    Args:
        architecture: what the weights must be shaped like.
        source: the weights.
        dtype: what they, the activations and the caches are held in.

    Raises:
        Malformed: as ``source.take`` does.
    """

    def __init__(self, architecture: Architecture, source: WeightSource, dtype: torch.dtype) -> None:
        self.architecture = architecture
        self.dtype = dtype
        self._frequencies = rope_frequencies(architecture)
        embedding_shape = (architecture.vocab_size, architecture.hidden_size)
        self._embedding = source.take("model.embed_tokens.weight", embedding_shape).to(dtype)
        self._blocks = [
            _load_block(architecture, source, layer, dtype) for layer in range(architecture.layers)
        ]
        self._norm = source.take("model.norm.weight", (architecture.hidden_size,)).to(dtype)
        untied = source.has("lm_head.weight")
        head = source.take("lm_head.weight", embedding_shape).to(dtype) if untied else self._embedding
        self._head = Linear(head)

    def forward(self, token_ids: Tensor, segments: Sequence[Segment]) -> Tensor:
        """Run the rows through all blocks, appending to the segments' caches.

        Args:
            token_ids: (R,) int64, the segments' tokens in order.
            segments: whose rows they are; every cache must have room.

        Returns:
            (R, H) normalised hidden states.
        """
        passes = _attention_passes(segments, self.architecture.heads // self.architecture.kv_heads)
        positions = torch.cat([each.positions for each in passes])
        turn = rotation(positions, self._frequencies, self.dtype)
        hidden = self._embedding[token_ids]
        for layer, block in enumerate(self._blocks):
            normal = self._normalise(hidden, block.input_norm)
            hidden = hidden + self._attention(block, layer, normal, turn, passes)
            gate, up = block.gate_up(self._normalise(hidden, block.mlp_norm)).chunk(2, dim=-1)
            hidden = hidden + block.down(functional.silu(gate) * up)
        for segment in segments:
            segment.cache.length += segment.rows
        return self._normalise(hidden, self._norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """(R, H) hidden states to (R, vocabulary) float32."""
        return self._head(hidden).float()

    def new_cache(self, capacity: int) -> KvCache:
        """An empty cache for a sequence of at most ``capacity`` positions."""
        return KvCache(self.architecture, capacity, self.dtype)

    def _normalise(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self.architecture.rms_eps)

    def _attention(
        self, block: _Block, layer: int, hidden: Tensor, turn: Rotation, passes: Sequence[_AttentionPass]
    ) -> Tensor:
        shape = self.architecture
        projected = block.query_key_value(hidden).view(len(hidden), -1, shape.head_dim)
        turned = shape.heads + shape.kv_heads
        if block.head_norms is not None:
            each = zip((slice(shape.heads), slice(shape.heads, turned)), block.head_norms, strict=True)
            for heads, weight in each:
                projected[:, heads] = self._normalise(projected[:, heads], weight)
        rotated = rotate(projected[:, :turned], turn)
        queries = rotated[:, : shape.heads]
        pairs = torch.cat((rotated[:, shape.heads :], projected[:, turned:]), dim=1)
        mixed = torch.empty_like(queries)
        for each in passes:
            mixed[each.rows] = each.attend(layer, queries[each.rows], pairs[each.rows])
        return block.output(mixed.view(len(hidden), shape.query_width))


@dataclass(frozen=True)
class _AttentionPass:
    """What attention needs to know of a segment, worked out once for all layers."""

    cache: KvCache
    rows: slice
    start: int
    end: int
    positions: Tensor
    mask: Tensor | None

    def attend(self, layer: int, queries: Tensor, pairs: Tensor) -> Tensor:
        """Store the rows' (r, 2K, D) keys and values, and let their (r, N, D) queries look at all so far."""
        stored = self.cache.pairs[layer]
        stored[self.start : self.end] = pairs
        count, heads, width = queries.shape
        kv_heads = stored.shape[1] // 2
        # The heads that share a key become rows of one product: no copy of the keys, any grouping.
        grouped = queries.view(count, kv_heads, -1, width).permute(1, 2, 0, 3).reshape(1, kv_heads, -1, width)
        keys = stored[: self.end, :kv_heads].transpose(0, 1).unsqueeze(0)
        values = stored[: self.end, kv_heads:].transpose(0, 1).unsqueeze(0)
        mixed = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=self.mask)
        return (
            mixed.view(kv_heads, heads // kv_heads, count, width).permute(2, 0, 1, 3).reshape(queries.shape)
        )

    @classmethod
    def of(cls, segment: Segment, first_row: int, group: int) -> _AttentionPass:
        """The pass of ``segment`` whose rows start at ``first_row``; ``group`` query heads share a key."""
        start = segment.cache.length
        end = start + segment.rows
        positions = torch.arange(start, end)
        causal = torch.arange(end) <= positions.unsqueeze(1)
        mask = causal.repeat(group, 1) if segment.rows > 1 else None
        return cls(segment.cache, slice(first_row, first_row + segment.rows), start, end, positions, mask)


def _attention_passes(segments: Sequence[Segment], group: int) -> list[_AttentionPass]:
    passes: list[_AttentionPass] = []
    first_row = 0
    for segment in segments:
        passes.append(_AttentionPass.of(segment, first_row, group))
        first_row += segment.rows
    return passes


def _load_block(architecture: Architecture, source: WeightSource, layer: int, dtype: torch.dtype) -> _Block:
    shape, prefix = architecture, f"model.layers.{layer}"
    hidden, mlp = shape.hidden_size, shape.intermediate_size

    def linear(inputs: int, **parts: int) -> Linear:
        """One product for several projections of the same input: one pass over it, not three."""
        weights = [source.take(f"{prefix}.{name}.weight", (rows, inputs)) for name, rows in parts.items()]
        biases = [
            source.take(f"{prefix}.{name}.bias", (rows,))
            for name, rows in parts.items()
            if source.has(f"{prefix}.{name}.bias")
        ]
        if biases and len(biases) != len(weights):
            raise Malformed("model-tensor-missing", f"a bias of {prefix}")
        bias = torch.cat(biases).to(dtype) if biases else None
        return Linear(torch.cat(weights).to(dtype), bias)

    def norm(name: str, width: int = hidden) -> Tensor:
        return source.take(f"{prefix}.{name}.weight", (width,)).to(dtype)

    head_norms = None
    if shape.query_key_norm:
        head_norms = (norm("self_attn.q_norm", shape.head_dim), norm("self_attn.k_norm", shape.head_dim))

    return _Block(
        input_norm=norm("input_layernorm"),
        query_key_value=linear(
            hidden,
            **{
                "self_attn.q_proj": shape.query_width,
                "self_attn.k_proj": shape.kv_width,
                "self_attn.v_proj": shape.kv_width,
            },
        ),
        head_norms=head_norms,
        output=linear(shape.query_width, **{"self_attn.o_proj": hidden}),
        mlp_norm=norm("post_attention_layernorm"),
        gate_up=linear(hidden, **{"mlp.gate_proj": mlp, "mlp.up_proj": mlp}),
        down=linear(mlp, **{"mlp.down_proj": hidden}),
    )

"""Which linears of a base model an adapter may change, and how their weights lie in memory.

Linears that share an input form a group: their products with that input are one product. A group's
outputs lie side by side, as the runner's fused projections write them, and are cut into chunks of one
width so that a single table can hold the rows of all of them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from runtime.model.architecture import Architecture

UNIT = 8
"""Ranks are held in units of this many: an adapter of rank 16 is two units, one of rank 4 is one, padded."""


@dataclass(frozen=True)
class Group:
    """Linears that share an input.

    Args:
        name: how the runner names it: ``qkv``, ``o``, ``gate_up`` or ``down``.
        targets: the linears' Hugging Face names, in the order of their outputs, each with its module's.
        inputs: width of the shared input.
        outputs: width of each linear's output.
    """

    name: str
    targets: tuple[str, ...]
    inputs: int
    outputs: tuple[int, ...]

    @cached_property
    def chunk(self) -> int:
        """Width of a chunk: every output is a whole number of them."""
        return math.gcd(*self.outputs)

    @cached_property
    def chunk_targets(self) -> tuple[int, ...]:
        """For each chunk of the fused output, which of the targets it belongs to."""
        return tuple(index for index, width in enumerate(self.outputs) for _ in range(width // self.chunk))

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Each target's part of the fused output."""
        ends = itertools.accumulate(self.outputs)
        return tuple(slice(end - width, end) for end, width in zip(ends, self.outputs, strict=True))

    @property
    def down_shape(self) -> tuple[int, int]:
        """Of one unit's A, for all targets side by side: (inputs, targets * UNIT)."""
        return (self.inputs, len(self.targets) * UNIT)

    @property
    def up_shape(self) -> tuple[int, int, int]:
        """Of one unit's B, chunk by chunk: (chunks, UNIT, chunk)."""
        return (len(self.chunk_targets), UNIT, self.chunk)

    @property
    def unit_size(self) -> int:
        """Elements that one unit takes in one layer."""
        return math.prod(self.down_shape) + math.prod(self.up_shape)


@dataclass(frozen=True)
class BaseShape:
    """What an adapter of a base model must fit.

    Args:
        layers: number of decoder blocks.
        groups: the groups of each block, in the order that a block computes them.
    """

    layers: int
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, architecture: Architecture) -> BaseShape:
        """The shape of a Llama-family model (Llama, Qwen2, Qwen3)."""
        hidden, mlp = architecture.hidden_size, architecture.intermediate_size
        query, kv = architecture.query_width, architecture.kv_width
        return cls(
            layers=architecture.layers,
            groups=(
                Group(
                    "qkv",
                    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                    hidden,
                    (query, kv, kv),
                ),
                Group("o", ("self_attn.o_proj",), query, (hidden,)),
                Group("gate_up", ("mlp.gate_proj", "mlp.up_proj"), hidden, (mlp, mlp)),
                Group("down", ("mlp.down_proj",), mlp, (hidden,)),
            ),
        )

    @property
    def unit_size(self) -> int:
        """Elements that one unit of every group takes over all layers."""
        return self.layers * sum(group.unit_size for group in self.groups)

"""Lay an adapter's matrices out as the tables are: transposed, by units of rank, scaling folded in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.engine.lora.shape import UNIT, Group
from runtime.engine.lora.tables import GroupWeights


@dataclass(frozen=True)
class LayerPair:
    """One adapted linear.

    Args:
        layer: its decoder block.
        target: which of its group's linears.
        down: A, (rank, inputs).
        up: B, (outputs, rank).
        scaling: what B is multiplied by.
    """

    layer: int
    target: int
    down: Tensor
    up: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.down.shape[0]


def pack(group: Group, layers: int, pairs: Sequence[LayerPair], dtype: torch.dtype) -> GroupWeights:
    """The weights of one group. Linears without a pair, and ranks up to a whole unit, are zeros."""
    units = -(-max(pair.rank for pair in pairs) // UNIT)
    down = torch.zeros((layers, units, *group.down_shape), dtype=dtype)
    up = torch.zeros((layers, units, *group.up_shape), dtype=dtype)
    for target, width in enumerate(group.outputs):
        members = [pair for pair in pairs if pair.target == target]
        if not members:
            continue
        chunks = width // group.chunk
        first = group.chunk_targets.index(target)
        columns = slice(target * UNIT, (target + 1) * UNIT)
        wide = torch.zeros((layers, units * UNIT, group.inputs))
        tall = torch.zeros((layers, width, units * UNIT))
        for pair in members:
            wide[pair.layer, : pair.rank] = pair.down
            tall[pair.layer, :, : pair.rank].copy_(pair.up).mul_(pair.scaling)
        down[..., columns].copy_(wide.view(layers, units, UNIT, group.inputs).transpose(2, 3))
        up[:, :, first : first + chunks].copy_(
            tall.view(layers, chunks, group.chunk, units, UNIT).permute(0, 3, 1, 4, 2)
        )
        wide.zero_()  # the weights' only copies shall be those that are zeroised when the adapter goes
        tall.zero_()
    return GroupWeights(down, up)

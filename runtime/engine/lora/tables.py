"""The adapters ready to run: fixed tables of rank units, filled and zeroised in place.

A unit is 8 ranks of an adapter over all layers. The tables are allocated once; an adapter is placed by
copying its units into free places, from whichever thread loaded it, while steps run over the others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.engine.lora.kernels import Tables
from runtime.engine.lora.shape import UNIT, BaseShape

_MAX_INDEX = 2**31 - 1


@dataclass(frozen=True)
class GroupWeights:
    """An adapter's weights in one group, laid out as the tables are.

    Args:
        down: (layers, units, inputs, targets * UNIT).
        up: (layers, units, chunks, UNIT, chunk), scaled.
    """

    down: Tensor
    up: Tensor

    @property
    def units(self) -> int:
        """How many units of rank the group has."""
        return self.down.shape[1]


@dataclass(frozen=True)
class Placed:
    """Where an adapter lies in the tables.

    Args:
        digest: of the adapter.
        units: its places.
        group_units: by group name, how many of its places the group uses, from the front.
    """

    digest: str
    units: tuple[int, ...]
    group_units: tuple[tuple[str, int], ...]

    def in_group(self, name: str) -> tuple[int, ...]:
        """The places that hold weights of group ``name``; none if the adapter leaves it as it is."""
        return self.units[: dict(self.group_units).get(name, 0)]


class LoraTables:
    """Room for a number of rank units of one base model.

    Args:
        shape: of the base model.
        units: how many units fit; ``memory_bytes`` says what that costs.
        dtype: of weights and of the activations they are applied to.
        device: where the model runs.

    Raises:
        ValueError: there are more units than 32-bit indices reach.
    """

    def __init__(
        self, shape: BaseShape, units: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        rows = max(max(group.inputs, len(group.chunk_targets) * UNIT) for group in shape.groups)
        if units * rows > _MAX_INDEX:
            raise ValueError(f"{units} units: at most {_MAX_INDEX // rows} of this base's")
        self.shape = shape
        self.units = units
        self.dtype = dtype
        self.device = torch.device(device)
        self._free = list(range(units - 1, -1, -1))  # guarded by _lock
        self._lock = threading.Lock()
        self._down: dict[str, Tensor] = {}
        self._up: dict[str, Tensor] = {}
        for group in shape.groups:
            down, up = (shape.layers, units, *group.down_shape), (shape.layers, units, *group.up_shape)
            # Written, not only reserved: the first adapter shall not pay for the pages of memory.
            self._down[group.name] = torch.empty(down, dtype=dtype, device=device).zero_()
            self._up[group.name] = torch.empty(up, dtype=dtype, device=device).zero_()
        self.layers = tuple(
            {group.name: self._layer(group.name, layer) for group in shape.groups}
            for layer in range(shape.layers)
        )

    def _layer(self, name: str, layer: int) -> Tables:
        down, up = self._down[name][layer], self._up[name][layer]
        return Tables(down, up, down.view(-1, down.shape[-1]), up.view(-1, up.shape[-1]))

    def weights(self, group: str) -> tuple[Tensor, Tensor]:
        """A group's whole tables: (layers, units, *down_shape) and (layers, units, *up_shape)."""
        return self._down[group], self._up[group]

    @property
    def memory_bytes(self) -> int:
        """What the tables take, full or empty."""
        return self.units * self.shape.unit_size * self.dtype.itemsize

    @property
    def free(self) -> int:
        """Units that nothing occupies."""
        with self._lock:
            return len(self._free)

    def place(self, digest: str, weights: dict[str, GroupWeights]) -> Placed | None:
        """Copy an adapter in; None if there is no room now. Any thread may call it."""
        wanted = max(group.units for group in weights.values())
        with self._lock:
            if wanted > len(self._free):
                return None
            units = tuple(self._free.pop() for _ in range(wanted))
        for name, group in weights.items():
            for index, unit in enumerate(units[: group.units]):
                self._down[name][:, unit].copy_(group.down[:, index])
                self._up[name][:, unit].copy_(group.up[:, index])
        return Placed(digest, units, tuple((name, group.units) for name, group in weights.items()))

    def remove(self, placed: Placed) -> None:
        """Zeroise an adapter's places and free them. No step may still use them."""
        self._zeroise(placed.units)
        with self._lock:
            self._free.extend(placed.units)

    def _zeroise(self, units: Sequence[int]) -> None:
        for name in self._down:
            for unit in units:
                self._down[name][:, unit].zero_()
                self._up[name][:, unit].zero_()

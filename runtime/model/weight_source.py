"""What gives a model's weights, whatever file format they come from."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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

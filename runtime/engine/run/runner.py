"""Which runner computes: Sealgate's own kernels where they are built and know the model, torch elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor

from runtime.engine.lora.batch import LoraBatch
from runtime.engine.run.batch import Piece
from runtime.engine.run.model import LlamaRunner
from runtime.engine.run.native.decoder import NativeRunner, knows
from runtime.engine.run.native.library import available
from runtime.engine.run.weights import Linear, WeightMode, activation_dtype
from runtime.model.architecture import Architecture
from runtime.model.weight_source import WeightSource

_LOG = logging.getLogger(__name__)

Kernels = Literal["auto", "native", "torch"]
KERNELS: Final = ("auto", "native", "torch")


class Cache(Protocol):
    """Keys and values of all sequences, in pages."""

    page_size: int
    pages: int


class Runner(Protocol):
    """A decoder with its weights. Its caches, batches and what it prepares are its own kinds."""

    architecture: Architecture
    mode: WeightMode
    device: torch.device
    dtype: torch.dtype
    """Of activations."""
    cache_dtype: torch.dtype
    adapter_dtype: torch.dtype
    weight_bytes: int
    table_bytes: int
    """The embedding's part of them."""

    def cache(self, pages: int, page_size: int) -> Any:
        """Keys and values of all sequences, in so many pages."""
        ...

    def batch(self, pieces: Sequence[Piece], cache: Any) -> Any:
        """A step over the pages of ``cache``; the decoding pieces first."""
        ...

    def forward(self, step: Any, cache: Any, adapters: LoraBatch | None = None) -> Tensor:
        """(T, H) normalised hidden states of the rows that logits are wanted of; fills the cache."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(T, H) to (T, vocabulary) float32."""
        ...

    def prepare(self, step: Any, cache: Any) -> Any:
        """What all blocks of a step share."""
        ...

    def block(self, layer: int, hidden: Tensor, found: Any) -> Tensor:
        """(R, H) through one block; ``hidden`` is changed in place and returned."""
        ...

    def embedded(self, token_ids: Tensor) -> Tensor:
        """(R,) to (R, H)."""
        ...

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every product with its name."""
        ...


def load_runner(
    architecture: Architecture,
    source: WeightSource,
    mode: WeightMode,
    device: torch.device | str = "cpu",
    *,
    threads: int | None = None,
    kernels: Kernels = "auto",
) -> Runner:
    """A decoder with its weights.

    Args:
        architecture: what the weights must be shaped like.
        source: the weights; not kept.
        mode: how they are held.
        device: where.
        threads: of the CPU; by default as many as torch uses.
        kernels: whose; ``auto`` takes Sealgate's own wherever they run.

    Raises:
        Malformed: as ``source.take`` does.
        Unsupported: ``weight-mode``; ``native-kernels`` if they are asked for and cannot be had.
    """
    native = _native(architecture, device, kernels)
    _LOG.info("%s weights, computed by %s", mode, "Sealgate's kernels" if native else "torch")
    if native:
        return NativeRunner(architecture, source, mode, threads)
    return LlamaRunner(architecture, source, mode, device)


def adapter_dtype(
    architecture: Architecture, mode: WeightMode, device: torch.device | str, kernels: Kernels = "auto"
) -> torch.dtype:
    """What adapters are held in, for the runner that ``load_runner`` gives."""
    if _native(architecture, device, kernels):
        return torch.float32 if mode == "float32" else torch.bfloat16
    return activation_dtype(mode, torch.device(device))


def _native(architecture: Architecture, device: torch.device | str, kernels: Kernels) -> bool:
    if kernels == "auto":
        return torch.device(device).type == "cpu" and available() and knows(architecture)
    return kernels == "native"

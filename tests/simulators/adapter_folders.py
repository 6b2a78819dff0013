"""PEFT folders on disk, sound and not, and a small model to serve them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from runtime.api.served import ServedModel
from runtime.engine.adapters import AdapterSettings
from runtime.engine.lora.adapter import (
    BASE_DIGEST_MEMBER,
    PICKLE_NAME,
    TENSORS_NAME,
    AdapterLimits,
    read_adapter,
    read_folder,
)
from runtime.engine.lora.shape import BaseShape
from runtime.loading import load_served_model
from runtime.model.loaded import OpenModel, open_model
from runtime.settings import ModelSettings
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config
from tests.simulators.tiny_models import save_folder, tiny_config

BASE = "tiny"


def tiny_base(where: Path) -> OpenModel:
    """A random Llama of two layers in ``where / BASE``."""
    save_folder(where / BASE, tiny_config("llama"))
    return open_model(where / BASE)


def served_with(where: Path, adapters: Path, **values: Any) -> ServedModel:
    """The model of ``tiny_base`` behind the engine, with the adapters of a folder."""
    settings = AdapterSettings(**{"folder": adapters, "memory_bytes": 1 << 22, **values})
    model = ModelSettings(str(where / BASE), weights="float32", threads=1, adapters=settings)
    return load_served_model(model)


def save_adapter(
    folder: Path, shape: BaseShape, seed: int, *, rank: int = 8, scale: float = 0.5, **metadata: str
) -> Path:
    """A sound adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    files = adapter_files(
        lora_tensors(shape, rank, seed=seed, scale=scale), peft_config(rank), metadata=metadata
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def digest_of(folder: Path, opened: OpenModel) -> str:
    """What the adapter in a folder is, read by itself."""
    return read_adapter(
        read_folder(folder, AdapterLimits()),
        BaseShape.of(opened.architecture),
        base_model_digest=opened.base_model_digest,
        limits=AdapterLimits(),
        dtype=torch.float32,
    ).digest


def _with(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path, BaseShape], None]:
    def make(folder: Path, shape: BaseShape) -> None:
        tensors = lora_tensors(shape, 8, seed=1)
        change(tensors)
        save_adapter(folder, shape, 1)
        (folder / TENSORS_NAME).write_bytes(adapter_files(tensors, peft_config(8))[TENSORS_NAME])

    return make


def _first(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values()))[0, 0] = value

    return change


def _narrow(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = tensors[name][:, :-1].contiguous()


def _wrong_base(folder: Path, shape: BaseShape) -> None:
    save_adapter(folder, shape, 1, **{BASE_DIGEST_MEMBER: "sha256:" + "0" * 64})


def _pickle(folder: Path, shape: BaseShape) -> None:
    save_adapter(folder, shape, 1)
    (folder / PICKLE_NAME).write_bytes(b"\x80\x04.")


def _junk(folder: Path, shape: BaseShape) -> None:
    (save_adapter(folder, shape, 1) / TENSORS_NAME).write_bytes(b"junk")


def _no_weights(folder: Path, shape: BaseShape) -> None:
    (save_adapter(folder, shape, 1) / TENSORS_NAME).unlink()


BAD: dict[str, tuple[str, Callable[[Path, BaseShape], None]]] = {
    "wrong-base": ("adapter-wrong-base", _wrong_base),
    "wrong-shape": ("adapter-shape", _with(_narrow)),
    "high-rank": ("adapter-rank-limit", lambda folder, shape: void(save_adapter(folder, shape, 1, rank=24))),
    "nan": ("adapter-not-finite", _with(_first(float("nan")))),
    "infinite": ("adapter-not-finite", _with(_first(float("inf")))),
    "pickled": ("adapter-pickle", _pickle),
    "junk": ("adapter-tensors-header", _junk),
    "no-weights": ("adapter-not-found", _no_weights),
}
"""Adapters that must be refused by a model whose highest rank is 16, and the code of the check."""


def void(_: object) -> None:
    """For a function that is wanted for what it does."""

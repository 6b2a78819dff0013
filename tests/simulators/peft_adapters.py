"""Adapters as PEFT writes them, sound or not, without a model to train."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from runtime.engine.lora.adapter import CONFIG_NAME, TENSORS_NAME
from runtime.engine.lora.shape import BaseShape

PREFIX = "base_model.model.model.layers"


def peft_config(rank: int, **changes: Any) -> dict[str, Any]:
    """The members that PEFT 0.21 writes for plain LoRA."""
    return {
        "alora_invocation_tokens": None,
        "alpha_pattern": {},
        "base_model_name_or_path": "some/base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "loftq_config": {},
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.05,
        "megatron_core": "megatron.core",
        "modules_to_save": None,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "r": rank,
        "rank_pattern": {},
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
        **changes,
    }


def lora_tensors(
    shape: BaseShape,
    rank: int,
    *,
    seed: int = 0,
    targets: Iterable[str] | None = None,
    dtype: torch.dtype = torch.float32,
    scale: float = 0.1,
    ranks: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Random pairs for every layer.

    Args:
        shape: of the base.
        rank: of all linears that ``ranks`` does not name.
        seed: of the weights.
        targets: which linears, e.g. ``"q_proj"``; None for all.
        dtype: of the tensors.
        scale: standard deviation of B; A is scaled by its width, as PEFT begins.
        ranks: by linear.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for layer in range(shape.layers):
        for group in shape.groups:
            for target, width in zip(group.targets, group.outputs, strict=True):
                name = target.rpartition(".")[2]
                if targets is not None and name not in targets:
                    continue
                of_rank = (ranks or {}).get(name, rank)
                down = torch.randn(of_rank, group.inputs, generator=generator) / group.inputs**0.5
                up = torch.randn(width, of_rank, generator=generator) * scale
                tensors[f"{PREFIX}.{layer}.{target}.lora_A.weight"] = down.to(dtype)
                tensors[f"{PREFIX}.{layer}.{target}.lora_B.weight"] = up.to(dtype)
    return tensors


def adapter_files(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """The two files of a PEFT folder."""
    header = {"format": "pt", **(metadata or {})}
    return {
        CONFIG_NAME: json.dumps(config).encode(),
        TENSORS_NAME: save(dict(tensors), metadata=header),
    }


def raw_tensors(header: Any, body: bytes) -> bytes:
    """A safetensors file with whatever header, as JSON or as text."""
    text = header if isinstance(header, str) else json.dumps(header)
    return len(text.encode()).to_bytes(8, "little") + text.encode() + body

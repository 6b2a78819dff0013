"""A Hugging Face-format folder (``config.json``, ``*.safetensors``) as a Llama-family model.

Only safetensors weights are read: pickled ones run code on load. Every file is read once, and what was
read is what is hashed and parsed, so that a disk which answers twice differently gains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from attest import strict_json
from attest.refusal import Malformed, Refused, Unsupported
from runtime.model.architecture import Architecture, RopeScaling
from runtime.model.manifest import BASE_MODEL, TOKENIZER, manifest_digest

MAX_JSON = 32 << 20
FAMILIES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MODEL_FILES = ("config.json", "generation_config.json")

_REQUIRED = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
}


@dataclass(frozen=True, repr=False)
class ModelFolder:
    """A folder's files, read once.

    Args:
        config: ``config.json``.
        files: the small files by name, as bytes.
        tensors: all weights by name, in the dtype they are stored in.
        base_model_digest: over names and SHA-256 of configuration and weight files.
        tokenizer_digest: over names and SHA-256 of the tokenizer's files.
    """

    config: Mapping[str, Any]
    files: Mapping[str, bytes]
    tensors: Mapping[str, Tensor]
    base_model_digest: str
    tokenizer_digest: str

    def __repr__(self) -> str:
        return f"ModelFolder({len(self.tensors)} tensors, {self.base_model_digest})"


def read_folder(folder: Path, progress: Callable[[str, float], None]) -> ModelFolder:
    """Read and hash a model folder.

    Raises:
        Refused: ``model-not-found`` without a ``config.json`` or without weights.
        Malformed: ``model-config-*``, ``model-weights``, ``model-duplicate-tensor``.
    """
    names = [name for name in (*MODEL_FILES, *TOKENIZER_FILES) if (folder / name).is_file()]
    shards = sorted(folder.glob("*.safetensors"))
    if "config.json" not in names or "tokenizer.json" not in names or not shards:
        raise Refused("model-not-found", expected="config.json, tokenizer.json and *.safetensors")
    files = {name: read_small(folder / name) for name in names}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    tensors: dict[str, Tensor] = {}
    for index, shard in enumerate(shards):
        progress("weights", index / len(shards))
        data = shard.read_bytes()
        digests[shard.name] = hashlib.sha256(data).hexdigest()
        add_shard(tensors, data, shard.name)
    tokenizer = {name: digests.pop(name) for name in TOKENIZER_FILES if name in digests}
    return ModelFolder(
        config=parse_json_object(files["config.json"]),
        files=files,
        tensors=tensors,
        base_model_digest=manifest_digest(BASE_MODEL, digests),
        tokenizer_digest=manifest_digest(TOKENIZER, tokenizer),
    )


def read_small(path: Path) -> bytes:
    """A configuration file.

    Raises:
        Malformed: ``model-config-too-large``.
    """
    with path.open("rb") as stream:
        data = stream.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise Malformed("model-config-too-large", path.name)
    return data


def add_shard(tensors: dict[str, Tensor], data: bytes, name: str) -> None:
    """Add the tensors of one safetensors file.

    Raises:
        Malformed: ``model-weights``, ``model-duplicate-tensor``.
    """
    try:
        shard = load_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise Malformed("model-weights", name) from error
    if tensors.keys() & shard.keys():
        raise Malformed("model-duplicate-tensor", name)
    tensors.update(shard)


def parse_json_object(data: bytes) -> dict[str, Any]:
    """A configuration file's object.

    Raises:
        Malformed: ``model-config-not-json``, ``model-config-members`` and the like.
    """
    value = strict_json.loads(data, name="model-config", max_bytes=MAX_JSON, allow_float=True)
    if not isinstance(value, dict):
        raise Malformed("model-config-members", "not an object")
    return value


def folder_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that ``config.json`` states.

    Raises:
        Unsupported: ``model-architecture``, ``model-quantized``, ``model-activation``,
            ``model-sliding-window``, ``model-rope-scaling``.
        Malformed: ``model-config-type`` for a missing or mistyped member, ``model-dimensions``.
    """
    named = config.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or named[0] not in FAMILIES:
        raise Unsupported("model-architecture", expected=" or ".join(FAMILIES))
    if config.get("quantization_config") is not None:
        raise Unsupported("model-quantized", expected="bf16, f16 or f32 weights")
    if config.get("hidden_act", "silu") != "silu":
        raise Unsupported("model-activation", expected="silu")
    if config.get("use_sliding_window", False):
        raise Unsupported("model-sliding-window", expected="full attention")
    sizes = {field: integer(config, key) for field, key in _REQUIRED.items()}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0)) if isinstance(rope, dict) else None
    return Architecture(
        **sizes,
        kv_heads=integer(config, "num_key_value_heads", sizes["heads"]),
        head_dim=integer(config, "head_dim", sizes["hidden_size"] // max(sizes["heads"], 1)),
        rms_eps=number(config.get("rms_norm_eps", 1e-6), "rms_norm_eps"),
        rope_theta=number(theta, "rope_theta"),
        rope_scaling=_rope_scaling(rope),
        query_key_norm=FAMILIES[named[0]] == "qwen3",
    )


def _rope_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        raise Unsupported("model-rope-scaling", expected="default, linear or llama3")
    factor = number(rope.get("factor"), "rope factor")
    if kind == "linear":
        return RopeScaling(kind, factor)
    return RopeScaling(
        kind,
        factor,
        number(rope.get("low_freq_factor"), "low_freq_factor"),
        number(rope.get("high_freq_factor"), "high_freq_factor"),
        integer(rope, "original_max_position_embeddings"),
    )


def integer(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A member of a configuration.

    Raises:
        Malformed: ``model-config-type``.
    """
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed("model-config-type", f"{key} is not an integer")
    return value


def number(value: Any, key: str) -> float:
    """The value of the member ``key`` as a float.

    Raises:
        Malformed: ``model-config-type``.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Malformed("model-config-type", f"{key} is not a number")
    try:
        return float(value)
    except OverflowError as error:  # an integer of hundreds of digits is JSON too
        raise Malformed("model-config-type", f"{key} is beyond any float") from error


class FolderWeights:
    """The folder's tensors, as a ``WeightSource``."""

    def __init__(self, folder: ModelFolder) -> None:
        self._tensors = folder.tensors
        self._tied = bool(folder.config.get("tie_word_embeddings", False))

    def has(self, name: str) -> bool:
        """Whether the tensor exists, and is meant to be used."""
        return name in self._tensors and not (self._tied and name == "lm_head.weight")

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor as it is stored; see ``WeightSource``."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise Malformed("model-tensor-missing", name)
        if tuple(tensor.shape) != shape:
            raise Malformed("model-tensor-shape", f"{name} is {tuple(tensor.shape)}, wanted {shape}")
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise Unsupported("model-quantized", got=str(tensor.dtype))
        return tensor

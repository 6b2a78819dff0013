"""A GGUF file as a Llama-family model: its architecture, and its weights under Hugging Face names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from attest.refusal import Malformed, Unsupported
from runtime.model.architecture import Architecture, RopeScaling
from runtime.model.gguf_file import GgufFile

FAMILIES = ("llama", "qwen2", "qwen3")

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_architecture(file: GgufFile) -> Architecture:
    """The architecture that the metadata states.

    Raises:
        Unsupported: ``model-architecture`` outside the Llama family, ``model-rope-scaling``.
        Malformed: ``gguf-key-missing``, ``gguf-key-type``, ``model-dimensions``, ``gguf-tensor-missing``.
    """
    family = file.string("general.architecture")
    if family not in FAMILIES:
        raise Unsupported("model-architecture", expected=" or ".join(FAMILIES), got=family[:64])
    heads = file.integer(f"{family}.attention.head_count")
    hidden = file.integer(f"{family}.embedding_length")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise Malformed("gguf-tensor-missing", "token_embd.weight")
    return Architecture(
        layers=file.integer(f"{family}.block_count"),
        hidden_size=hidden,
        intermediate_size=file.integer(f"{family}.feed_forward_length"),
        heads=heads,
        kv_heads=file.integer(f"{family}.attention.head_count_kv", heads),
        head_dim=file.integer(f"{family}.attention.key_length", hidden // max(heads, 1)),
        vocab_size=embedding.shape[0],
        context_length=file.integer(f"{family}.context_length"),
        rms_eps=file.number(f"{family}.attention.layer_norm_rms_epsilon"),
        rope_theta=file.number(f"{family}.rope.freq_base", 10_000.0),
        rope_scaling=_rope_scaling(file, family),
        query_key_norm=family == "qwen3",
    )


def _rope_scaling(file: GgufFile, family: str) -> RopeScaling | None:
    kind = file.string(f"{family}.rope.scaling.type", "none")
    if "rope_freqs.weight" in file.tensors or kind not in ("none", "linear"):
        raise Unsupported("model-rope-scaling", expected="none or linear", got=kind[:64])
    return None if kind == "none" else RopeScaling("linear", file.number(f"{family}.rope.scaling.factor"))


class GgufWeights:
    """The file's tensors, dequantised one at a time as they are taken.

    Args:
        file: the parsed file.
        architecture: its architecture.
    """

    def __init__(self, file: GgufFile, architecture: Architecture) -> None:
        self._file = file
        # The converter interleaves the two halves of every Llama head, for ggml's rotary kernel.
        self._interleaved = file.string("general.architecture") == "llama"
        self._heads = {"attn_q": architecture.heads, "attn_k": architecture.kv_heads}

    def has(self, name: str) -> bool:
        """Whether the tensor exists."""
        return _gguf_name(name) in self._file.tensors

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor as float32; see ``WeightSource``."""
        gguf_name = _gguf_name(name)
        info = self._file.tensors.get(gguf_name)
        if info is None:
            raise Malformed("model-tensor-missing", gguf_name)
        if info.shape != shape:
            raise Malformed("model-tensor-shape", f"{gguf_name} is {info.shape}, wanted {shape}")
        values = torch.from_numpy(self._file.tensor(gguf_name))
        heads = self._heads.get(gguf_name.split(".")[-2])
        return _halves_apart(values, heads) if heads and self._interleaved else values


def _halves_apart(weight: Tensor, heads: int) -> Tensor:
    """Undo the interleaving: (heads, D/2, 2, ...) back to (heads, 2, D/2, ...)."""
    return weight.view(heads, weight.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


def _gguf_name(name: str) -> str:
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if layer:
        return f"blk.{layer[1]}.{_NAMES[layer[2]]}.{layer[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{_NAMES[stem]}.{kind}"

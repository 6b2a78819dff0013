"""Small models with random weights, written by other people's writers: gguf's and transformers'."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "sphinx of black quartz, judge my vow: 1234567890",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer of about 300 tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def save_folder(folder: Path, config: transformers.PretrainedConfig, **options: Any) -> Any:
    """A random model of ``config`` in Hugging Face's format; returns the transformers model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # the usual 0.02 would make every next token alike
                parameter.normal_(0.0, 0.2) if parameter.dim() > 1 else parameter.uniform_(0.5, 1.5)
        model.generation_config.eos_token_id = 2
        model.save_pretrained(folder, **options)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tiny_tokenizer(), bos_token="<|im_start|>", eos_token="<|im_end|>"
        )
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
    return model


def tiny_config(family: str, **changes: Any) -> transformers.PretrainedConfig:
    """A configuration small enough for any test."""
    values: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    kinds = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
    }
    return kinds[family](**{**values, **changes})


def write_gguf(
    path: Path,
    *,
    family: str = "llama",
    skip: tuple[str, ...] = (),
    changes: Mapping[str, Any] | None = None,
) -> None:
    """A one-block model of random float32 weights, by gguf's own writer.

    Args:
        path: the file to write.
        family: ``"llama"``, ``"qwen2"``, which has biases, or ``"qwen3"``, which has norms of heads.
        skip: names of tensors and keys to leave out.
        changes: keys whose value is another than the sound one.
    """
    backend = tiny_tokenizer()
    tokens = [backend.id_to_token(index) for index in range(backend.get_vocab_size())]
    merges = [" ".join(pair) for pair in _merges(backend)]
    keys: dict[str, Any] = {
        f"{family}.context_length": 128,
        f"{family}.embedding_length": 32,
        f"{family}.block_count": 1,
        f"{family}.feed_forward_length": 64,
        f"{family}.attention.head_count": 2,
        f"{family}.attention.head_count_kv": 1,
        f"{family}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{family}.rope.freq_base": 10_000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
        **({"qwen3.attention.key_length": 128} if family == "qwen3" else {}),
        **(changes or {}),
    }
    writer = gguf.GGUFWriter(path, keys.pop("general.architecture", family))
    for key, value in keys.items():
        if key not in skip:
            _add(writer, key, value)
    shapes = {
        "token_embd.weight": (len(tokens), 32),
        "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.ffn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_k.weight": (16, 32),
        "blk.0.attn_v.weight": (16, 32),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_gate.weight": (64, 32),
        "blk.0.ffn_up.weight": (64, 32),
        "blk.0.ffn_down.weight": (32, 64),
    }
    if family == "qwen2":
        shapes |= {f"blk.0.attn_{part}.bias": (width,) for part, width in (("q", 32), ("k", 16), ("v", 16))}
    if family == "qwen3":
        # transformers reads no head width from the file: it takes Qwen3's own.
        shapes |= {"blk.0.attn_q.weight": (256, 32), "blk.0.attn_output.weight": (32, 256)}
        shapes |= {f"blk.0.attn_{part}.weight": (128, 32) for part in "kv"}
        shapes |= {f"blk.0.attn_{part}_norm.weight": (128,) for part in "qk"}
    random = np.random.default_rng(3)
    for name, shape in shapes.items():
        if name not in skip:
            writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _merges(backend: tokenizers.Tokenizer) -> list[list[str]]:

    return list(json.loads(backend.to_str())["model"]["merges"])


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def raw_gguf(
    *, version: int = 3, tensors: int = 0, keys: int = 0, body: bytes = b"", magic: bytes = b"GGUF"
) -> bytes:
    """A header with whatever it claims, and whatever follows."""
    return magic + struct.pack("<IQQ", version, tensors, keys) + body


def raw_string(text: bytes) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(text)) + text

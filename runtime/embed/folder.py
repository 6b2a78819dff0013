"""A sentence-transformers folder around a BERT encoder, read once and strictly.

What is run is what the folder says: encoder, mean over the tokens, unit length. A folder that says otherwise
(another pooling, a projection, a prefix) is refused, because its vectors would come out wrong without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tokenizers
import torch
from torch import Tensor

from attest import strict_json
from attest.refusal import Malformed, Refused, Unsupported
from runtime.model.manifest import EMBEDDING_MODEL, TOKENIZER, manifest_digest
from runtime.model.safetensors_folder import (
    MAX_JSON,
    add_shard,
    integer,
    number,
    parse_json_object,
    read_small,
)

WEIGHTS: Final = "model.safetensors"
_TOKENIZER_FILE: Final = "tokenizer.json"
_CONFIG, _MODULES, _LENGTH = "config.json", "modules.json", "sentence_bert_config.json"
POOLING: Final = "1_Pooling/config.json"
FILES: Final = (_CONFIG, _MODULES, _LENGTH, POOLING, _TOKENIZER_FILE)

_STEPS: Final = ("Transformer", "Pooling", "Normalize")
_MOST: Final = 1 << 20
"""No dimension of an encoder comes near."""


@dataclass(frozen=True)
class EncoderShape:
    """The dimensions of a BERT encoder.

    Args:
        vocab_size: rows of the word embedding.
        hidden_size: width of a token's vector, and of the result.
        layers: encoder layers.
        heads: of attention; divides ``hidden_size``.
        intermediate_size: width inside the feed-forward part.
        positions: rows of the position embedding.
        token_types: rows of the type embedding.
        norm_eps: added to the variance in LayerNorm.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    positions: int
    token_types: int
    norm_eps: float

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.hidden_size, self.layers, self.heads, self.intermediate_size)
        if not all(1 <= size <= _MOST for size in (*sizes, self.positions, self.token_types)):
            raise Malformed("model-dimensions", "out of range")
        if self.hidden_size % self.heads or not 0 < self.norm_eps < 1:
            raise Malformed(
                "model-dimensions", f"{self.heads} heads of {self.hidden_size}, or layer_norm_eps"
            )


@dataclass(frozen=True, repr=False)
class EmbeddingFolder:
    """What was read.

    Args:
        name: of the folder.
        shape: of the encoder.
        max_tokens: longest text, special tokens included.
        tensors: float32 weights by name.
        backend: the tokenizer; adds the model's special tokens and cuts nothing off.
        digest: ``sha256:`` over all files, tokenizer included.
        tokenizer_digest: ``sha256:`` over the tokenizer's.
    """

    name: str
    shape: EncoderShape
    max_tokens: int
    tensors: Mapping[str, Tensor]
    backend: tokenizers.Tokenizer
    digest: str
    tokenizer_digest: str

    def __repr__(self) -> str:
        return f"EmbeddingFolder({self.name}, {self.digest})"


def read_embedding_folder(folder: Path) -> EmbeddingFolder:
    """Read, hash and check a folder; every file is read once, and what was read is what is hashed.

    Raises:
        Refused: ``model-not-found``: a file is missing.
        Unsupported: ``model-architecture``, ``model-activation``, ``embedding-steps``, ``embedding-pooling``.
        Malformed: ``model-config-*``, ``model-dimensions``, ``model-weights``, ``tokenizer-*``.
    """
    if not all((folder / name).is_file() for name in (*FILES, WEIGHTS)):
        raise Refused("model-not-found", expected=f"a folder with {WEIGHTS}, {', '.join(FILES)}")
    files = {name: read_small(folder / name) for name in FILES}
    weights = (folder / WEIGHTS).read_bytes()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in {**files, WEIGHTS: weights}.items()}
    config = parse_json_object(files[_CONFIG])
    shape = _shape(config)
    _check_steps(strict_json.loads(files[_MODULES], name="model-config", max_bytes=MAX_JSON))
    _check_pooling(parse_json_object(files[POOLING]), shape.hidden_size)
    max_tokens = integer(parse_json_object(files[_LENGTH]), "max_seq_length")
    if not 2 < max_tokens <= shape.positions:  # noqa: PLR2004 a first token, a last one, and one of text
        raise Malformed("model-dimensions", f"max_seq_length {max_tokens} of {shape.positions} positions")
    tensors: dict[str, Tensor] = {}
    add_shard(tensors, weights, WEIGHTS)
    return EmbeddingFolder(
        name=folder.resolve().name,
        shape=shape,
        max_tokens=max_tokens,
        tensors=tensors,
        backend=_tokenizer(files[_TOKENIZER_FILE], shape.vocab_size),
        digest=manifest_digest(EMBEDDING_MODEL, digests),
        tokenizer_digest=manifest_digest(TOKENIZER, {_TOKENIZER_FILE: digests[_TOKENIZER_FILE]}),
    )


def take(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor in float32.

    Raises:
        Malformed: ``model-tensor-missing``, ``model-tensor-shape``; ``model-weights`` unless all are finite.
        Unsupported: ``model-quantized``.
    """
    tensor = tensors.get(name)
    if tensor is None:
        raise Malformed("model-tensor-missing", name)
    if tuple(tensor.shape) != shape:
        raise Malformed("model-tensor-shape", f"{name} is {tuple(tensor.shape)}, wanted {shape}")
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise Unsupported("model-quantized", got=str(tensor.dtype))
    taken = tensor.float()
    if not bool(torch.isfinite(taken).all()):
        raise Malformed("model-weights", f"{name} is not finite")
    return taken


def _shape(config: Mapping[str, Any]) -> EncoderShape:
    if config.get("architectures") != ["BertModel"]:
        raise Unsupported("model-architecture", expected="BertModel")
    if config.get("hidden_act") != "gelu":
        raise Unsupported("model-activation", expected="gelu")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise Unsupported("model-architecture", expected="absolute positions")
    return EncoderShape(
        vocab_size=integer(config, "vocab_size"),
        hidden_size=integer(config, "hidden_size"),
        layers=integer(config, "num_hidden_layers"),
        heads=integer(config, "num_attention_heads"),
        intermediate_size=integer(config, "intermediate_size"),
        positions=integer(config, "max_position_embeddings"),
        token_types=integer(config, "type_vocab_size"),
        norm_eps=number(config.get("layer_norm_eps"), "layer_norm_eps"),
    )


def _check_steps(modules: Any) -> None:
    """``modules.json`` lists what happens to a text, in order."""
    kinds = tuple(
        str(module.get("type")).rpartition(".")[2] if isinstance(module, dict) else ""
        for module in (modules if isinstance(modules, list) else ())
    )
    if kinds != _STEPS:
        raise Unsupported("embedding-steps", expected=", ".join(_STEPS))


def _check_pooling(config: Mapping[str, Any], width: int) -> None:
    modes = {name for name, on in config.items() if name.startswith("pooling_mode_") and on is not False}
    if modes != {"pooling_mode_mean_tokens"} or not config.get("include_prompt", True):
        raise Unsupported("embedding-pooling", expected="the mean over all tokens, and nothing else")
    if integer(config, "word_embedding_dimension") != width:
        raise Malformed("model-dimensions", f"word_embedding_dimension, {width} wide")


def _tokenizer(data: bytes, vocab_size: int) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises bare Exception for every defect
        raise Malformed("tokenizer-file") from error
    if backend.get_vocab_size(with_added_tokens=True) > vocab_size:
        raise Malformed("tokenizer-vocabulary", f"more than {vocab_size} rows")
    backend.no_truncation()
    backend.no_padding()
    return backend

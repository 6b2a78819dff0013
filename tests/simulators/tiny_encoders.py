"""A small BERT with random weights in a sentence-transformers folder, written by transformers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

from runtime.embed.embedder import Embedder
from runtime.embed.folder import read_embedding_folder

MAX_TOKENS = 24
WIDTH = 48
_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "the", "fox", "##es"]

STEPS: list[dict[str, Any]] = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
POOLING = {
    "word_embedding_dimension": WIDTH,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
}


def save_encoder(folder: Path) -> Any:
    """Write one; returns the transformers model."""
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(11)
        model = transformers.BertModel(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.3)
        model.save_pretrained(folder)
    backend = tokenizers.Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(_WORDS)}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_truncation(5)  # as the real one comes: neither may be obeyed
    backend.enable_padding(length=5)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    write(folder / "1_Pooling" / "config.json", POOLING)
    write(folder / "modules.json", STEPS)
    write(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    return model


def write(path: Path, value: Any) -> None:
    """As JSON."""
    path.write_text(json.dumps(value))


def tiny_embedder(folder: Path) -> Embedder:
    """The same, loaded, by the name ``tiny``; starts with the runtime."""
    save_encoder(folder)
    return Embedder(read_embedding_folder(folder), "tiny", threads=1)


def vector(model: Any, ids: list[int]) -> torch.Tensor:
    """What transformers makes of one text: the mean over its tokens, of length 1."""
    with torch.inference_mode():
        mean = model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
    return mean / mean.norm()

"""What is not an embedding model that is run here is refused, with a code that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attest.refusal import Malformed, Refused, Unsupported
from runtime.embed.embedder import load_embedder
from runtime.embed.encoder import Encoder
from runtime.embed.folder import read_embedding_folder
from runtime.model.digests import model_digests
from runtime.model.loaded import open_model
from tests.simulators.tiny_encoders import POOLING, STEPS, save_encoder, write


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write(folder / "config.json", {**json.loads((folder / "config.json").read_text()), **changes})

    return change


def document(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder / name, value)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors")

    return rewrite


def missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


QUERY = "encoder.layer.1.attention.self.query.weight"
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another model": (config(architectures=["RobertaModel"]), "model-architecture"),
    "relative positions": (config(position_embedding_type="relative_key"), "model-architecture"),
    "another activation": (config(hidden_act="gelu_new"), "model-activation"),
    "heads": (config(num_attention_heads=5), "model-dimensions"),
    "no layers": (config(num_hidden_layers=0), "model-dimensions"),
    "eps": (config(layer_norm_eps=0), "model-dimensions"),
    "a mistyped member": (config(hidden_size="48"), "model-config-type"),
    "another shape": (config(intermediate_size=81), "model-tensor-shape"),
    "a small vocabulary": (config(vocab_size=10), "tokenizer-vocabulary"),
    "first token": (
        document("1_Pooling/config.json", {**POOLING, "pooling_mode_cls_token": True}),
        "embedding-pooling",
    ),
    "without the prompt": (
        document("1_Pooling/config.json", {**POOLING, "include_prompt": False}),
        "embedding-pooling",
    ),
    "pooled width": (
        document("1_Pooling/config.json", {**POOLING, "word_embedding_dimension": 47}),
        "model-dimensions",
    ),
    "not normalised": (document("modules.json", STEPS[:2]), "embedding-steps"),
    "a projection": (
        document("modules.json", [*STEPS[:2], {"type": "sentence_transformers.models.Dense"}]),
        "embedding-steps",
    ),
    "steps that are none": (document("modules.json", {"0": "Transformer"}), "embedding-steps"),
    "too long": (document("sentence_bert_config.json", {"max_seq_length": 33}), "model-dimensions"),
    "too short": (document("sentence_bert_config.json", {"max_seq_length": 2}), "model-dimensions"),
    "no length": (document("sentence_bert_config.json", {}), "model-config-type"),
    "no tokenizer": (missing("tokenizer.json"), "model-not-found"),
    "no pooling": (missing("1_Pooling/config.json"), "model-not-found"),
    "tokenizer": (document("tokenizer.json", {}), "tokenizer-file"),
    "a tensor missing": (tensors(lambda held: held.pop(QUERY)), "model-tensor-missing"),
    "integers": (tensors(lambda held: held.update({QUERY: held[QUERY].int()})), "model-quantized"),
    "infinite": (tensors(lambda held: held[QUERY].fill_(torch.inf)), "model-weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    save_encoder(tmp_path)
    Encoder(read_embedding_folder(tmp_path))
    change, code = REFUSED[name]
    change(tmp_path)
    with pytest.raises((Refused, Malformed, Unsupported)) as refused:
        Encoder(read_embedding_folder(tmp_path))
    assert refused.value.code == code


def test_the_digest_covers_every_file(tmp_path: Path) -> None:
    """Of those that decide what a vector is; the reader's own notes in the folder are not read."""
    save_encoder(tmp_path)
    first = read_embedding_folder(tmp_path).digest
    (tmp_path / "README.md").write_text("notes")
    assert read_embedding_folder(tmp_path).digest == first
    seen = {first}
    for name in ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + " ")
        seen.add(read_embedding_folder(tmp_path).digest)
    (tmp_path / "tokenizer.json").write_text((tmp_path / "tokenizer.json").read_text() + " ")
    seen.add(read_embedding_folder(tmp_path).digest)
    tensors(lambda held: held[QUERY].mul_(2))(tmp_path)
    seen.add(read_embedding_folder(tmp_path).digest)
    assert len(seen) == 7


def test_each_kind_of_model_at_its_own_place() -> None:
    with pytest.raises(Refused) as refused:
        open_model("minilm")
    assert refused.value.code == "model-kind"
    with pytest.raises(Refused) as refused:
        load_embedder("smollm2")
    assert refused.value.code == "model-kind"


def test_the_digest_for_reference_values(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    folder = read_embedding_folder(tmp_path)
    digests = model_digests(str(tmp_path))
    assert (digests.base_model_digest, digests.tokenizer_digest) == (folder.digest, folder.tokenizer_digest)

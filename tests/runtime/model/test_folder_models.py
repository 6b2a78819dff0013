"""Hugging Face-format folders: models saved by transformers compute what they did there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attest.refusal import Malformed, Refused, Unsupported
from runtime.engine.run.batch import Piece
from runtime.model.loaded import open_model
from tests.simulators.laid_out import LaidOut
from tests.simulators.tiny_models import save_folder, tiny_config

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}

VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", {}, {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}, {}),
    "llama wide heads": ("llama", {"head_dim": 32}, {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}, {}),
    "llama one key per query": ("llama", {"num_key_value_heads": 4}, {}),
    "llama sharded": ("llama", {}, {"max_shard_size": "100KB"}),
    "llama 3.1 rope": ("llama", {"rope_parameters": LLAMA3_ROPE}, {}),
    "llama linear rope": ("llama", {"rope_parameters": LINEAR_ROPE}, {}),
    "qwen2": ("qwen2", {}, {}),
    "qwen3": ("qwen3", {"head_dim": 32}, {}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}, {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_computes_the_same_logits(tmp_path: Path, variant: str) -> None:
    """Whole, in pieces, and token by token, 150 positions: past the original context of the scaled ropes."""
    family, changes, options = VARIANTS[variant]
    reference = save_folder(tmp_path, tiny_config(family, **changes), **options)
    assert not options or len(list(tmp_path.glob("*.safetensors"))) > 1
    laid_out = LaidOut(tmp_path)
    tokens = torch.randint(3, 300, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    for pieces in ([150], [1, 64, 64, 21], [1] * 150):
        torch.testing.assert_close(laid_out.logits(tokens, pieces), expected, rtol=2e-4, atol=2e-3)


def test_a_batch_of_sequences_computes_what_each_alone_does(tmp_path: Path) -> None:
    save_folder(tmp_path, tiny_config("llama"))
    laid_out = LaidOut(tmp_path)
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(3, 300, (size,), generator=generator).tolist() for size in (1, 7, 40)]
    pieces = [
        Piece(prompt, 0, list(range(1 + 10 * i, 11 + 10 * i)), len(prompt))
        for i, prompt in enumerate(prompts)
    ]
    alone = [laid_out.run(piece) for piece in pieces]
    torch.testing.assert_close(laid_out.run(*pieces), torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_half_width_stays_near_float32(tmp_path: Path) -> None:
    save_folder(tmp_path, tiny_config("qwen2"))
    tokens = list(range(3, 60))
    exact = LaidOut(tmp_path).logits(tokens, [57])
    rounded = LaidOut(tmp_path, "bf16").logits(tokens, [57])
    similarity = torch.nn.functional.cosine_similarity(exact, rounded, dim=-1)
    assert rounded.dtype == torch.float32
    assert similarity.min() > 0.99


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(tmp_path, tiny_config("llama"))
    return tmp_path


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"architectures": ["GPTBigCodeForCausalLM"]}, "model-architecture"),
        ({"architectures": None}, "model-architecture"),
        ({"architectures": ["LlamaForCausalLM", "Qwen2ForCausalLM"]}, "model-architecture"),
        ({"quantization_config": {"quant_method": "gptq"}}, "model-quantized"),
        ({"hidden_act": "gelu"}, "model-activation"),
        ({"use_sliding_window": True}, "model-sliding-window"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "model-rope-scaling"),
    ],
)
def test_what_the_decoder_does_not_compute_is_unsupported(
    folder: Path, changes: dict[str, Any], code: str
) -> None:
    """Each would load, and answer wrongly without a word."""
    edit_config(folder, **changes)
    with pytest.raises(Unsupported) as refusal:
        LaidOut(folder)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hidden_size": "64"}, "model-config-type"),
        ({"hidden_size": True}, "model-config-type"),
        ({"num_hidden_layers": None}, "model-config-type"),
        ({"rms_norm_eps": "small"}, "model-config-type"),
        ({"rope_parameters": [1]}, "model-config-type"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "model-config-type"),
        ({"num_hidden_layers": 0}, "model-dimensions"),
        ({"num_hidden_layers": 10**9}, "model-dimensions"),
        ({"hidden_size": 10**18}, "model-dimensions"),
        ({"num_attention_heads": 5}, "model-dimensions"),
        ({"head_dim": 15}, "model-dimensions"),
        ({"max_position_embeddings": -1}, "model-dimensions"),
        ({"rms_norm_eps": -1.0}, "model-dimensions"),
        ({"rope_parameters": {"rope_theta": 0.0}}, "model-dimensions"),
        ({"rope_parameters": {"rope_theta": 10**400}}, "model-config-type"),
        ({"rope_parameters": {**LLAMA3_ROPE, "high_freq_factor": 0.0}}, "model-dimensions"),
        ({"rope_parameters": {**LLAMA3_ROPE, "high_freq_factor": 1.0}}, "model-dimensions"),
        ({"rope_parameters": {**LLAMA3_ROPE, "original_max_position_embeddings": 0}}, "model-dimensions"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0.5}}, "model-dimensions"),
        ({"num_hidden_layers": 4}, "model-tensor-missing"),
        ({"intermediate_size": 97}, "model-tensor-shape"),
        ({"vocab_size": 10}, "tokenizer-vocabulary"),
    ],
)
def test_absurd_numbers_are_refused(folder: Path, changes: dict[str, Any], code: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(Malformed) as refusal:
        LaidOut(folder)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("config.json", b"{", "model-config-not-json"),
        ("config.json", b"[]", "model-config-members"),
        ("config.json", b'{"a":1,"a":2}', "model-config-duplicate-member"),
        ("model.safetensors", b"\x00" * 64, "model-weights"),
        ("model.safetensors", b"", "model-weights"),
        ("tokenizer.json", b'{"version":"9"}', "tokenizer-file"),
        ("chat_template.jinja", b"\xff", "chat-template-syntax"),
        ("chat_template.jinja", b"{% for %}", "chat-template-syntax"),
        ("chat_template.jinja", b"x" * (1 << 18), "chat-template-too-large"),
    ],
)
def test_a_damaged_file_is_refused(folder: Path, name: str, content: bytes, code: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(Malformed) as refusal:
        LaidOut(folder)
    assert refusal.value.code == code


def test_an_oversized_configuration_is_not_read_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.model.safetensors_folder.MAX_JSON", 100)
    with pytest.raises(Malformed) as refusal:
        LaidOut(folder)
    assert refusal.value.code == "model-config-too-large"


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Malformed) as refusal:
        LaidOut(folder)
    assert refusal.value.code == "model-weights"


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    (folder / "second.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(Malformed) as refusal:
        LaidOut(folder)
    assert refusal.value.code == "model-duplicate-tensor"


def test_integer_weights_are_unsupported(folder: Path) -> None:
    edit_weights(
        folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)})
    )
    with pytest.raises(Unsupported) as refusal:
        LaidOut(folder)
    assert refusal.value.code == "model-quantized"


def test_one_bias_of_three_is_refused(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    edit_weights(folder, lambda tensors: tensors.update({name: torch.zeros(64)}))
    with pytest.raises(Malformed) as refusal:
        LaidOut(folder)
    assert refusal.value.code == "model-tensor-missing"


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_no_model(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(Refused) as refusal:
        LaidOut(folder)
    assert refusal.value.code == "model-not-found"


@pytest.mark.parametrize(
    ("name", "base_changes", "tokenizer_changes"),
    [
        ("config.json", True, False),
        ("generation_config.json", True, False),
        ("tokenizer.json", False, True),
        ("tokenizer_config.json", False, True),
        ("chat_template.jinja", False, True),
    ],
)
def test_digests_cover_every_file_that_matters(
    folder: Path, name: str, base_changes: bool, tokenizer_changes: bool
) -> None:
    before = open_model(folder)
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    after = open_model(folder)
    assert (before.base_model_digest != after.base_model_digest) is base_changes
    assert (before.tokenizer_digest != after.tokenizer_digest) is tokenizer_changes


def test_one_changed_weight_changes_the_digest(folder: Path) -> None:
    before = open_model(folder).base_model_digest
    edit_weights(folder, lambda tensors: tensors["model.norm.weight"].add_(1))
    assert open_model(folder).base_model_digest != before

"""The folder that vLLM is given holds the model whose bytes were digested, and lies in memory."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from attest.refusal import Unsupported
from runtime.engine.backends import vllm_folder
from runtime.engine.backends.vllm_folder import folder_in_memory, write_folder
from runtime.model.loaded import open_model
from runtime.model.safetensors_folder import folder_architecture
from tests.simulators.tiny_models import save_folder, tiny_config, write_gguf

ROWS = torch.tensor([[3 + i * 7 % 200 for i in range(40)]])
STRETCHED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10_000.0,
}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        values: torch.Tensor = model(ROWS).logits
    return values


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": STRETCHED}),
        ("llama", {"rope_parameters": LLAMA3}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
    ],
)
def test_another_reader_finds_the_same_model_in_it(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    copy.mkdir()
    expected = logits(save_folder(source, tiny_config(family, **changes)))
    write_folder(open_model(source), copy, torch.float32)
    read = transformers.AutoModelForCausalLM.from_pretrained(copy, dtype=torch.float32)
    assert type(read).__name__.lower().startswith(family)
    torch.testing.assert_close(logits(read), expected)


def test_a_gguf_file_becomes_a_folder_too(tmp_path: Path) -> None:
    for family in ("llama", "qwen2", "qwen3"):
        path, copy = tmp_path / f"{family}.gguf", tmp_path / family
        copy.mkdir()
        write_gguf(path, family=family)
        opened = open_model(path)
        write_folder(opened, copy, torch.float32)
        config = json.loads((copy / "config.json").read_text())
        assert folder_architecture(config) == opened.architecture
        assert config["model_type"] == family
        read = transformers.AutoModelForCausalLM.from_pretrained(copy, dtype=torch.float32)
        for name, value in read.state_dict().items():
            if opened.weights.has(name):
                torch.testing.assert_close(value, opened.weights.take(name, tuple(value.shape)).float())


def test_it_is_for_this_user_alone_and_gone_afterwards(tmp_path: Path) -> None:
    save_folder(tmp_path, tiny_config("llama"))
    with folder_in_memory(open_model(tmp_path), torch.bfloat16) as folder:
        assert folder.parent == vllm_folder.MEMORY
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "config.json").is_file()
    assert not folder.exists()


def test_a_disk_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_folder(tmp_path, tiny_config("llama"))
    monkeypatch.setattr(vllm_folder, "MEMORY", tmp_path)
    with pytest.raises(Unsupported) as refused, folder_in_memory(open_model(tmp_path), torch.float32):
        pass
    assert refused.value.code == "no-memory-folder"

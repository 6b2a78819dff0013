"""What a runtime would state of a model, without serving it: for whoever writes reference values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from attest.refusal import Refused
from runtime import settings
from runtime.embed.folder import POOLING, read_embedding_folder
from runtime.model.gguf_file import parse_gguf
from runtime.model.registry import KNOWN
from runtime.model.safetensors_folder import read_folder
from runtime.model.store import stored_model


@dataclass(frozen=True)
class ModelDigests:
    """One model by its digests.

    Args:
        name: what it would be served as.
        base_model_digest: ``sha256:`` of the weights.
        tokenizer_digest: ``sha256:`` of the tokenizer.
    """

    name: str
    base_model_digest: str
    tokenizer_digest: str


def model_digests(path_or_name: str) -> ModelDigests:
    """The digests of a pulled model by name, or of a ``.gguf`` file or model folder by path.

    A folder that says how to pool is an embedding model's: its one digest is ``base_model_digest``.

    Raises:
        Refused: ``model-not-pulled``, ``model-not-found``.
        Unsupported, Malformed: as the parsers do.
    """
    if path_or_name in KNOWN:
        record = stored_model(settings.home(), path_or_name).record
        return ModelDigests(record.name, record.base_model_digest, record.tokenizer_digest)
    path = Path(path_or_name)
    if path.is_dir() and (path / POOLING).is_file():
        embedding = read_embedding_folder(path)
        return ModelDigests(embedding.name, embedding.digest, embedding.tokenizer_digest)
    if path.is_dir():
        folder = read_folder(path, lambda _stage, _done: None)
        return ModelDigests(path.resolve().name, folder.base_model_digest, folder.tokenizer_digest)
    if path.is_file():
        data = path.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return ModelDigests(path.stem, digest, parse_gguf(data).tokenizer_digest)
    raise Refused("model-not-found", expected="a pulled model's name, a .gguf file or a folder")

"""Open a model: its weights, its tokenizer, and the digests the runtime's statement names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from attest.refusal import Refused
from runtime import settings
from runtime.model.architecture import Architecture
from runtime.model.gguf_file import parse_gguf
from runtime.model.gguf_weights import GgufWeights, gguf_architecture
from runtime.model.registry import KNOWN
from runtime.model.safetensors_folder import FolderWeights, folder_architecture, read_folder
from runtime.model.store import StoredModel, stored_model
from runtime.model.tokenizer import Tokenizer
from runtime.model.tokenizer_sources import folder_tokenizer, gguf_tokenizer
from runtime.model.weight_source import WeightSource

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0 to 1."""


@dataclass(frozen=True, repr=False)
class OpenModel:
    """A model whose weights are read and digested, and not yet laid out for a machine.

    Args:
        name: what clients ask for.
        architecture: what the weights are shaped like.
        weights: taken one at a time by who lays them out; drop this object to free them.
        tokenizer: with the chat template.
        base_model_digest: ``sha256:`` of the weights, as they were read.
        tokenizer_digest: ``sha256:`` of the tokenizer and template, as they were read.
    """

    name: str
    architecture: Architecture
    weights: WeightSource
    tokenizer: Tokenizer
    base_model_digest: str
    tokenizer_digest: str

    def __repr__(self) -> str:
        return f"OpenModel({self.name}, {self.base_model_digest})"

    @property
    def context_length(self) -> int:
        """Positions that the model was trained for."""
        return self.architecture.context_length


def open_model(path_or_name: str | Path, *, progress: Progress | None = None) -> OpenModel:
    """Open a pulled model by name, or a ``.gguf`` file or Hugging Face-format folder by path.

    A pulled model must have the digest it was pinned to. Any other is taken as it is: its digest goes
    into the runtime's statement, and those who verify the runtime decide whether they accept it.

    Args:
        path_or_name: names of pulled models win over paths.
        progress: told how far it is, also while the weights are taken.

    Raises:
        Refused: ``model-not-pulled``, ``model-not-found``, ``model-digest-mismatch``, ``model-kind``.
        Unsupported, Malformed: as the parsers do.
    """
    report = progress or _silent
    known = KNOWN.get(str(path_or_name))
    if known is not None:
        if known.kind != "generate":
            raise Refused("model-kind", expected="a model that generates text", got=known.name)
        return _open_stored(stored_model(settings.home(), str(path_or_name)), report)
    path = Path(path_or_name)
    if path.is_dir():
        return _open_folder(path, report)
    if path.is_file():
        data = path.read_bytes()
        return _open_gguf(data, _sha256(data), path.stem, report)
    raise Refused("model-not-found", expected="a pulled model's name, a .gguf file or a folder")


def _open_stored(stored: StoredModel, progress: Progress) -> OpenModel:
    """The pinned digest is the registry's: the record on disk is the host's to rewrite."""
    try:
        data = stored.weights.read_bytes()
    except FileNotFoundError:
        raise Refused(
            "model-not-pulled", expected=f"`sealgate model pull {stored.record.name}` again"
        ) from None
    expected = f"sha256:{KNOWN[stored.record.name].sha256}"
    found = _sha256(data)
    if found != expected:
        raise Refused("model-digest-mismatch", expected=expected, got=found)
    return _open_gguf(data, found, stored.record.name, progress)


def _sha256(data: bytes) -> str:
    """Digest of what was read; what was read is also what is parsed, so the disk is not asked twice."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _open_gguf(data: bytes, digest: str, name: str, progress: Progress) -> OpenModel:
    file = parse_gguf(data)
    architecture = gguf_architecture(file)
    progress("tokenizer", 0.0)
    tokenizer = gguf_tokenizer(file, architecture.vocab_size)
    source = _Counted(GgufWeights(file, architecture), len(file.tensors), progress)
    return OpenModel(name, architecture, source, tokenizer, digest, file.tokenizer_digest)


def _open_folder(path: Path, progress: Progress) -> OpenModel:
    folder = read_folder(path, progress)
    architecture = folder_architecture(folder.config)
    tokenizer = folder_tokenizer(folder, architecture.vocab_size)
    source = FolderWeights(folder)
    name = path.resolve().name
    return OpenModel(name, architecture, source, tokenizer, folder.base_model_digest, folder.tokenizer_digest)


class _Counted:
    """A weight source that reports how many of its tensors were taken."""

    def __init__(self, source: WeightSource, total: int, progress: Progress) -> None:
        self._source, self._total, self._progress = source, total, progress
        self._taken = 0

    def has(self, name: str) -> bool:
        return self._source.has(name)

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        self._taken += 1
        self._progress("weights", min(1.0, self._taken / self._total))
        return self._source.take(name, shape)


def _silent(_stage: str, _fraction: float) -> None:
    """No one is watching."""

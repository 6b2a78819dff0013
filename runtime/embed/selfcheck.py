"""Does this process embed as the model says? Asked after loading, before the first request.

1. The vectors of a few fixed texts are those of the plain encoder, each text alone and all in one pass: a
   mis-built kernel, weights laid out wrongly, texts that see each other.
2. For a model that is pinned, the plain encoder's vectors are the recorded ones: what both got wrong, and a
   tokenizer that is not the model's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from attest import digest, strict_json
from runtime.embed.encoder import Encoder
from runtime.embed.folder import EmbeddingFolder
from runtime.embed.plain import PlainEncoder
from runtime.engine.selfcheck.failure import SelfCheckFailed
from runtime.engine.telemetry import SelfCheckFigures

CODE: Final = "embedder-self-check-failed"

TEXTS: Final = (
    "The capital of France is Paris.",
    "Grüße aus dem Wald: 12,5 % of 340 foxes jump!",
    " ".join(["The sun rises in the east and sets in the west."] * 12),
)
"""A plain one, one of rare pieces, and a long one: kernels differ by length."""

LONGEST: Final = 128
"""Tokens of a text of the check."""

BOUND: Final = 2e-5
"""The largest distance between two vectors of length 1 that passes; a sound encoder was seen at 6e-7."""

MINILM: Final = "sha256:327c0ebc7cd72e214b1088701acb6f6a063160335d2773fdcb5336a3393ff942"
RECORDED: Final[Mapping[str, str]] = {
    MINILM: "sha256:b4bd31b9fa00180749b9478167b93a0a9cbfe8666e4d3082c844e9afeceb84f3",
}
"""Digests of the check for pinned models, by the digest of the model."""

_FORMAT: Final = "sealgate-embedding-self-check-v1"
_STEPS: Final = 256
"""Numbers of a vector are recorded in so many steps to 1."""
_CLOSE: Final = 1e-3
"""Steps between two roundings within which another machine's float64 might choose otherwise."""


class TextEncoder(Protocol):
    """Of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        ...


@dataclass(frozen=True)
class EmbeddingCheck:
    """A check that passed.

    Args:
        digest: names texts and vectors; the statement's ``self_check`` names it with the engine's.
        figures: for the metrics.
    """

    digest: str
    figures: SelfCheckFigures


def check_embedder(encoder: Encoder, folder: EmbeddingFolder, tokenizer: TextEncoder) -> EmbeddingCheck:
    """Check an encoder.

    Args:
        encoder: laid out from ``folder``.
        folder: as it was read.
        tokenizer: of the model.

    Raises:
        SelfCheckFailed: it computes something else.
    """
    began = time.monotonic()
    longest = min(folder.max_tokens, LONGEST)
    texts = [tokenizer.encode(text)[:longest] for text in TEXTS]
    with _one_thread():  # many small products, which cost threads more than they gain
        wanted = PlainEncoder(folder).embed(texts)
        alone = torch.cat([encoder.embed([text]) for text in texts])
    worst = max(
        _distance("a text's vector", alone, wanted),
        _distance("a text's vector among others", encoder.embed(texts), wanted),
    )
    made = transcript_digest(texts, wanted)
    recorded = RECORDED.get(folder.digest)
    if recorded is not None and recorded != made:
        raise SelfCheckFailed("the digest of texts and vectors", 1.0, 0.0, code=CODE)
    return EmbeddingCheck(made, SelfCheckFigures(time.monotonic() - began, worst / BOUND))


def transcript_digest(texts: Sequence[Sequence[int]], vectors: Tensor) -> str:
    """``sha256:`` of what was asked and what is to come out, the same on every machine.

    Args:
        texts: token ids of each.
        vectors: (texts, hidden) float64.
    """
    steps = vectors * _STEPS
    rounded = steps.round()
    close = ((steps - rounded).abs() - 0.5).abs() < _CLOSE  # halfway between two steps
    transcript = {
        "format": _FORMAT,
        "texts": [list(text) for text in texts],
        "vectors": [
            [None if unsure else int(value) for value, unsure in zip(*row, strict=True)]
            for row in zip(rounded.tolist(), close.tolist(), strict=True)
        ],
    }
    return digest.sha256_digest(strict_json.canonical(transcript))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _distance(what: str, got: Tensor, wanted: Tensor) -> float:
    """The largest of the texts'."""
    error = float((got.double() - wanted).norm(dim=1).max())
    if not error <= BOUND:  # not so for NaN either
        raise SelfCheckFailed(what, error, BOUND, code=CODE)
    return error

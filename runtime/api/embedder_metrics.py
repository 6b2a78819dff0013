"""An embedder's figures as its host may read them; coarse for the same reasons as the engine's.

How many texts a request holds is as hidden from the host as how long they are, so both leave in grains.
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime.api.engine_metrics import STEP_GRAIN, TOKEN_GRAIN, grained, grained_histogram
from runtime.api.exposition import Family, labelled, single
from runtime.embed.figures import OUTCOMES, EmbedderFigures


def embedder_families(figures: EmbedderFigures) -> Iterator[Family]:
    """Everything that may be said of an embedder.

    Args:
        figures: its counters.
    """
    yield single(
        "sealgate_embedder_requests_waiting",
        "gauge",
        "Requests for embeddings that have not ended.",
        figures.waiting,
    )
    yield labelled(
        "sealgate_embedder_requests_total",
        "counter",
        "Requests for embeddings that ended: with vectors, given up by who asked, by a fault.",
        "outcome",
        {outcome: figures.requests[outcome] for outcome in OUTCOMES},
    )
    yield labelled(
        "sealgate_embedder_refusals_total",
        "counter",
        "Requests for embeddings not served, or not to their end, by code.",
        "code",
        dict(sorted(figures.refusals.items())),
    )
    yield single(
        "sealgate_embedder_texts_total",
        "counter",
        f"Texts embedded, in grains of {STEP_GRAIN}.",
        grained(figures.texts, STEP_GRAIN),
    )
    yield single(
        "sealgate_embedder_tokens_total",
        "counter",
        f"Tokens of the texts embedded, in grains of {TOKEN_GRAIN}.",
        grained(figures.tokens, TOKEN_GRAIN),
    )
    yield grained_histogram(
        "sealgate_embedder_request_seconds",
        "From asking the embedder to all vectors of a request.",
        figures.request_s,
        grain=1,
    )
    yield grained_histogram(
        "sealgate_embedder_pass_seconds",
        f"Duration of a pass through the embedding model; counts in grains of {STEP_GRAIN}.",
        figures.pass_s,
        grain=STEP_GRAIN,
    )
    yield single(
        "sealgate_embedder_self_check_seconds",
        "gauge",
        "How long the embedder's check at start took; a runtime that failed it serves nothing.",
        round(figures.self_check.seconds, 3),
    )
    yield single(
        "sealgate_embedder_self_check_error_ratio",
        "gauge",
        "Largest deviation that the embedder's check found, as a part of what is allowed.",
        round(figures.self_check.worst_error, 3),
    )

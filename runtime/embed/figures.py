"""What an embedder counts of itself, free of content; kept on the event loop's thread, so without a lock.

    EmbedderMeter      kept while it works
    EmbedderFigures    what the meter says at one moment

As with the engine's (``runtime.engine.telemetry``) nothing is rounded here: what may leave the enclave is
decided where it leaves (``runtime.api.embedder_metrics``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from runtime.engine.base import EngineRefusal
from runtime.engine.telemetry import FIRST_TOKEN_S, TOKEN_S, Distribution, Histogram, SelfCheckFigures

Outcome = Literal["finished", "cancelled", "failed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("finished", "cancelled", "failed")


@dataclass(frozen=True)
class EmbedderFigures:
    """An embedder's figures at one moment.

    Args:
        waiting: requests that were let in and have not ended.
        requests: that ended, by outcome.
        refusals: requests not served, or not to the end, by code.
        texts: embedded, since start.
        tokens: of those texts.
        request_s: from asking to the vectors, of requests that finished.
        pass_s: of a pass through the model.
        self_check: the check before the first request.
    """

    waiting: int
    requests: Mapping[Outcome, int]
    refusals: Mapping[str, int]
    texts: int
    tokens: int
    request_s: Distribution
    pass_s: Distribution
    self_check: SelfCheckFigures


class EmbedderMeter:
    """Counts."""

    def __init__(self) -> None:
        self._waiting = 0
        self._requests: Counter[Outcome] = Counter()
        self._refusals: Counter[str] = Counter()
        self._texts = self._tokens = 0
        self._request = Histogram(FIRST_TOKEN_S)
        self._pass = Histogram(TOKEN_S)

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Counts a refusal that passes by."""
        try:
            yield
        except EngineRefusal as refusal:
            self._refusals[refusal.code] += 1
            raise

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Counts a request that was let in, as long as it lasts and how it ends."""
        began, outcome = time.monotonic(), OUTCOMES[2]
        self._waiting += 1
        try:
            yield
            outcome = "finished"
            self._request.observe(time.monotonic() - began)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._waiting -= 1
            self._requests[outcome] += 1

    def passed(self, texts: int, tokens: int, seconds: float) -> None:
        """Counts a pass through the model."""
        self._texts += texts
        self._tokens += tokens
        self._pass.observe(seconds)

    def read(self, self_check: SelfCheckFigures) -> EmbedderFigures:
        """As it stands.

        Args:
            self_check: that the embedder passed.
        """
        return EmbedderFigures(
            waiting=self._waiting,
            requests={outcome: self._requests[outcome] for outcome in OUTCOMES},
            refusals=dict(self._refusals),
            texts=self._texts,
            tokens=self._tokens,
            request_s=self._request.read(),
            pass_s=self._pass.read(),
            self_check=self_check,
        )

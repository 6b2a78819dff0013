"""Run a planned step: its rows through the model in one pass, then a token for each sequence that is due one.

Nothing here knows the lock or the scheduler: what a step needs was taken from them beforehand.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from torch import Tensor

from runtime.engine.live import Live
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.run.batch import Piece
from runtime.engine.run.runner import Cache, Runner
from runtime.engine.run.sampler import Choice, Sampler, choose, score
from runtime.engine.schedule.step import Outcome, RunFailed, Sampled, Step

_SCORED_ROWS = 64
"""Prompt rows whose logits exist at once."""


@dataclass(frozen=True, repr=False)
class Work:
    """One step's items, with what is theirs; taken while the plan is made.

    Args:
        step: the plan.
        live: whose each item is.
        pieces: the rows of each item.
    """

    step: Step
    live: tuple[Live, ...]
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, step: Step, live: tuple[Live, ...]) -> Work:
        """A plan, and whose its items are."""
        pieces = tuple(each.piece(item) for item, each in zip(step.items, live, strict=True))
        return cls(step, live, pieces)


class StepRunner:
    """Runs steps, one after the other.

    Args:
        model: that their rows go through.
        cache: the memory that their pages name.
        adapters: the batches over the adapters' tables; None runs the base model alone.
        eos_ids: the model's end-of-sequence tokens.
    """

    def __init__(
        self,
        model: Runner,
        cache: Cache,
        adapters: LoraBatches | None,
        eos_ids: Container[int],
    ) -> None:
        self._model = model
        self._cache = cache
        self._adapters = adapters
        self._eos_ids = eos_ids

    def run(self, work: Work) -> tuple[list[Outcome], list[Choice | None]]:
        """Run a step.

        Returns:
            Per item: what the scheduler is to hear, and the chosen token; None where none was due.
        """
        hidden = self._forward(work)
        last_rows: list[int] = []
        samplers: list[Sampler] = []
        row = 0
        for item, live, piece in zip(work.step.items, work.live, work.pieces, strict=True):
            self._score(live, piece, hidden[row : row + piece.logits])
            row += piece.logits
            if item.samples:
                last_rows.append(row - 1)
                samplers.append(live.sampler)
        if not samplers:
            return [None] * len(work.live), [None] * len(work.live)
        every = len(last_rows) == len(hidden)
        chosen = iter(choose(self._model.logits(hidden if every else hidden[last_rows]), samplers))
        choices = [next(chosen) if item.samples else None for item in work.step.items]
        outcomes: list[Outcome] = [
            self._outcome(live, choice) if item.samples else None
            for item, live, choice in zip(work.step.items, work.live, choices, strict=True)
        ]
        return outcomes, choices

    def _forward(self, work: Work) -> Tensor:
        """Hidden states of the rows that logits are wanted of."""
        model = self._model
        batch = model.batch(work.pieces, self._cache)
        adapters = None
        if self._adapters is not None:
            spans = [
                (live.placed, len(piece.tokens)) for live, piece in zip(work.live, work.pieces, strict=True)
            ]
            adapters = self._adapters.of(spans)
        return model.forward(batch, self._cache, adapters)

    def _score(self, live: Live, piece: Piece, hidden: Tensor) -> None:
        """Keep what the prompt's rows say of its tokens, as far as it was asked for."""
        row = live.first_scored_row
        count = live.request.params.prompt_logprobs
        prompt = live.request.prompt_token_ids
        end = min(piece.end, len(prompt) - 1)
        while row is not None and count is not None and row < end:
            stop = min(end, row + _SCORED_ROWS)
            at = row - (piece.end - piece.logits)
            logits = self._model.logits(hidden[at : at + stop - row])
            live.scored += score(logits, prompt[row + 1 : stop + 1], count)
            row = stop

    def _outcome(self, live: Live, choice: Choice | None) -> Outcome:
        if choice is None:
            return RunFailed("engine_failed" if live.sampler.guide is None else "guide_failed")
        params = live.request.params
        ends = choice.token_id in self._eos_ids and not params.ignore_eos
        return Sampled(choice.token_id, "stop" if ends or choice.token_id in params.stop_token_ids else None)

"""What passes between the scheduler and whoever runs a step: plain data both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from runtime.engine.schedule.sequence import Sequence


class Scheduled(NamedTuple):
    """Run ``sequence.tokens[start : start + count]`` over ``sequence.pages``.

    Args:
        sequence: whose.
        start: position of the first row; everything before it is computed.
        count: rows, at least one. The pages for all of them are in ``sequence.pages``.
        samples: whether the last row's logits choose the sequence's next token; if not, no row's do.
    """

    sequence: Sequence
    start: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks a plan for
    samples: bool


class StepLoad(NamedTuple):
    """What a step costs by, summed over its items.

    Args:
        prompt_rows: rows of items that read a prompt.
        decodes: items of one row.
        cached: positions that the decoding items attend to.
        pairs: row and position pairs that the prompt rows attend to.
    """

    prompt_rows: int
    decodes: int
    cached: int
    pairs: int


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One pass through the model.

    Args:
        number: counts from 1.
        items: the decoding ones first, then pieces of started prompts, then of new ones. A sequence is
            in at most one.
        decodes: how many at the front are of one row.
        budget: rows that the plan allowed; the items have no more.
        load: see there.
        predicted_s: how long the cost model expects it to take.
        scheduled_at: ``now`` of the plan.
    """

    number: int
    items: tuple[Scheduled, ...]
    decodes: int
    budget: int
    load: StepLoad
    predicted_s: float
    scheduled_at: float

    def __repr__(self) -> str:
        return f"Step({self.number}, {self.decodes} decoding, {len(self.items)} in all, {self.rows} rows)"

    @property
    def rows(self) -> int:
        """Tokens that the step runs."""
        return self.load.decodes + self.load.prompt_rows


class Sampled(NamedTuple):
    """What came of an item that samples.

    Args:
        token_id: the next token.
        end_code: the sequence ends with this token, e.g. ``"stop"`` for a stop token; None while it goes on
            (that ``max_tokens`` are reached the scheduler sees by itself and calls ``"length"``).
    """

    token_id: int
    end_code: str | None = None


class RunFailed(NamedTuple):
    """What came of an item that went wrong (logits that are not finite, say): its sequence fails."""

    code: str = "engine_failed"


Outcome = Sampled | RunFailed | None
"""One per item, in order; None for an item that does not sample."""


class Refusal(Exception):
    """A sequence was not taken on. Nothing was run, nothing is held.

    Args:
        code: ``engine_overloaded`` (the queue is full, or its wait would outlast what is allowed or the
            deadline), ``duplicate_request``, ``context_length_exceeded`` (more pages than there are) or
            ``invalid_parameter``.
        detail: numbers for a person; never content.
        retry_after: seconds after which the same request is expected to be taken; None if never.
    """

    def __init__(self, code: str, detail: str, retry_after: float | None = None) -> None:
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        super().__init__(f"{code}: {detail}")

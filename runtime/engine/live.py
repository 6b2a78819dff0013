"""A sequence being served: its request and consumer, beside what the scheduler's books say of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from runtime.engine.base import EngineRefusal, FinishReason, GenerateRequest, PromptLogprobs, TokenOutput
from runtime.engine.lora.lease import Lease
from runtime.engine.lora.tables import Placed
from runtime.engine.run.batch import Piece
from runtime.engine.run.sampler import Choice, Sampler
from runtime.engine.schedule.sequence import Owner, Sequence, State
from runtime.engine.schedule.step import Scheduled

Delivery = Callable[[TokenOutput | EngineRefusal], None]
"""Hands a sequence's consumer its next token, or the refusal that ends it; called on the engine's thread."""


def into_queue(
    loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[TokenOutput | EngineRefusal]
) -> Delivery:
    """A function that another thread may call to put into ``queue``.

    Args:
        loop: the consumer's; what comes after it was closed is dropped.
        queue: of that loop.
    """

    def deliver(output: TokenOutput | EngineRefusal) -> None:
        with contextlib.suppress(RuntimeError):  # the consumer's loop may close while a step ends
            loop.call_soon_threadsafe(queue.put_nowait, output)

    return deliver


@dataclass(repr=False)
class Live:
    """What belongs to a sequence beside the scheduler's books.

    Args:
        request: as it was asked.
        sequence: as the scheduler has it.
        sampler: its parameters, randomness and form.
        deliver: to its consumer.
        lease: on its adapter; None for the base model.
        placed: where the adapter lies.
        last_token_at: seconds; when the request came, before its first.
        scored: what the model thinks of its prompt, as far as it is run and not handed out.
    """

    request: GenerateRequest
    sequence: Sequence
    sampler: Sampler
    deliver: Delivery
    lease: Lease | None
    placed: Placed | None
    last_token_at: float
    scored: PromptLogprobs = ()

    @classmethod
    def of(cls, request: GenerateRequest, deliver: Delivery, lease: Lease | None, asked_at: float) -> Live:
        """A request that is to be scheduled; its lease, if it has one, is ready."""
        params = request.params
        scoring = params.prompt_logprobs is not None
        sequence = Sequence(
            request.request_id,
            Owner(request.tenant, request.label_domain, request.adapter_digest),
            request.prompt_token_ids,
            params.max_tokens,
            priority=request.priority,
            weight=request.weight,
            deadline=request.deadline,
            prefix_limit=params.prompt_logprobs_from - 1 if scoring else None,
        )
        placed = None if lease is None else lease.future.result()
        return cls(request, sequence, Sampler(params, request.guide), deliver, lease, placed, asked_at)

    @property
    def first_scored_row(self) -> int | None:
        """The prompt's next row whose logits are to be reported; None if there is none."""
        params = self.request.params
        row = params.prompt_logprobs_from - 1 + len(self.scored)
        wanted = params.prompt_logprobs is not None and self.sequence.generated == 0
        wanted = wanted and row < self.sequence.prompt_tokens - 1
        return row if wanted else None

    def piece(self, item: Scheduled) -> Piece:
        """The rows of an item of this sequence, as the scheduler has them now."""
        sequence, end = self.sequence, item.start + item.count
        logits = int(item.samples)
        row = self.first_scored_row
        if row is not None and row < end:
            logits = end - max(row, item.start)
        return Piece(sequence.tokens[item.start : end], item.start, sequence.pages, logits)

    def output(self, choice: Choice) -> TokenOutput:
        """What the consumer gets of a token that the books have taken in; ``scored`` goes with the first."""
        reason: FinishReason | None = None
        if self.sequence.state is State.FINISHED:
            reason = "stop" if self.sequence.end_code == "stop" else "length"
        scored: PromptLogprobs | None = None
        if self.request.params.prompt_logprobs is not None and self.sequence.generated == 1:
            scored, self.scored = self.scored, ()
        return TokenOutput(choice.token_id, choice.logprob, choice.top_logprobs, reason, scored)

    def release(self) -> None:
        """Give the adapter back: no step has rows of this sequence any more."""
        if self.lease is not None:
            self.lease.release()

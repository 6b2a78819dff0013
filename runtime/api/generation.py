"""From a validated request to pieces of text, one per token.

Each answer (choice) is one sequence of the engine. Closing the stream of pieces early closes every engine
generator under it, which frees their memory at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from runtime.api.errors import context_exceeded
from runtime.api.exchange import Exchange
from runtime.api.served import CompiledForm, ServedModel
from runtime.api.text_stream import TextStream
from runtime.api.tool_calls import CallDelta, CallReader
from runtime.engine.base import FinishReason, GenerateRequest, PromptLogprobs, SamplingParams, TokenOutput

_QUEUED_PIECES = 64
"""Pieces of all choices that may wait for a slow reader before the engines' generators wait too."""

Ending = FinishReason | Literal["tool_calls"]


@dataclass(frozen=True, slots=True, repr=False)
class Reading:
    """A prompt of which the answer says something.

    Args:
        place: among the request's prompts.
        token_ids: the prompt.
        echo: to be shown before the answer: the text as it was sent, or where tokens were sent what they say;
            None if it is not to be shown.
        alone: nothing is to follow.
        scored: what the model thinks of the prompt's last tokens. Empty unless it was asked for, and with all
            but the first of the answers to one prompt.
    """

    place: int
    token_ids: tuple[int, ...]
    echo: str | None
    alone: bool
    scored: PromptLogprobs = ()

    def __repr__(self) -> str:
        return f"Reading({len(self.token_ids)} tokens)"


@dataclass(frozen=True, slots=True, repr=False)
class Piece:
    """What one token added to one choice.

    Args:
        index: of the choice.
        text: to show; often empty.
        output: the token, for its log-probabilities; None if it has no place among them (end of sequence).
        finish_reason: None while the choice goes on.
        calls: what was added to calls of functions.
        reading: the prompt that the choice answers; with its first piece only, and if it was asked for.
    """

    index: int
    text: str
    output: TokenOutput | None
    finish_reason: Ending | None
    calls: Sequence[CallDelta] = ()
    reading: Reading | None = None

    def __repr__(self) -> str:
        return f"Piece({self.index}, {len(self.text)} characters, {self.finish_reason})"


@dataclass(frozen=True, repr=False)
class Plan:
    """One choice to generate."""

    index: int
    request: GenerateRequest
    stops: tuple[str, ...]
    functions: frozenset[str] = frozenset()
    reading: Reading | None = None

    def __repr__(self) -> str:
        return f"Plan({self.index}, {self.request!r})"


def plans(
    request: ChatRequest | CompletionRequest,
    prompts: Sequence[Sequence[int]],
    *,
    served: ServedModel,
    exchange: Exchange,
    request_id: str,
    form: CompiledForm | None = None,
    functions: frozenset[str] = frozenset(),
) -> list[Plan]:
    """One plan per prompt and answer, in the order of their index; counts the prompts' tokens.

    Args:
        request: what was asked.
        prompts: its tokens.
        served: the model.
        exchange: what is counted.
        request_id: of the whole.
        form: that each answer is held to.
        functions: that each answer may call.

    Raises:
        ApiError: ``context_length_exceeded``, with the numbers.
    """
    result: list[Plan] = []
    for place, prompt in enumerate(prompts):
        reading = _reading(request, place, prompt, served)
        params = _sampling(request, len(prompt), served.engine.info.context_length)
        exchange.prompt_tokens += len(prompt)
        for choice in range(request.choices):
            index = len(result)
            # Different answers are wanted of one seed, and the same ones again next time.
            seed = None if params.seed is None else params.seed + index
            scores = (
                None if choice else params.prompt_logprobs
            )  # once: the others find it in the prefix cache
            generate = GenerateRequest(
                request_id=f"{request_id}-{index}",
                tenant=exchange.tenant,
                prompt_token_ids=tuple(prompt),
                params=replace(params, seed=seed, prompt_logprobs=scores),
                label_domain=exchange.label_id,
                guide=None if form is None else form.guide(),
                adapter_digest=served.adapter_digest,
            )
            result.append(Plan(index, generate, request.stops, functions, reading))
    return result


def run(plans: Sequence[Plan], served: ServedModel, exchange: Exchange) -> AsyncGenerator[Piece]:
    """The pieces of all plans as they come; counts tokens and endings.

    Raises:
        EngineRefusal: as the engine does.
    """
    if len(plans) == 1:
        return _run_one(plans[0], served, exchange)
    return _merged([_run_one(plan, served, exchange) for plan in plans])


def _reading(
    request: ChatRequest | CompletionRequest, place: int, prompt: Sequence[int], served: ServedModel
) -> Reading | None:
    echo = None
    if isinstance(request, CompletionRequest) and request.echo:
        sent = request.prompts[place]
        echo = sent if isinstance(sent, str) else served.tokenizer.decode(sent, skip_special_tokens=False)
    if echo is None and request.scores is None:
        return None
    return Reading(place, tuple(prompt), echo, alone=request.token_limit == 0)


async def _read_alone(
    plan: Plan, reading: Reading, served: ServedModel, exchange: Exchange
) -> AsyncGenerator[Piece]:
    """The prompt is read and scored with the first token after it, which nobody asked for."""
    async with aclosing(served.engine.generate(plan.request)) as outputs:
        first = await anext(outputs)
    exchange.finished("length")
    scored = replace(reading, scored=first.prompt_logprobs or ())
    yield Piece(plan.index, "", None, "length", reading=scored)


async def _run_one(plan: Plan, served: ServedModel, exchange: Exchange) -> AsyncGenerator[Piece]:
    reading = plan.reading
    if reading is not None and reading.alone:
        async for piece in _read_alone(plan, reading, served, exchange):
            yield piece
        return
    hidden = served.tokenizer.eos_ids
    stream = TextStream(served.new_decoder(), plan.stops, hidden)
    reader = CallReader(plan.functions) if plan.functions else None
    async with aclosing(served.engine.generate(plan.request)) as outputs:
        async for output in outputs:
            exchange.completion_tokens += 1
            reason: Ending | None = output.finish_reason
            text = stream.feed(output.token_id, last=reason is not None)
            if stream.stopped:
                reason = "stop"
            calls: Sequence[CallDelta] = ()
            if reader is not None:
                text, calls = reader.feed(text, last=reason is not None)
                if reason == "stop" and reader.complete:
                    reason = "tool_calls"
            if reason is not None:
                exchange.finished(reason)
            if reading is not None and output.prompt_logprobs is not None:
                reading = replace(reading, scored=output.prompt_logprobs)
            shown = None if output.token_id in hidden else output
            yield Piece(plan.index, text, shown, reason, calls, reading)
            reading = None
            if stream.stopped:
                return


async def _merged(streams: Sequence[AsyncGenerator[Piece]]) -> AsyncGenerator[Piece]:
    """Pieces of several choices, each choice's in order; the first failure ends all."""
    queue: asyncio.Queue[Piece | Exception | None] = asyncio.Queue(_QUEUED_PIECES)

    async def pump(stream: AsyncGenerator[Piece]) -> None:
        try:
            async with aclosing(stream):
                async for piece in stream:
                    await queue.put(piece)
            await queue.put(None)
        except Exception as failure:  # noqa: BLE001 - raised again where the pieces are read
            await queue.put(failure)

    pumps = [asyncio.create_task(pump(stream)) for stream in streams]
    running = len(streams)
    try:
        while running:
            match await queue.get():
                case None:
                    running -= 1
                case Exception() as failure:
                    raise failure
                case piece:
                    yield piece
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def _sampling(request: ChatRequest | CompletionRequest, prompt: int, context: int) -> SamplingParams:
    param = "messages" if isinstance(request, ChatRequest) else "prompt"
    room, limit = context - prompt, request.token_limit
    if room < (limit or 1):
        raise context_exceeded(context, prompt, limit or None, param)
    return SamplingParams(
        max_tokens=room if limit is None else max(limit, 1),
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        seed=request.seed,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        logprobs=request.alternatives,
        ignore_eos=request.ignore_eos,
        prompt_logprobs=request.scores,
        prompt_logprobs_from=request.prompt_logprobs_from,
    )

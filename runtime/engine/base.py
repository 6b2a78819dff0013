"""The seam between the API and whatever makes tokens: plain data in, plain data out.

    EngineRefusal      the engine will not run this request; ``code`` says why, nothing was generated

An engine sees token ids only. Text, stop strings, chat templates and wire formats belong to the API
above it, and attention, batching and memory to the engine below, so that either can be replaced.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from runtime.engine.telemetry import Telemetry

FinishReason = Literal["stop", "length"]

MAX_LOGPROBS = 20
"""The most alternatives a request may ask for per token; the bound of the OpenAI API."""


class EngineRefusal(Exception):
    """The engine will not run a request.

    Args:
        code: ``context_length_exceeded``, ``engine_overloaded``, ``engine_stopped``, ``engine_failed``,
            ``deadline_exceeded``, ``adapter_not_found``, ``adapter_failed``, ``guide_failed``,
            ``duplicate_request`` or ``invalid_parameter``.
        detail: numbers and names for a person; never content.
        retry_after: seconds after which the same request should find room; None if waiting will not help.
    """

    def __init__(self, code: str, detail: str = "", retry_after: float | None = None) -> None:
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        super().__init__(f"{code}: {detail}" if detail else code)


class TokenGuide(Protocol):
    """Keeps one answer to a form (a grammar, a schema): says which tokens may follow. Used by one thread."""

    def allowed(self) -> bytes | None:
        """Bit ``i % 8`` of byte ``i // 8`` is set if token ``i`` may be next; None if any may."""
        ...

    def advance(self, token_id: int) -> None:
        """The answer goes on with this token, one of those allowed."""
        ...


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen, and when to stop.

    Args:
        max_tokens: at most this many tokens are generated (at least 1).
        temperature: 0 is greedy (ties go to the lowest id); otherwise logits are divided by it.
        top_p: keep the smallest set of tokens whose probabilities reach this sum.
        top_k: keep only this many of the likeliest tokens; 0 keeps all.
        min_p: keep only tokens at least this fraction as likely as the likeliest.
        seed: with a seed the draws of a request are repeatable, whatever else is in the batch.
        presence_penalty: taken once from the logit of every token already generated (-2 to 2).
        frequency_penalty: taken per occurrence from the logit of every token already generated (-2 to 2).
        logprobs: how many alternatives to report per token; None reports no log-probabilities at all.
        ignore_eos: go on past the model's end-of-sequence tokens.
        stop_token_ids: further tokens that end the generation, as the model's own do.
        prompt_logprobs: how many alternatives to report per token of the prompt, with the token's own
            log-probability; None reports nothing of the prompt.
        prompt_logprobs_from: position of the first prompt token reported, at least 1: nothing precedes the
            token at 0. What comes before may be found in the prefix cache.

    Raises:
        EngineRefusal: ``invalid_parameter`` if a value is out of its range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    prompt_logprobs: int | None = None
    prompt_logprobs_from: int = 1

    def __post_init__(self) -> None:
        ranges = {
            "max_tokens": self.max_tokens >= 1,
            "temperature": self.temperature >= 0 and math.isfinite(self.temperature),
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "min_p": 0 <= self.min_p <= 1,
            "presence_penalty": -2 <= self.presence_penalty <= 2,  # noqa: PLR2004 the OpenAI API's range
            "frequency_penalty": -2 <= self.frequency_penalty <= 2,  # noqa: PLR2004 the OpenAI API's range
            "logprobs": self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
            "prompt_logprobs": self.prompt_logprobs is None or 0 <= self.prompt_logprobs <= MAX_LOGPROBS,
            "prompt_logprobs_from": self.prompt_logprobs_from >= 1,
        }
        for name, holds in ranges.items():
            if not holds:
                raise EngineRefusal("invalid_parameter", name)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True, repr=False)
class GenerateRequest:
    """One sequence to continue.

    Args:
        request_id: unique among the running requests; may appear in logs.
        tenant: thumbprint of the tenant's key; sequences of two tenants share nothing.
        prompt_token_ids: the prompt, at least one token.
        params: sampling and stopping.
        label_domain: the label under which cached work may be reused.
        adapter_digest: the adapter to run with, or None for the base model.
        priority: from -8 to 8; higher goes first.
        weight: the tenant's share against others' while both wait; above 0.
        deadline: on ``time.monotonic()``; past it the request ends with ``deadline_exceeded``.
        guide: keeps the answer to a form; its own, not shared with another request.
    """

    request_id: str
    tenant: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    label_domain: str = ""
    adapter_digest: str | None = None
    priority: int = 0
    weight: float = 1.0
    deadline: float | None = None
    guide: TokenGuide | None = None

    def __repr__(self) -> str:
        return f"GenerateRequest({self.request_id}, {len(self.prompt_token_ids)} prompt tokens)"


TopLogprobs = tuple[tuple[int, float], ...]
"""(token, log-probability) pairs, likeliest first."""

PromptLogprobs = tuple[tuple[float, int, TopLogprobs], ...]
"""Of each prompt token reported: its log-probability, its rank (1: the likeliest), the alternatives there."""


@dataclass(frozen=True, repr=False)
class TokenOutput:
    """One generated token.

    The end-of-sequence token is handed out too, as the last output with ``finish_reason`` "stop": it is
    counted, and the API does not show it.

    Args:
        token_id: the token.
        logprob: its natural-log probability before temperature and filters; None unless asked for.
        top_logprobs: (token, log-probability) pairs, likeliest first; None unless asked for.
        finish_reason: None while the sequence goes on.
        prompt_logprobs: with the first output only; None unless asked for.
    """

    token_id: int
    logprob: float | None = None
    top_logprobs: TopLogprobs | None = None
    finish_reason: FinishReason | None = None
    prompt_logprobs: PromptLogprobs | None = None

    def __repr__(self) -> str:
        return f"TokenOutput(finish_reason={self.finish_reason})"


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is: for ``/v1/models``, receipts and metrics.

    Args:
        backend: the engine's name, e.g. ``"sealgate"``.
        model_name: the name that clients ask for.
        context_length: prompt and completion together, in tokens.
        dtype: of weights and activations, e.g. ``"bf16"``.
        self_check: digest of the check that it passed before it took requests; None if it has none.
    """

    backend: str
    model_name: str
    context_length: int
    dtype: str
    self_check: str | None = None


@dataclass(frozen=True)
class EngineStats:
    """Counters since start, free of content.

    Args:
        running: sequences that hold memory now.
        waiting: sequences not yet started.
        finished: sequences that ended by themselves.
        cancelled: sequences that their consumer gave up.
        failed: sequences that ended by a fault of the engine.
        prompt_tokens: prompt tokens run through the model.
        completion_tokens: tokens handed out.
        steps: forward passes.
        preemptions: times a sequence gave its memory up for another, to be run again.
        telemetry: further figures; None where an engine keeps none.
    """

    running: int
    waiting: int
    finished: int
    cancelled: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    steps: int
    preemptions: int = 0
    telemetry: Telemetry | None = None


class Engine(Protocol):
    """Anything that continues token sequences."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is; constant from start to stop."""
        ...

    async def start(self) -> None:
        """Take requests from now on. Called once, before the first request."""
        ...

    async def stop(self) -> None:
        """End every running request with ``engine_stopped`` and free all memory. May be called twice."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenOutput]:
        """Continue ``request``, one output per token; the last has a ``finish_reason``.

        Closing the generator early (``aclose()``) cancels the request and frees its memory at once.

        Raises:
            EngineRefusal: at the first iteration if the request cannot run; later only with
                ``engine_stopped``, ``engine_failed``, ``deadline_exceeded`` or ``guide_failed``.
        """
        ...

    def stats(self) -> EngineStats:
        """Counters, free of content."""
        ...


def check_request(request: GenerateRequest, info: EngineInfo) -> None:
    """Refuse what no engine could run.

    Raises:
        EngineRefusal: ``invalid_parameter`` for an empty prompt; ``context_length_exceeded`` if prompt
            and ``max_tokens`` together do not fit the context.
    """
    prompt_tokens = len(request.prompt_token_ids)
    if prompt_tokens == 0:
        raise EngineRefusal("invalid_parameter", "the prompt is empty")
    if prompt_tokens + request.params.max_tokens > info.context_length:
        raise EngineRefusal(
            "context_length_exceeded",
            f"{prompt_tokens} prompt tokens and {request.params.max_tokens} to generate, "
            f"the context holds {info.context_length}",
        )

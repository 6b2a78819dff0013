"""What chat and plain completions have in common: how tokens are chosen, and how an answer is streamed."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.body import Body
from attest.protocol.openai.fields import (
    MAX_CHOICES,
    MAX_NAME,
    MAX_TOKENS,
    MAX_TOP_LOGPROBS,
    Name,
    TokenLimit,
)
from attest.protocol.openai.forms import ResponseFormat, StructuredOutputs

MAX_STOPS: Final = 16
MAX_STOP_CHARACTERS: Final = 256

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class StreamOptions(Body):
    """Options of a streamed answer.

    ``include_obfuscation`` brings all events to few sizes, so that whoever counts sealed bytes does not learn
    the lengths of tokens; as in the OpenAI API, it is on unless switched off.
    """

    include_usage: bool = False
    include_obfuscation: bool = True


_DEFAULT_STREAMING: Final = StreamOptions()


class Sampling(Body):
    """What chat and plain completions have in common."""

    model: Name
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: TokenLimit | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1 << 20, description="0 keeps all. Not in the OpenAI API.")] = 0
    min_p: Annotated[float, Field(ge=0, le=1, description="Not in the OpenAI API.")] = 0.0
    ignore_eos: Annotated[bool, Field(description="For benchmarks. Not in the OpenAI API.")] = False
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS, fail_fast=True)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, int], Field(max_length=0)] | None = None
    user: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    prompt_logprobs: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_TOP_LOGPROBS,
            description="Alternatives to report per token of the prompt, beside the token itself. Not in the "
            "OpenAI API; as vLLM has it.",
        ),
    ] = None
    prompt_logprobs_from: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_TOKENS,
            description="Position of the first prompt token whose log-probability is reported; what comes "
            "before may be found in the prefix cache. Not in the OpenAI API.",
        ),
    ] = 1

    @property
    def formatted(self) -> bool:
        """Whether the answer is held to a form."""
        plain = self.response_format is None or self.response_format.type == "text"
        return self.structured_outputs is not None or not plain

    @property
    def scores(self) -> int | None:
        """How many alternatives per token of the prompt are looked at; None if it is not scored."""
        return self.prompt_logprobs

    @property
    def choices(self) -> int:
        """How many answers to each prompt."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end an answer."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def streaming(self) -> StreamOptions:
        """The options of a streamed answer, with their defaults."""
        return self.stream_options or _DEFAULT_STREAMING

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("rule", "stream_options is only allowed when stream is true")
        return self

    @model_validator(mode="after")
    def _check_prompt_logprobs(self) -> Self:
        if self.prompt_logprobs is not None and self.stream:
            raise PydanticCustomError("rule", "prompt_logprobs is only allowed when stream is false")
        if self.prompt_logprobs_from != 1 and self.scores is None:
            raise PydanticCustomError(
                "rule", "prompt_logprobs_from is only allowed with prompt_logprobs, or with echo and logprobs"
            )
        return self

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.structured_outputs is not None and self.response_format is not None:
            raise PydanticCustomError("rule", "structured_outputs and response_format exclude each other")
        if self.ignore_eos and self.formatted:
            raise PydanticCustomError("rule", "ignore_eos is only allowed for free text")
        return self

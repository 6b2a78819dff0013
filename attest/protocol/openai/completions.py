"""``POST /v1/completions``."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.openai.fields import MAX_CHOICES, MAX_TOKENS, MAX_TOP_LOGPROBS, TokenIds
from attest.protocol.openai.sampling import Sampling

MAX_PROMPTS: Final = 16

DEFAULT_TOKENS: Final = 16
"""The OpenAI API's default for /v1/completions; a chat goes on to the end of the context."""


class CompletionRequest(Sampling):
    """``POST /v1/completions``."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    echo: bool | None = None
    suffix: Literal[""] | None = None

    @property
    def token_limit(self) -> int:
        """At most this many tokens per answer; 0 is the prompt alone."""
        return DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many log-probabilities per token; None for none at all."""
        return self.logprobs

    @property
    def scores(self) -> int | None:
        """As ``prompt_logprobs`` and ``echo`` ask for it, whichever wants more."""
        echoed = self.logprobs if self.echo else None
        return max((each for each in (self.prompt_logprobs, echoed) if each is not None), default=None)

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Each prompt, as text or as tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt

    @model_validator(mode="after")
    def _check_echo(self) -> Self:
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise PydanticCustomError(
                "rule", "max_tokens 0 is only allowed when echo is true or prompt_logprobs is set"
            )
        if self.echo and self.stream:
            raise PydanticCustomError("rule", "echo is only allowed when stream is false")
        return self

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.best_of is not None and self.best_of != self.choices:
            raise PydanticCustomError("rule", "best_of is only allowed equal to n")
        if len(self.prompts) * self.choices > MAX_CHOICES:
            raise PydanticCustomError("rule", "at most 16 answers in one request: prompts times n")
        return self

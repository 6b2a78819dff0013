"""``POST /v1/chat/completions``."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.openai.fields import MAX_NAME, MAX_TOP_LOGPROBS, TokenLimit
from attest.protocol.openai.forms import ToolChoice, Tools, check_tools
from attest.protocol.openai.messages import Messages
from attest.protocol.openai.sampling import Sampling

MAX_METADATA: Final = 16

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=MAX_METADATA),
]


class ChatRequest(Sampling):
    """``POST /v1/chat/completions``."""

    messages: Messages
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Tools | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: ToolChoice | None = None
    function_call: Literal["none", "auto"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    # Accepted and ignored: they change neither the answer nor what is promised about it.
    metadata: Metadata | None = None
    prompt_cache_key: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning_effort: Annotated[str, Field(max_length=16)] | None = None
    safety_identifier: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    service_tier: Annotated[str, Field(max_length=16)] | None = None
    store: Literal[False] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    @property
    def token_limit(self) -> int | None:
        """At most this many tokens per answer; None is up to the end of the context."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many log-probabilities per token; None for none at all, 0 for the chosen token's alone."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _check_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("rule", "top_logprobs is only allowed when logprobs is true")
        return self

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        check_tools(self.tools or [], self.tool_choice)
        if self.tools and (self.structured_outputs is not None or self.ignore_eos):
            raise PydanticCustomError("rule", "tools exclude structured_outputs and ignore_eos")
        return self

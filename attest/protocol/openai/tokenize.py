"""``POST /v1/tokenize`` and ``/v1/detokenize``: not in the OpenAI API; members as vLLM names them.

vLLM has them at ``/tokenize`` and ``/detokenize``, where they are found too.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.body import Body
from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.fields import MAX_TOKENS, Name
from attest.protocol.openai.forms import Tools, check_tools
from attest.protocol.openai.messages import Messages

_UNNAMED = "-"
"""No model's name matters to a conversation's text."""


class _NothingRuns(Body):
    """What both have in common."""

    model: Annotated[
        Name | None, Field(description="Without one, the model that generates text is meant.")
    ] = None

    @property
    def stream(self) -> bool:
        """Always whole."""
        return False

    @property
    def token_limit(self) -> int | None:
        """Nothing is generated."""
        return None


class TokenizeRequest(_NothingRuns):
    """``POST /v1/tokenize``."""

    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    return_token_strs: bool | None = None
    add_special_tokens: Annotated[
        bool | None,
        Field(description="Whether a prompt gets what the model expects around plain text; it does anyway."),
    ] = None
    add_generation_prompt: Literal[True] | None = None
    continue_final_message: Literal[False] | None = None

    @property
    def chat(self) -> ChatRequest | None:
        """The conversation whose prompt is counted; None if it is a plain text."""
        if self.messages is None:
            return None
        return ChatRequest(model=self.model or _UNNAMED, messages=self.messages, tools=self.tools)

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("rule", "either prompt or messages is required, and not both")
        if self.tools is not None and self.messages is None:
            raise PydanticCustomError("rule", "tools is only allowed with messages")
        if self.add_special_tokens and self.messages is not None:
            raise PydanticCustomError("rule", "add_special_tokens is only allowed with prompt")
        check_tools(self.tools or [], None)
        return self


class DetokenizeRequest(_NothingRuns):
    """``POST /v1/detokenize``."""

    tokens: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MAX_TOKENS, fail_fast=True)
    ]

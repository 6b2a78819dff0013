"""``POST /v1/tokenize``."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.body import Body
from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.fields import Name
from attest.protocol.openai.forms import Tools, check_tools
from attest.protocol.openai.messages import Messages


class TokenizeRequest(Body):
    """``POST /v1/tokenize``: not in the OpenAI API; members as vLLM's ``/tokenize`` names them."""

    model: Name
    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None

    @property
    def chat(self) -> ChatRequest | None:
        """The conversation whose prompt is counted; None if it is a plain text."""
        if self.messages is None:
            return None
        return ChatRequest(model=self.model, messages=self.messages, tools=self.tools)

    @property
    def stream(self) -> bool:
        """Always whole."""
        return False

    @property
    def token_limit(self) -> int | None:
        """Nothing is generated."""
        return None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("rule", "either prompt or messages is required, and not both")
        if self.tools is not None and self.messages is None:
            raise PydanticCustomError("rule", "tools is only allowed with messages")
        check_tools(self.tools or [], None)
        return self

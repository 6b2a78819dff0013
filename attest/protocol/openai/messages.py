"""The turns of a conversation."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.body import Body
from attest.protocol.openai.fields import Name
from attest.protocol.openai.forms import ToolCalls

MAX_MESSAGES: Final = 2048
MAX_PARTS: Final = 256


class TextPart(Body):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


Content = str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]


class Message(Body):
    """One turn of a conversation. What the assistant called, and what a tool answered, are turns too."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Name | None = None
    refusal: str | None = None
    tool_calls: ToolCalls | None = None
    tool_call_id: Name | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.content is None and self.tool_calls is None:
            raise PydanticCustomError("content_missing", "only tool_calls stand without content")
        if self.tool_calls is not None and self.role != "assistant":
            raise PydanticCustomError("rule", "tool_calls are the assistant's")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise PydanticCustomError("rule", "tool_call_id is for messages of role tool, which need it")
        return self


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]

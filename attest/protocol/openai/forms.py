"""What a request may say about the form of its answer: formats, grammars, tools; and what a call looks like.

Sizes are bounded here, for both sides; whether a schema can be enforced is known to the runtime alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from attest.protocol.body import Body

MAX_TOOLS: Final = 128
MAX_CALLS: Final = 128
"""In one message of a conversation."""

MAX_SCHEMA_NODES: Final = 8192
"""Values in one schema, members and elements alike."""

MAX_SCHEMA_DEPTH: Final = 48
"""Compilers of schemas recurse, and a stack that overflows takes the process along."""

MAX_PATTERN: Final = 4096
MAX_OPTIONS: Final = 1024
MAX_OPTION: Final = 4096
MAX_DESCRIPTION: Final = 1 << 14
MAX_ARGUMENTS: Final = 1 << 18


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, if it is no larger than a compiler may be given."""
    left = MAX_SCHEMA_NODES
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        left -= len(level)
        if left < 0:
            raise PydanticCustomError("rule", f"a schema may have {MAX_SCHEMA_NODES} values")
        level = [child for value in level for child in _children(value)]
        if not level:
            return schema
    raise PydanticCustomError("rule", f"a schema may be {MAX_SCHEMA_DEPTH} levels deep")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


Schema = Annotated[dict[str, Any], AfterValidator(_bounded)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION)]


class JsonSchema(Body):
    """A schema with its name. It is enforced whatever ``strict`` says."""

    name: FunctionName
    description: Description | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """Free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("rule", "json_schema is for the type 'json_schema', which needs it")
        return self


class StructuredOutputs(Body):
    """One of three forms. Not in the OpenAI API; named as vLLM names them."""

    json_: Annotated[Schema | None, Field(alias="json", description="A JSON schema.")] = None
    regex: Annotated[str, Field(min_length=1, max_length=MAX_PATTERN)] | None = None
    choice: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_OPTION)]],
            Field(min_length=1, max_length=MAX_OPTIONS, fail_fast=True),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(form is not None for form in (self.json_, self.regex, self.choice)) != 1:
            raise PydanticCustomError("rule", "structured_outputs takes one of json, regex and choice")
        return self


class Function(Body):
    """A function that the model may call, with arguments held to ``parameters`` whatever ``strict`` says."""

    name: FunctionName
    description: Description | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionReference(Body):
    """A function by its name."""

    name: FunctionName


class NamedTool(Body):
    """The tool that is to be called."""

    type: Literal["function"]
    function: FunctionReference


class CalledFunction(Body):
    """What was called; the arguments are JSON as text, as the model wrote it."""

    name: FunctionName
    arguments: Annotated[str, Field(max_length=MAX_ARGUMENTS)]


class ToolCall(Body):
    """A call in an assistant's message."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: CalledFunction


Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool
ToolCalls = Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_CALLS, fail_fast=True)]


def check_tools(tools: list[Tool], choice: ToolChoice | None) -> None:
    """That names are unique, and that what is to be called is there.

    Raises:
        PydanticCustomError: ``rule``.
    """
    names = {tool.function.name for tool in tools}
    if len(names) < len(tools):
        raise PydanticCustomError("rule", "each function in tools must have a name of its own")
    if not tools and choice not in {None, "none", "auto"}:
        raise PydanticCustomError("rule", "tool_choice needs tools to choose from")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise PydanticCustomError("rule", "tool_choice names a function that is not in tools")

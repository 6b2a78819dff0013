"""The OpenAI-shaped requests, as both sides validate them.

Both sides read the same bytes with the same models, so what the gateway decided on is what the runtime runs.
Strict types (``"16"`` is not a number, ``1`` is not true). A documented OpenAI parameter that cannot change
what this runtime answers is accepted and ignored; one that would (audio, web search) is refused by
name, because an answer without it would be taken for one with it; all others are unknown parameters.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from attest.protocol import openai_forms as forms
from attest.protocol import paths
from attest.protocol.body import Body
from attest.protocol.openai_forms import ResponseFormat, StructuredOutputs, ToolCalls, ToolChoice, Tools

MAX_MESSAGES: Final = 2048
MAX_PARTS: Final = 256
MAX_CHOICES: Final = 16
MAX_PROMPTS: Final = 16
MAX_INPUTS: Final = 2048
MAX_STOPS: Final = 16
MAX_STOP_CHARACTERS: Final = 256
MAX_TOKENS: Final = 1 << 20
MAX_TOP_LOGPROBS: Final = 20
MAX_NAME: Final = 256
MAX_METADATA: Final = 16

COMPLETION_DEFAULT_TOKENS: Final = 16
"""The OpenAI API's default for /v1/completions; a chat goes on to the end of the context."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
TokenLimit = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=MAX_METADATA),
]


class InvalidBody(ValueError):
    """The body is not a request of this API. Holds names and rules, never values.

    Args:
        code: ``invalid_json``, ``missing_parameter``, ``unknown_parameter``, ``unsupported_parameter``,
            ``invalid_type`` or ``invalid_value``.
        param: the member that is wrong, e.g. ``messages.0.content``; None for the body itself.
        message: what is wrong and what would be right, one sentence.
    """

    def __init__(self, code: str, param: str | None, message: str) -> None:
        self.code = code
        self.param = param
        self.message = message
        super().__init__(f"{code}: {param}")


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


class StreamOptions(Body):
    """Options of a streamed answer.

    ``include_obfuscation`` brings all events to few sizes, so that whoever counts sealed bytes does not learn
    the lengths of tokens; as in the OpenAI API, it is on unless switched off.
    """

    include_usage: bool = False
    include_obfuscation: bool = True


_DEFAULT_STREAMING: Final = StreamOptions()


class _Sampling(Body):
    """What chat and plain completions have in common."""

    ignored: ClassVar[frozenset[str]] = frozenset()

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

    @property
    def formatted(self) -> bool:
        """Whether the answer is held to a form."""
        plain = self.response_format is None or self.response_format.type == "text"
        return self.structured_outputs is not None or not plain

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
    def _check_form(self) -> Self:
        if self.structured_outputs is not None and self.response_format is not None:
            raise PydanticCustomError("rule", "structured_outputs and response_format exclude each other")
        if self.ignore_eos and self.formatted:
            raise PydanticCustomError("rule", "ignore_eos is only allowed for free text")
        return self


class ChatRequest(_Sampling):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
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
        forms.check_tools(self.tools or [], self.tool_choice)
        if self.tools and (self.structured_outputs is not None or self.ignore_eos):
            raise PydanticCustomError("rule", "tools exclude structured_outputs and ignore_eos")
        return self


TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_TOKENS, fail_fast=True)
]


class CompletionRequest(_Sampling):
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
    prompt_logprobs_from: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_TOKENS,
            description="Position of the first prompt token whose log-probability echo reports; what comes "
            "before may be found in the prefix cache. Not in the OpenAI API.",
        ),
    ] = 1
    suffix: Literal[""] | None = None

    @property
    def token_limit(self) -> int:
        """At most this many tokens per answer; 0 is the prompt alone."""
        return COMPLETION_DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many log-probabilities per token; None for none at all."""
        return self.logprobs

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
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("rule", "max_tokens 0 is only allowed when echo is true")
        if self.echo and self.stream:
            raise PydanticCustomError("rule", "echo is only allowed when stream is false")
        if self.prompt_logprobs_from != 1 and (not self.echo or self.logprobs is None):
            raise PydanticCustomError("rule", "prompt_logprobs_from is only allowed with echo and logprobs")
        return self

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.best_of is not None and self.best_of != self.choices:
            raise PydanticCustomError("rule", "best_of is only allowed equal to n")
        if len(self.prompts) * self.choices > MAX_CHOICES:
            raise PydanticCustomError("rule", "at most 16 answers in one request: prompts times n")
        return self


class EmbeddingsRequest(Body):
    """``POST /v1/embeddings``."""

    model: Name
    input: (
        Annotated[str, Field(min_length=1)]
        | TokenIds
        | Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True),
        ]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    user: Annotated[str, Field(max_length=MAX_NAME)] | None = None

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """Each text, as text or as tokens."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return self.input

    @property
    def single(self) -> bool:
        """Whether it is one text by itself, and not a list of one."""
        return isinstance(self.input, str) or isinstance(self.input[0], int)

    @property
    def stream(self) -> bool:
        """An answer of vectors is always whole."""
        return False

    @property
    def token_limit(self) -> int | None:
        """Nothing is generated."""
        return None


class TokenizeRequest(Body):
    """``POST /v1/tokenize``: not in the OpenAI API; members as vLLM's ``/tokenize`` names them."""

    model: Name
    prompt: str | None = None
    messages: (
        Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] | None
    ) = None
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
        forms.check_tools(self.tools or [], None)
        return self


Request = TypeVar("Request", bound=Body)

REQUESTS: Final[Mapping[str, type[ChatRequest | CompletionRequest | EmbeddingsRequest | TokenizeRequest]]] = {
    paths.CHAT_PATH: ChatRequest,
    paths.COMPLETIONS_PATH: CompletionRequest,
    paths.EMBEDDINGS_PATH: EmbeddingsRequest,
    paths.TOKENIZE_PATH: TokenizeRequest,
}

UNSUPPORTED: Final = frozenset(
    {
        *("audio", "best_of", "function_call", "functions", "logit_bias", "modalities", "moderation"),
        *("prediction", "prompt_cache_options", "store", "suffix", "web_search_options"),
    }
)
"""Documented OpenAI parameters that are refused unless they ask for what happens anyway."""

_UNIONS: Final = {
    "stop": f"a string or a list of at most {MAX_STOPS}, each of 1 to {MAX_STOP_CHARACTERS} characters",
    "content": "a string or a list of text parts; images, audio and files are not supported",
    "tool_choice": "none, auto, required, or a function by its name, which must be among the tools",
    "prompt": f"a string, a list of token ids, or a list of at most {MAX_PROMPTS} of either, none empty",
    "input": f"a string, a list of token ids, or a list of at most {MAX_INPUTS} of either, none empty",
}
"""pydantic explains every arm of a union in turn; one sentence says more."""


def parse_request(model: type[Request], body: bytes) -> Request:
    """Validate a body, once.

    Raises:
        InvalidBody: with the first thing that is wrong.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _explained(error.errors(include_url=False, include_input=False)[0]) from None


def _explained(error: ErrorDetails) -> InvalidBody:
    """The API's words for pydantic's; names of members only where they are ours."""
    kind, location = error["type"], error["loc"]
    param = _param(location)
    if named := _last(location, UNSUPPORTED):
        return InvalidBody("unsupported_parameter", named, f"This runtime does not support '{named}'.")
    match kind:
        case "json_invalid":
            return InvalidBody("invalid_json", None, "The body is not one JSON document in UTF-8.")
        case "rule":
            code, message = "invalid_value", f"{error['msg']}."
        case "extra_forbidden":
            code, message = "unknown_parameter", "The request has a parameter unknown to this API."
        case "missing":
            code, message = "missing_parameter", f"The parameter '{param}' is required."
        case "content_missing":
            param = f"{param}.content"
            code, message = "missing_parameter", f"The parameter '{param}' is required."
        case _ if union := _last(location, _UNIONS):
            code, message = "invalid_value", f"'{param}' must be {_UNIONS[union]}."
        case _:
            code = "invalid_type" if kind.endswith("_type") else "invalid_value"
            message = f"'{param or 'the body'}' is not acceptable: {error['msg']}."
    return InvalidBody(code, param, message)


def _last(location: tuple[int | str, ...], names: Container[str]) -> str | None:
    return next((part for part in reversed(location) if isinstance(part, str) and part in names), None)


_OWN: Final = (
    *(ChatRequest, CompletionRequest, EmbeddingsRequest, TokenizeRequest),
    *(Message, TextPart, StreamOptions, ResponseFormat, StructuredOutputs),
    *(forms.JsonSchema, forms.Tool, forms.Function, forms.ToolCall, forms.CalledFunction),
)
_OWN_NAMES: Final = frozenset(
    field.alias or name for model in _OWN for name, field in model.model_fields.items()
)


def _param(location: tuple[int | str, ...]) -> str | None:
    """Where, up to the first name that the sender made up (or pydantic did, for an arm of a union)."""
    path: list[str] = []
    for part in location:
        if isinstance(part, str) and part not in _OWN_NAMES:
            break
        path.append(str(part))
    return ".".join(path) or None

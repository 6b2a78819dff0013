"""The OpenAI-shaped answers, for documentation and tests.

The runtime writes them by hand, token by token (``runtime.api.answers``), because building a model per token
costs more than sealing it; a test holds what it writes against these models.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length", "tool_calls"]


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ErrorDetail(_Answer):
    """What went wrong and what to do; ``code`` is stable."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(_Answer):
    """Every error of the API."""

    error: ErrorDetail


class Usage(_Answer):
    """Token counts, over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(_Answer):
    """One alternative at one place; ``bytes`` are exact where ``token`` may be part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """The chosen token at one place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(_Answer):
    """Log-probabilities of a chat answer's tokens."""

    content: list[TokenLogprob]
    refusal: None


class CompletionLogprobs(_Answer):
    """Log-probabilities of a plain completion's tokens, those of an echoed prompt before them.

    The first token of a prompt follows nothing, so it has none (null).
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class PromptLogprob(_Answer):
    """One token at one place of a prompt; ``rank`` 1 is the likeliest there."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""Of each place of a prompt, by token id: the prompt's own token, and the likeliest; null where not scored.

The shape is vLLM's. The first place never has any: nothing comes before it.
"""


class CalledFunction(_Answer):
    """What is called; the arguments are JSON as text."""

    name: str
    arguments: str


class AnswerCall(_Answer):
    """A call of a function."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(_Answer):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[AnswerCall] | None = None


class ChatChoice(_Answer):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatAnswer(_Answer):
    """``POST /v1/chat/completions``, not streamed."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: PromptLogprobs | None = None


class FunctionDelta(_Answer):
    """What a chunk adds to what is called."""

    name: str | None = None
    arguments: str


class CallDelta(_Answer):
    """What a chunk adds to a call; id, type and name come with its first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(_Answer):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChunkChoice(_Answer):
    """What a chunk adds to one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(_Answer):
    """One event of a streamed chat answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    obfuscation: str | None = None


class CompletionChoice(_Answer):
    """One answer, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    prompt_logprobs: PromptLogprobs | None = None


class CompletionAnswer(_Answer):
    """``POST /v1/completions``: the whole answer, or one event of a streamed one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    obfuscation: str | None = None


class EmbeddingsUsage(_Answer):
    """Token counts, over all texts; special tokens count."""

    prompt_tokens: int
    total_tokens: int


class Embedding(_Answer):
    """One text's vector, of length 1: numbers, or base64 of them as little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(_Answer):
    """``POST /v1/embeddings``."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class TokenizeAnswer(_Answer):
    """``POST /v1/tokenize``: the prompt's tokens, and how many the model can hold.

    ``token_strs`` are the vocabulary's own names of the tokens, if they were asked for.
    """

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None


class DetokenizeAnswer(_Answer):
    """``POST /v1/detokenize``: the text of the tokens, special ones written out."""

    prompt: str


class ModelEntry(_Answer):
    """One model, or an adapter of its ``parent``; the digests say which weights the name stands for.

    ``kind`` says which routes take it; ``dimensions`` are an embedding's. Lengths are in tokens.
    An adapter's digest and rank are null until it has been asked for, by a request or by ``/v1/models/{id}``.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Literal["generate", "embed"]
    context_length: int
    max_output_tokens: int
    max_logprobs: int
    base_model_digest: str
    parent: str | None
    max_adapter_rank: int | None
    adapter_digest: str | None
    adapter_rank: int | None
    dimensions: int | None


class ModelList(_Answer):
    """``GET /v1/models``."""

    object: Literal["list"]
    data: list[ModelEntry]

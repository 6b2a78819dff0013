"""From a request's text to the tokens of its prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from attest.protocol.openai.embeddings import EmbeddingsRequest
from attest.refusal import Refused
from runtime.api import forms
from runtime.api.errors import ApiError
from runtime.api.served import Tokenizer

_Encoded = TypeVar("_Encoded")

_LONG_TEXT = 16_384
"""Characters. Longer prompts are tokenised in a thread, so that other answers keep streaming meanwhile."""


class Prompts:
    """Tokenises.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # One long prompt at a time: tokenising is work that its sender has not been admitted for yet.
        self._tokenising = asyncio.Semaphore(1)

    async def of_chat(self, request: ChatRequest) -> list[int]:
        """The prompt of a conversation.

        Raises:
            ApiError: the model's template does not take this conversation.
        """
        messages, tools = forms.messages(request), forms.tools(request)
        characters = sum(len(message["content"]) for message in messages)
        if tools or any("tool_calls" in message for message in messages):
            characters = _LONG_TEXT  # schemas, as long as they like
        try:
            return await self._tokenise(
                lambda: self._tokenizer.encode_chat(messages, tools=tools or None), characters
            )
        except Refused as error:  # e.g. a template that wants roles to alternate
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                error.code.replace("-", "_"),
                "The model's chat template does not accept this conversation.",
                "messages",
            ) from None

    async def of_completion(self, request: CompletionRequest) -> list[list[int]]:
        """The prompts of a plain completion, in order.

        Raises:
            ApiError: one is empty, or holds what is no token of the model.
        """
        prompts = await self._plain(request.prompts, "prompt")
        if not all(prompts):
            raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_value", "The prompt is empty.", "prompt")
        return prompts

    async def of_text(self, text: str, *, special: bool = True) -> list[int]:
        """The prompt that a text is, which may be empty.

        Args:
            text: any text.
            special: whether what the model expects around plain text is put around it.
        """
        return await self._tokenise(
            lambda: self._tokenizer.encode(text, add_special_tokens=special), len(text)
        )

    async def names(self, tokens: list[int]) -> list[str]:
        """What the vocabulary calls tokens."""
        return await self._tokenise(lambda: self._tokenizer.names(tokens), len(tokens))

    async def text(self, tokens: list[int]) -> str:
        """What tokens say, special ones written out.

        Raises:
            ApiError: one is no token of the model.
        """
        self._check([tokens], "tokens")
        decode = self._tokenizer.decode
        return await self._tokenise(lambda: decode(tokens, skip_special_tokens=False), len(tokens))

    async def of_inputs(self, request: EmbeddingsRequest) -> list[list[int]]:
        """The texts to embed, in order; what comes as tokens is taken as it is.

        Raises:
            ApiError: one holds what is no token of the model.
        """
        return await self._plain(request.inputs, "input")

    async def _plain(self, texts: list[str] | list[list[int]], param: str) -> list[list[int]]:
        encode = self._tokenizer.encode
        characters = sum(len(text) for text in texts if isinstance(text, str))
        tokens = await self._tokenise(
            lambda: [encode(text) if isinstance(text, str) else text for text in texts], characters
        )
        self._check(tokens, param)
        return tokens

    def _check(self, tokens: list[list[int]], param: str) -> None:
        highest = self._tokenizer.vocab_size - 1
        if any(max(each, default=0) > highest for each in tokens):
            raise ApiError(
                HTTPStatus.BAD_REQUEST, "invalid_value", f"Token ids run from 0 to {highest}.", param
            )

    async def _tokenise(self, encode: Callable[[], _Encoded], characters: int) -> _Encoded:
        if characters < _LONG_TEXT:
            return encode()
        async with self._tokenising:
            return await asyncio.to_thread(encode)

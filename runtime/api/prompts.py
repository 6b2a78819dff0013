"""From a request's text to the tokens of its prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from attest.protocol.openai import ChatRequest, CompletionRequest
from attest.refusal import Refused
from runtime.api import forms
from runtime.api.errors import ApiError
from runtime.api.served import Tokenizer

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
        return [await self._plain(prompt) for prompt in request.prompts]

    async def _plain(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            tokens = await self._tokenise(lambda: self._tokenizer.encode(prompt), len(prompt))
        else:
            tokens = prompt
        if not tokens:
            raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_value", "The prompt is empty.", "prompt")
        highest = self._tokenizer.vocab_size - 1
        if max(tokens) > highest:
            raise ApiError(
                HTTPStatus.BAD_REQUEST, "invalid_value", f"Token ids run from 0 to {highest}.", "prompt"
            )
        return tokens

    async def _tokenise(self, encode: Callable[[], list[int]], characters: int) -> list[int]:
        if characters < _LONG_TEXT:
            return encode()
        async with self._tokenising:
            return await asyncio.to_thread(encode)

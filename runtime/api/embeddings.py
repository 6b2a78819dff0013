"""``POST /v1/embeddings``: from texts to their vectors."""

from __future__ import annotations

import asyncio
import base64
import sys
from array import array
from http import HTTPStatus
from typing import Final, Literal

from attest.protocol.openai.embeddings import EmbeddingsRequest
from runtime.api.answers import to_json
from runtime.api.errors import ApiError
from runtime.api.exchange import Exchange
from runtime.api.prompts import Prompts
from runtime.api.served import ServedEmbedder
from runtime.engine.base import EngineRefusal

_WRITTEN_AT_ONCE: Final = 8
"""Vectors between two looks at whatever else there is to do: about two milliseconds."""


class Embeddings:
    """Answers for one embedding model.

    Args:
        embedder: the model.

    Attributes:
        prompts: reads for it.
    """

    def __init__(self, embedder: ServedEmbedder) -> None:
        self._embedder = embedder
        self.prompts = Prompts(embedder.tokenizer)

    @property
    def model(self) -> str:
        """What it is asked for by."""
        return self._embedder.name

    @property
    def context_length(self) -> int:
        """Tokens of the longest text."""
        return self._embedder.context_length

    async def answer(self, request: EmbeddingsRequest, exchange: Exchange) -> bytes:
        """The document; notes on the exchange what ran, and counts.

        Raises:
            ApiError: ``unsupported_parameter`` for other dimensions than the model's; ``invalid_value``,
                ``context_length_exceeded`` for a text; as the engine's refusals.
        """
        self._check_dimensions(request.dimensions)
        texts = await self.prompts.of_inputs(request)
        self._check_lengths(texts, single=request.single)
        tokens = sum(map(len, texts))
        exchange.runs(self._embedder.name, self._embedder.digest, self._embedder.backend)
        try:
            vectors = await self._embedder.embed(texts, tenant=exchange.tenant)
        except EngineRefusal as refusal:
            raise ApiError.of_engine(refusal) from None
        exchange.prompt_tokens += tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        rest = to_json({"model": self._embedder.name, "usage": usage})
        items = await _items(vectors, request.encoding_format or "float")
        return f'{{"object":"list","data":[{items}],{rest[1:]}'.encode()

    def _check_dimensions(self, wanted: int | None) -> None:
        own = self._embedder.dimensions
        if wanted not in {None, own}:
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                "unsupported_parameter",
                f"This model's embeddings have {own} dimensions and cannot be shortened. "
                "Leave 'dimensions' out.",
                "dimensions",
            )

    def _check_lengths(self, texts: list[list[int]], *, single: bool) -> None:
        context, most = self._embedder.context_length, self._embedder.max_request_tokens
        for index, text in enumerate(texts):
            if len(text) > context:
                param = "input" if single else f"input.{index}"
                raise ApiError(
                    HTTPStatus.BAD_REQUEST,
                    "context_length_exceeded",
                    f"This model's maximum context length is {context} tokens, but '{param}' has "
                    f"{len(text)} tokens. Shorten it, or cut it in pieces.",
                    param,
                )
        tokens = sum(map(len, texts))
        if tokens > most:
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                "invalid_value",
                f"'input' has {tokens} tokens in all, at most {most} are taken at once. "
                "Send it in several requests.",
                "input",
            )


async def _items(vectors: list[list[float]], encoding: Literal["float", "base64"]) -> str:
    """The answer's data. A million numbers take a second to write: other answers stream meanwhile."""
    items = []
    for index, vector in enumerate(vectors):
        items.append(f'{{"object":"embedding","index":{index},"embedding":{_written(vector, encoding)}}}')
        if index % _WRITTEN_AT_ONCE == 0:
            await asyncio.sleep(0)
    return ",".join(items)


def _written(vector: list[float], encoding: Literal["float", "base64"]) -> str:
    """As JSON."""
    if encoding == "float":
        # Nine digits tell every float32 from its neighbours.
        return f"[{','.join([format(value, '.9g') for value in vector])}]"
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return f'"{base64.b64encode(numbers.tobytes()).decode()}"'

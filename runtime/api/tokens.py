"""``POST /v1/tokenize`` and ``/v1/detokenize``: what a model reads, before it is asked. Nothing runs."""

from __future__ import annotations

from attest.protocol.openai.tokenize import DetokenizeRequest, TokenizeRequest
from runtime.api.answers import to_json
from runtime.api.embeddings import Embeddings
from runtime.api.models import Models
from runtime.api.prompts import Prompts
from runtime.api.served import ServedModel


class Tokens:
    """Answers for the model that generates text, its adapters, and the embedding model beside it.

    Args:
        served: the model.
        models: by name.
        prompts: of the model.
        embeddings: of the embedding model; None for none.
    """

    def __init__(
        self, served: ServedModel, models: Models, prompts: Prompts, embeddings: Embeddings | None
    ) -> None:
        self._served = served
        self._models = models
        self._prompts = prompts
        self._embeddings = embeddings

    async def of(self, request: TokenizeRequest) -> bytes:
        """The document with a prompt's tokens.

        Raises:
            ApiError: ``model_not_found``; as ``Prompts``.
        """
        chat = request.chat
        prompts, context = await self._reader(request.model, embeds=chat is None)
        if chat is None:
            special = request.add_special_tokens is not False
            tokens = await prompts.of_text(request.prompt or "", special=special)
        else:
            tokens = await prompts.of_chat(chat)
        names = await prompts.names(tokens) if request.return_token_strs else None
        return to_json(
            {"tokens": tokens, "count": len(tokens), "max_model_len": context, "token_strs": names}
        ).encode()

    async def text(self, request: DetokenizeRequest) -> bytes:
        """The document with what tokens say.

        Raises:
            ApiError: ``model_not_found``; ``invalid_value`` for what is no token of the model.
        """
        prompts, _ = await self._reader(request.model, embeds=True)
        return to_json({"prompt": await prompts.text(request.tokens)}).encode()

    async def _reader(self, name: str | None, *, embeds: bool) -> tuple[Prompts, int]:
        """What reads for the model asked for, and how many tokens that can hold."""
        embeddings = self._embeddings
        if embeds and embeddings is not None and name == embeddings.model:
            return embeddings.prompts, embeddings.context_length
        served = self._served if name is None else await self._models.choose(name)
        return self._prompts, served.engine.info.context_length

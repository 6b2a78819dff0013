"""What can be asked for by name: the model, and its adapters by their own names."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from runtime.api.errors import ApiError, adapter_refused
from runtime.api.served import ServedModel
from runtime.engine.adapters import AdapterFacts, AdapterRefused
from runtime.engine.base import MAX_LOGPROBS


class Models:
    """The names behind ``model`` and ``/v1/models``.

    Args:
        served: the base model, with its adapters.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served

    def makes_no_embeddings(self) -> ApiError:
        """For a request for embeddings by another name than the embedding model's: ``model_not_found``."""
        embedder = self._served.embedder
        served = "has no embedding model" if embedder is None else f"makes embeddings by '{embedder.name}'"
        return _not_found(f"This runtime {served}; see GET /v1/models.")

    async def choose(self, name: str) -> ServedModel:
        """What answers a request for ``name``.

        Raises:
            ApiError: ``model_not_found``; ``adapter_failed`` for an adapter that cannot be used.
        """
        if name == self._served.name:
            return self._served
        facts = await self._adapter(name)
        if facts is None:
            raise self._not_found()
        return self._served.with_adapter(name, facts)

    async def listed(self) -> list[dict[str, Any]]:
        """Every entry of ``GET /v1/models``; an adapter's digest is null until somebody asked for it."""
        adapters = self._served.adapters
        entries = [self._base(), *self._embedding()]
        if adapters is not None:
            names = await asyncio.to_thread(adapters.names)
            entries += [self._of_adapter(name, adapters.known(name)) for name in names]
        return entries

    async def entry(self, name: str) -> dict[str, Any]:
        """The entry of one model; an adapter is read for it.

        Raises:
            ApiError: as ``choose``.
        """
        embedder = self._served.embedder
        if embedder is not None and name == embedder.name:
            return self._embedding()[0]
        served = await self.choose(name)
        return self._base() if served is self._served else self._of_adapter(name, await self._adapter(name))

    async def _adapter(self, name: str) -> AdapterFacts | None:
        if self._served.adapters is None:
            return None
        try:
            return await self._served.adapters.find(name)
        except AdapterRefused as refusal:
            raise adapter_refused(refusal) from None

    def _base(self) -> dict[str, Any]:
        adapters = self._served.adapters
        highest = None if adapters is None else adapters.max_rank
        return {**self._common(self._served.name), "max_adapter_rank": highest}

    def _embedding(self) -> list[dict[str, Any]]:
        embedder = self._served.embedder
        if embedder is None:
            return []
        return [
            {
                **self._common(embedder.name),
                "created": embedder.created,
                "kind": "embed",
                "context_length": embedder.context_length,
                "max_output_tokens": 0,
                "max_logprobs": 0,
                "base_model_digest": embedder.digest,
                "dimensions": embedder.dimensions,
            }
        ]

    def _of_adapter(self, name: str, facts: AdapterFacts | None) -> dict[str, Any]:
        return {
            **self._common(name),
            "parent": self._served.name,
            "adapter_digest": None if facts is None else facts.digest,
            "adapter_rank": None if facts is None else facts.rank,
        }

    def _common(self, name: str) -> dict[str, Any]:
        context = self._served.engine.info.context_length
        return {
            "id": name,
            "object": "model",
            "created": self._served.created,
            "owned_by": "sealgate",
            "kind": "generate",
            "context_length": context,
            "max_output_tokens": context - 1,  # a prompt has at least one
            "max_logprobs": MAX_LOGPROBS,
            "base_model_digest": self._served.base_model_digest,
            "parent": None,
            "max_adapter_rank": None,
            "adapter_digest": None,
            "adapter_rank": None,
            "dimensions": None,
        }

    def _not_found(self) -> ApiError:
        others = "no other model" if self._served.adapters is None else "its adapters"
        return _not_found(
            f"This runtime generates text by '{self._served.name}' and {others}; see GET /v1/models."
        )


def _not_found(message: str) -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, "model_not_found", message, "model")

"""The model behind the API: an engine, and what turns its tokens into text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtime.api.text_stream import Decoder
from runtime.embed.figures import EmbedderFigures
from runtime.engine.adapters import AdapterFacts, Adapters
from runtime.engine.base import Engine, TokenGuide
from runtime.guide.form import Form


class Tokenizer(Protocol):
    """What the API needs of a tokenizer (``runtime.model.tokenizer``)."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to this, exclusive."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of plain text, by default with what the model expects around it."""

    def names(self, token_ids: Sequence[int]) -> list[str]:
        """What the vocabulary calls tokens; empty for what it does not have."""

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of the prompt that asks for the assistant's next message."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens; bytes that are no UTF-8 come out as U+FFFD."""


class CompiledForm(Protocol):
    """A form that answers can be held to (``runtime.guide``)."""

    def guide(self) -> TokenGuide:
        """A guide for one answer."""


class Guides(Protocol):
    """Compiles forms (``runtime.guide.guides``)."""

    async def compiled(self, form: Form, *, tenant: str) -> CompiledForm:
        """The form; raises ``FormRefused`` if it cannot be enforced, ``FormsBusy`` if not now."""


class ServedEmbedder(Protocol):
    """What the API needs of an embedding model (``runtime.embed.embedder``)."""

    @property
    def name(self) -> str:
        """What clients ask for."""

    @property
    def digest(self) -> str:
        """Of weights, configuration and tokenizer together."""

    @property
    def backend(self) -> str:
        """What runs it, for receipts."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model; adds its special tokens to text."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""

    @property
    def context_length(self) -> int:
        """Tokens of the longest text, special tokens included."""

    @property
    def max_request_tokens(self) -> int:
        """Tokens of all texts of one request."""

    @property
    def created(self) -> int:
        """When it was loaded, seconds since 1970."""

    @property
    def self_check(self) -> str:
        """Digest of the check that it passed before it took requests."""

    def figures(self) -> EmbedderFigures:
        """Counters, free of content."""

    async def start(self) -> None:
        """Take requests from now on."""

    async def stop(self) -> None:
        """Refuse requests from now on, waiting ones too."""

    async def embed(self, texts: Sequence[Sequence[int]], *, tenant: str) -> list[list[float]]:
        """One vector per text, of length 1; raises ``EngineRefusal``."""


@dataclass(frozen=True, repr=False)
class ServedModel:
    """What one runtime serves.

    Args:
        engine: makes tokens.
        tokenizer: of the model.
        new_decoder: makes the incremental decoder of one answer.
        base_model_digest: of the weights.
        tokenizer_digest: of tokenizer and chat template.
        created: when it was loaded, seconds since 1970.
        guides: hold answers to a form; None if the engine obeys none.
        adapters: that it can be asked for with, by name; None for none.
        adapter_name: the adapter asked for, if this is the model with one.
        adapter_digest: of that adapter.
        embedder: the embedding model beside it; None for none.
    """

    engine: Engine
    tokenizer: Tokenizer
    new_decoder: Callable[[], Decoder]
    base_model_digest: str
    tokenizer_digest: str
    created: int
    guides: Guides | None = None
    adapters: Adapters | None = None
    adapter_name: str | None = None
    adapter_digest: str | None = None
    embedder: ServedEmbedder | None = None

    def __repr__(self) -> str:
        return f"ServedModel({self.name}, {self.base_model_digest})"

    @property
    def name(self) -> str:
        """What clients ask for."""
        return self.adapter_name or self.engine.info.model_name

    @property
    def fingerprint(self) -> str:
        """The API's ``system_fingerprint``: which weights, in short."""
        digests = filter(None, (self.base_model_digest, self.adapter_digest))
        return "_".join(("fp", *(digest.removeprefix("sha256:")[:16] for digest in digests)))

    def with_adapter(self, name: str, facts: AdapterFacts) -> ServedModel:
        """The same model, asked for by an adapter's name."""
        return replace(self, adapter_name=name, adapter_digest=facts.digest)

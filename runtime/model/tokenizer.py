"""Text to token ids and back, exactly as the model was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

from attest.refusal import Refused
from runtime.model.chat_template import ChatTemplate

REPLACEMENT = "\ufffd"
_MAX_PENDING = 64
"""Tokens held back for an unfinished character before the bytes so far are called what they are: invalid."""


@dataclass(frozen=True, repr=False)
class Tokenizer:
    """A model's tokenizer with its chat template.

    Args:
        backend: the ``tokenizers`` library's object.
        chat_template: None for a base model without one.
        eos_ids: tokens that end an answer.
        vocab_size: ids run from 0 to this, exclusive.
    """

    backend: tokenizers.Tokenizer
    chat_template: ChatTemplate | None
    eos_ids: frozenset[int]
    vocab_size: int

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens)"

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of ``text``; special tokens written out in it count as such.

        Args:
            text: any text.
            add_special_tokens: add what the model expects around plain text, e.g. a start token.
        """
        return list(self.backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def names(self, token_ids: Sequence[int]) -> list[str]:
        """What the vocabulary calls tokens, as ``Ġfox``; empty for ids between its end and ``vocab_size``."""
        return [self.backend.id_to_token(token_id) or "" for token_id in token_ids]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ``token_ids``; bytes that are no UTF-8 come out as U+FFFD."""
        return str(self.backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt's text for a conversation; see ``ChatTemplate.render``.

        Raises:
            Refused: ``chat-template-missing``, ``chat-template-refused``.
        """
        if self.chat_template is None:
            raise Refused("chat-template-missing", expected="an instruct model")
        return self.chat_template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of the prompt that asks for the assistant's next message. Raises as ``render_chat``."""
        return self.encode(self.render_chat(messages, tools=tools), add_special_tokens=False)


class IncrementalDecoder:
    """Text of a growing token sequence, piece by piece, never half a character.

    The pieces joined equal ``tokenizer.decode`` of all the tokens.

    Args:
        tokenizer: of the model.
        skip_special_tokens: leave special tokens out of the text.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        # Decoders treat a sequence's first token apart (a leading space), so the tokens last written out
        # stay as context in front of those still pending.
        self._context: list[int] = []
        self._pending: list[int] = []
        self._written = 0  # characters of the pending text already handed out

    def __repr__(self) -> str:
        return f"IncrementalDecoder({len(self._pending)} pending)"

    def feed(self, token_id: int) -> str:
        """The text that became certain with this token; often empty inside a character."""
        self._pending.append(token_id)
        text = self._pending_text()
        if text.endswith(REPLACEMENT):
            return self._write(text[:-1]) if len(self._pending) > _MAX_PENDING else ""
        piece = text[self._written :]
        if text:  # a special token has no text and may not become the whole context
            self._context, self._pending, self._written = self._pending, [], 0
        return piece

    def finish(self) -> str:
        """What is left at the end: an unfinished character comes out as U+FFFD."""
        return self._write(self._pending_text())

    def _write(self, text: str) -> str:
        piece = text[self._written :]
        self._written = max(self._written, len(text))
        return piece

    def _pending_text(self) -> str:
        before = self._tokenizer.decode(self._context, skip_special_tokens=self._skip)
        both = self._tokenizer.decode(self._context + self._pending, skip_special_tokens=self._skip)
        return both[len(before) :]

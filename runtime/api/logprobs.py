"""Log-probabilities in the two shapes of the OpenAI API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.api.served import Tokenizer
from runtime.engine.base import PromptLogprobs, TokenOutput, TopLogprobs

_REPLACEMENT = "\ufffd"


def chat_entry(output: TokenOutput, tokenizer: Tokenizer) -> dict[str, Any]:
    """One element of a chat choice's ``logprobs.content``."""
    alternatives = output.top_logprobs or ()
    return {
        **_token(output.token_id, output.logprob or 0.0, tokenizer),
        "top_logprobs": [_token(token_id, logprob, tokenizer) for token_id, logprob in alternatives],
    }


def _token(token_id: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    text = _text(token_id, tokenizer)
    # Of a token that holds a part of a character its exact bytes are not known here.
    data = None if _REPLACEMENT in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": data}


class CompletionLogprobs:
    """The ``logprobs`` of a plain completion's pieces.

    Args:
        tokenizer: of the model.
        alternatives: how many were asked for per token.
    """

    def __init__(self, tokenizer: Tokenizer, alternatives: int) -> None:
        self._tokenizer = tokenizer
        self._alternatives = alternatives
        self._offset = 0

    def of(self, outputs: Sequence[TokenOutput]) -> dict[str, Any]:
        """The object for the next tokens; offsets count characters of this choice's text so far."""
        return self._object(
            [output.token_id for output in outputs],
            [output.logprob or 0.0 for output in outputs],
            [output.top_logprobs or () for output in outputs],
        )

    def of_prompt(self, token_ids: Sequence[int], scored: PromptLogprobs) -> dict[str, Any]:
        """The object for the prompt that an answer begins with.

        Args:
            token_ids: of the prompt.
            scored: of its last tokens; those before have no log-probability, the first never has.
        """
        unscored = [None] * (len(token_ids) - len(scored))
        return self._object(
            token_ids,
            [*unscored, *(logprob for logprob, _ in scored)],
            [*unscored, *(alternatives for _, alternatives in scored)],
        )

    def _object(
        self,
        token_ids: Sequence[int],
        logprobs: Sequence[float | None],
        alternatives: Sequence[TopLogprobs | None],
    ) -> dict[str, Any]:
        tokens = [_text(token_id, self._tokenizer) for token_id in token_ids]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": list(logprobs),
            "top_logprobs": [self._tops(each) for each in alternatives] if self._alternatives else None,
            "text_offset": offsets,
        }

    def _tops(self, alternatives: TopLogprobs | None) -> dict[str, float] | None:
        """Tokens of the same text share a key: the likelier one, which comes first, keeps it."""
        if alternatives is None:
            return None
        tops: dict[str, float] = {}
        for token_id, logprob in alternatives:
            tops.setdefault(_text(token_id, self._tokenizer), logprob)
        return tops


def _text(token_id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode([token_id], skip_special_tokens=False)

"""Log-probabilities in the two shapes of the OpenAI API."""

from __future__ import annotations

from typing import Any

from runtime.api.served import Tokenizer
from runtime.engine.base import TokenOutput

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

    def of(self, outputs: list[TokenOutput]) -> dict[str, Any]:
        """The object for the next tokens; offsets count characters of this choice's text so far."""
        tokens = [_text(output.token_id, self._tokenizer) for output in outputs]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [output.logprob or 0.0 for output in outputs],
            "top_logprobs": [self._tops(output) for output in outputs] if self._alternatives else None,
            "text_offset": offsets,
        }

    def _tops(self, output: TokenOutput) -> dict[str, float]:
        """Tokens of the same text share a key: the likelier one, which comes first, keeps it."""
        tops: dict[str, float] = {}
        for token_id, logprob in output.top_logprobs or ():
            tops.setdefault(_text(token_id, self._tokenizer), logprob)
        return tops


def _text(token_id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode([token_id], skip_special_tokens=False)

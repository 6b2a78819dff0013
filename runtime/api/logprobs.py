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


class PromptScores:
    """The ``prompt_logprobs`` of an answer, as vLLM writes them.

    Args:
        tokenizer: of the model.
        alternatives: how many were asked for per token.
    """

    def __init__(self, tokenizer: Tokenizer, alternatives: int) -> None:
        self._texts = _Texts(tokenizer)
        self._alternatives = alternatives

    def of(self, token_ids: Sequence[int], scored: PromptLogprobs) -> list[dict[str, Any] | None]:
        """Of each place: the prompt's own token, then the likeliest, by token id; None where not scored.

        Args:
            token_ids: of the prompt.
            scored: of its last tokens.
        """
        unscored = len(token_ids) - len(scored)
        places = zip(token_ids[unscored:], scored, strict=True)
        return [*[None] * unscored, *(self._place(token_id, *score) for token_id, score in places)]

    def _place(self, token_id: int, logprob: float, rank: int, top: TopLogprobs) -> dict[str, Any]:
        ranked = ((each, value, place) for place, (each, value) in enumerate(top[: self._alternatives], 1))
        found = {token_id: (logprob, rank)}
        for each, value, place in ranked:
            found.setdefault(each, (value, place))
        return {
            str(each): {"logprob": value, "rank": place, "decoded_token": self._texts[each]}
            for each, (value, place) in found.items()
        }


class CompletionLogprobs:
    """The ``logprobs`` of a plain completion's pieces.

    Args:
        tokenizer: of the model.
        alternatives: how many were asked for per token.
    """

    def __init__(self, tokenizer: Tokenizer, alternatives: int) -> None:
        self._texts = _Texts(tokenizer)
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
            [*unscored, *(logprob for logprob, _, _ in scored)],
            [*unscored, *(alternatives[: self._alternatives] for _, _, alternatives in scored)],
        )

    def _object(
        self,
        token_ids: Sequence[int],
        logprobs: Sequence[float | None],
        alternatives: Sequence[TopLogprobs | None],
    ) -> dict[str, Any]:
        tokens = [self._texts[token_id] for token_id in token_ids]
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
            tops.setdefault(self._texts[token_id], logprob)
        return tops


class _Texts(dict[int, str]):
    """Texts of single tokens; of a long prompt's alternatives most come up again and again."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, token_id: int) -> str:
        text = self[token_id] = _text(token_id, self._tokenizer)
        return text


def _text(token_id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode([token_id], skip_special_tokens=False)

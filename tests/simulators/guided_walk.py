"""A model that likes every token equally, held to a form: what it writes is the form's own doing."""

from __future__ import annotations

import random
from functools import cache

import tokenizers

from runtime.engine.base import TokenGuide
from runtime.guide.guides import Guides, vocabulary
from runtime.guide.limits import GuideLimits
from tests.simulators.tiny_models import tiny_tokenizer

EOS = 2
_CLOSING = set('"}], :0123456789')


@cache
def backend() -> tokenizers.Tokenizer:
    """The tiny tokenizer, whose token 2 ends an answer."""
    return tiny_tokenizer()


def tiny_guides(limits: GuideLimits | None = None) -> Guides:
    """Guides over the tiny tokenizer."""
    return Guides(vocabulary(backend(), frozenset({EOS})), limits)


def allowed_tokens(guide: TokenGuide) -> list[int]:
    """The ids that may be next."""
    mask = guide.allowed()
    assert mask is not None
    return [token for token in range(min(8 * len(mask), 300)) if mask[token // 8] >> token % 8 & 1]


def walk(guide: TokenGuide, seed: int, *, most: int = 300) -> str | None:
    """What a random answer says; None if it has not ended after ``most`` tokens."""
    rng = random.Random(seed)  # noqa: S311 - chooses tokens, and the same ones again
    written: list[int] = []
    for _ in range(most):
        tokens = allowed_tokens(guide)
        assert tokens, "nothing may follow"
        if EOS in tokens and (len(tokens) == 1 or rng.random() < 0.5):
            return str(backend().decode(written, skip_special_tokens=False))
        closing = [token for token in tokens if set(_text(token)) <= _CLOSING]
        token = rng.choice(closing if closing and rng.random() < 0.6 else [t for t in tokens if t != EOS])
        guide.advance(token)
        written.append(token)
    return None


@cache
def _text(token: int) -> str:
    return str(backend().decode([token], skip_special_tokens=False))


def accepts(guide: TokenGuide, text: str) -> bool:
    """Whether the form takes this text, token by token, and may end after it."""
    for token in backend().encode(text, add_special_tokens=False).ids:
        if token not in allowed_tokens(guide):
            return False
        guide.advance(token)
    return EOS in allowed_tokens(guide)

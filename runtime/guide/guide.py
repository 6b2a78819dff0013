"""One answer's guide."""

from __future__ import annotations

from typing import Final

from llguidance import LLMatcher

_NOTHING: Final = bytes(1)
"""A mask may be shorter than the vocabulary: what it does not reach is not allowed."""


class GrammarGuide:
    """Holds one answer to a compiled grammar; see ``runtime.engine.base.TokenGuide``.

    The library raises nothing: a grammar that grows too costly on the way, or a token that does not belong,
    leaves the matcher in error for good, and then nothing is allowed: the engine ends this request alone.

    Args:
        matcher: at its beginning, not shared.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def __repr__(self) -> str:
        return f"GrammarGuide({self._matcher.stop_reason()})"

    def allowed(self) -> bytes | None:
        """The tokens that may be next; once the form is complete, those that end the answer."""
        mask = self._matcher.compute_bitmask()
        return _NOTHING if self._matcher.is_error() else mask

    def advance(self, token_id: int) -> None:
        """Go on with an allowed token."""
        self._matcher.consume_token(token_id)

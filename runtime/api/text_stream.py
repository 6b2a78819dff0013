"""From tokens to text that may be shown: whole characters only, and never a part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """Text of a growing token sequence, never half a character (``runtime.model.tokenizer``)."""

    def feed(self, token_id: int) -> str:
        """The text that became certain with this token."""

    def finish(self) -> str:
        """What is left at the end."""


class StopFilter:
    """Cuts text at the first stop string, wherever the pieces of the text begin and end.

    Text that could still become a stop string is held back. Of two stop strings the one completed first
    counts, so that the result does not depend on how the text was cut into tokens.

    Args:
        stops: none empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.stopped = False

    def __repr__(self) -> str:
        return f"StopFilter({len(self._stops)} stops, {len(self._held)} characters held)"

    def feed(self, piece: str) -> str:
        """The text that may be shown now; nothing once stopped."""
        if not self._stops:
            return piece
        if self.stopped:
            return ""
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = self._could_begin_a_stop(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back and became no stop string."""
        held, self._held = self._held, ""
        return held

    def _could_begin_a_stop(self, text: str) -> int:
        """How many characters at the end of ``text`` are the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0


class TextStream:
    """One answer's text as its tokens arrive.

    Args:
        decoder: new, of the model's tokenizer.
        stops: strings that end the answer and are not shown.
        hidden: token ids without text of their own (end of sequence).
    """

    def __init__(self, decoder: Decoder, stops: Sequence[str], hidden: frozenset[int]) -> None:
        self._decoder = decoder
        self._filter = StopFilter(stops)
        self._hidden = hidden

    def __repr__(self) -> str:
        return f"TextStream({self._filter!r})"

    @property
    def stopped(self) -> bool:
        """Whether a stop string came; nothing after it is shown."""
        return self._filter.stopped

    def feed(self, token_id: int, *, last: bool) -> str:
        """The text to show after this token; with ``last``, all that is left."""
        piece = "" if token_id in self._hidden else self._decoder.feed(token_id)
        if last:
            piece += self._decoder.finish()
        shown = self._filter.feed(piece)
        return shown + self._filter.finish() if last else shown

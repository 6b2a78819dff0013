"""Finds calls of functions in an answer's text as it arrives.

    text <tool_call>{"name": "f", "arguments": {...}}</tool_call> <tool_call>...

The name opens a call, and the arguments are passed on as they come. What is not of this form is content: the
grammar keeps a model to it, but an answer may be cut anywhere, by its limit or a stop string.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Final

from runtime.model.tool_prompt import CALL_CLOSE, CALL_OPEN

_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([a-zA-Z0-9_-]{1,64})"\s*,\s*"arguments"\s*:\s*(?=\{)')
_MAX_HEAD: Final = 256
"""Characters in which a call must have said its name and begun its arguments."""

_DELIMITER: Final = re.compile(r'["{}\[\]\\]')


@dataclass(frozen=True, slots=True, repr=False)
class CallDelta:
    """What a piece of text added to a call.

    Args:
        index: of the call in its answer.
        arguments: JSON as text, a piece of it.
        id: of the call, with its first delta.
        name: of the function, with its first delta.
    """

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None

    def __repr__(self) -> str:
        return f"CallDelta({self.index}, {len(self.arguments)} characters)"


class _At(Enum):
    CONTENT = "before a call, or between calls"
    HEAD = "behind the opening tag"
    ARGUMENTS = "in the arguments"
    TAIL = "behind the arguments"


class CallReader:
    """Reads one answer.

    Args:
        names: of the functions that may be called.
    """

    def __init__(self, names: AbstractSet[str]) -> None:
        self._names = names
        self._held = ""
        self._at = _At.CONTENT
        self._between = False  # behind a call, and nothing was said since
        self._scanner = _ObjectScanner()
        self.calls = 0

    def __repr__(self) -> str:
        return f"CallReader({self.calls} calls, {len(self._held)} characters held)"

    @property
    def complete(self) -> bool:
        """Whether the answer called something, and the last call is whole."""
        return self.calls > 0 and self._at is not _At.ARGUMENTS

    def feed(self, text: str, *, last: bool) -> tuple[str, list[CallDelta]]:
        """The content and the calls that became certain; with ``last``, all that is left."""
        self._held += text
        content: list[str] = []
        deltas: list[CallDelta] = []
        while (found := self._step(last=last)) is not None:
            if isinstance(found, CallDelta):
                deltas.append(found)
            else:
                content.append(found)
        return "".join(content), deltas

    def _step(self, *, last: bool) -> str | CallDelta | None:
        """The next thing that is certain; None if nothing is."""
        if not self._held:
            return None
        match self._at:
            case _At.CONTENT:
                return self._content(last=last)
            case _At.HEAD:
                return self._head(last=last)
            case _At.ARGUMENTS:
                return self._arguments()
            case _At.TAIL:
                return self._tail(last=last)

    def _content(self, *, last: bool) -> str | None:
        before, tag, after = self._held.partition(CALL_OPEN)
        if not tag:
            keep = 0 if last else _could_begin(CALL_OPEN, before)
            before, after = before[: len(before) - keep], before[len(before) - keep :]
            if not before or (self._between and before.isspace() and not last):
                return None
        self._held = after
        if tag:
            self._at = _At.HEAD
        if self._between and not before.strip():  # white space that parts calls says nothing
            return ""
        self._between = False
        return before

    def _head(self, *, last: bool) -> str | CallDelta | None:
        match = _HEAD.match(self._held)
        if match is not None and match[1] in self._names:
            self._held = self._held[match.end() :]
            self._at, self._scanner = _At.ARGUMENTS, _ObjectScanner()
            self.calls += 1
            return CallDelta(self.calls - 1, "", f"call_{uuid.uuid4().hex[:24]}", match[1])
        if match is None and not last and len(self._held) < _MAX_HEAD:
            return None
        self._at = _At.CONTENT
        if self.calls and last:  # cut short behind whole calls: a tag without a name says nothing
            self._held = ""
            return ""
        return CALL_OPEN

    def _arguments(self) -> CallDelta:
        taken = self._scanner.take(self._held)
        piece, self._held = self._held[:taken], self._held[taken:]
        if self._scanner.closed:
            self._at, self._between = _At.TAIL, True
        return CallDelta(self.calls - 1, piece)

    def _tail(self, *, last: bool) -> str | None:
        _, tag, after = self._held.partition(CALL_CLOSE)
        if tag or last:
            self._held, self._at = after, _At.CONTENT
            return ""
        if len(self._held) < _MAX_HEAD:
            return None
        self._at = _At.CONTENT
        return ""


class _ObjectScanner:
    """Finds the end of a JSON object, however it is cut into pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.closed = False

    def take(self, text: str) -> int:
        """How much of ``text`` belongs to the object."""
        at = 1 if self._escaped else 0
        self._escaped = False
        while (match := _DELIMITER.search(text, at)) is not None:
            at = match.end()
            mark = match.group()
            if mark == "\\":
                self._escaped = at == len(text)
                at += 1
            elif mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                if self._depth == 0:
                    self.closed = True
                    return at
        return len(text)


def _could_begin(tag: str, text: str) -> int:
    """How many characters at the end of ``text`` are the beginning of ``tag``."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)

r"""Regular expressions made ready for the compiler: of a bounded size, and meaning the same to everyone.

The library compiles lazily, so that a short pattern with nested counts costs nothing until the first token,
and then everything. Here it is refused by the size it has once its repetitions are written out.

Dialects differ in what ``.`` and ``\d`` match: digits of all scripts, or ASCII's. What is written must match
whichever dialect it is checked with, so each is narrowed to what all of them have in common.
"""

from __future__ import annotations

import re
from typing import Final

from runtime.guide.form import FormRefused

MAX_PATTERN: Final = 4096
MAX_EXPANDED: Final = 20_000
"""Characters, classes and groups once repetitions are written out."""

_TOKEN: Final = re.compile(
    r"\\[pP]\{[^}]*\}"  # a class of characters by name
    r"|\\x\{[^}]*\}|\\u\{[^}]*\}"  # a character by number
    r"|\\."  # escaped
    r"|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]"  # a class
    r"|\{(?P<low>\d+)(?:,(?P<high>\d*))?\}"  # a counted repetition
    r"|[()]|[^()]",
    re.DOTALL,
)

_COMMON: Final = {
    "\\d": "[0-9]",
    "\\D": "[^\\d]",
    "\\w": "[A-Za-z0-9_]",
    "\\W": "[^\\w]",
    "\\s": "[\\t-\\r ]",
    "\\S": "[^\\s\\x{FEFF}]",
    ".": "[^\\n\\r\\x{2028}\\x{2029}]",
}
"""The positive ones are ASCII's (ECMA-262); the negative ones leave out what the library does: more."""

_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)

_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z-]*x")
"""In that syntax spaces may stand inside a count, and a comment around anything."""


def whole(pattern: str) -> str:
    """The pattern, portable, without the anchors that a match from beginning to end makes idle.

    Raises:
        FormRefused: it is too long, or too large once written out.
    """
    start = 1 if pattern.startswith("^") else 0
    stop = len(pattern)
    if pattern.endswith("$"):
        escapes = len(pattern) - 1 - len(pattern[:-1].rstrip("\\"))
        stop -= escapes % 2 == 0
    # Of alternatives an anchor binds the outer ones alone; without them all are whole matches anyway.
    return portable(pattern[start:stop])


def portable(pattern: str) -> str:
    """The pattern, narrowed to what it matches in every dialect.

    Raises:
        FormRefused: it is too long, or too large once written out.
    """
    check_size(pattern)
    return _TOKEN.sub(_common, pattern)


def _common(match: re.Match[str]) -> str:
    part = match.group()
    if part.startswith("["):
        return part[0] + _ESCAPE.sub(lambda escape: _COMMON.get(escape.group(), escape.group()), part[1:])
    return _COMMON.get(part, part)


def check_size(pattern: str) -> None:
    """That the pattern may be given to the compiler.

    Raises:
        FormRefused: it is too long, or too large once written out.
    """
    if len(pattern) > MAX_PATTERN:
        raise FormRefused(f"A regular expression may have {MAX_PATTERN} characters.")
    if _VERBOSE.search(pattern):
        raise FormRefused("A regular expression may not switch to the verbose syntax (flag x).")
    if expanded_size(pattern) > MAX_EXPANDED:
        raise FormRefused(f"With its repetitions written out a pattern may have {MAX_EXPANDED} parts.")


def expanded_size(pattern: str) -> int:
    """Parts of the pattern, each counted as often as it may be repeated by a count. Never too few."""
    sizes = [0]  # of the open groups, outermost first
    last = 0  # of what a repetition would repeat
    for match in _TOKEN.finditer(pattern):
        part = match.group()
        if part == "(":
            sizes.append(0)
            last = 0
        elif part == ")":
            last = 1 + (sizes.pop() if len(sizes) > 1 else 0)
            sizes[-1] += last
        elif match["low"] is not None:
            times = max(1, int(match["high"] or match["low"]))
            sizes[-1] += last * (times - 1)
            last *= times
        elif part not in "*+?|^$":
            last = 1
            sizes[-1] += 1
    return sum(sizes)

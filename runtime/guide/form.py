"""The forms that an answer may be held to, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


class FormRefused(Exception):
    """The form cannot be enforced. The message names rules and numbers, never what the form holds.

    Args:
        message: what is wrong and what would be right, one sentence.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class FormsBusy(Exception):
    """The form was not compiled in time: others were before it, or it hangs."""


@dataclass(frozen=True, repr=False)
class JsonForm:
    """JSON that a schema accepts."""

    schema: Schema


@dataclass(frozen=True, repr=False)
class RegexForm:
    """Text that a regular expression matches from beginning to end."""

    pattern: str


@dataclass(frozen=True, repr=False)
class ChoiceForm:
    """One of some texts."""

    options: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Callable:
    """A function that may be called, and what its arguments must be."""

    name: str
    parameters: Schema


@dataclass(frozen=True, repr=False)
class CallsForm:
    """Calls of functions.

    Args:
        functions: that may be called; at least one.
        required: nothing but calls; otherwise the model may answer instead, or say something first.
        most: calls in one answer, at least 1.
        content: what an answer without calls is held to; None leaves it free.
    """

    functions: tuple[Callable, ...]
    required: bool
    most: int
    content: JsonForm | None = None


Form = JsonForm | RegexForm | ChoiceForm | CallsForm

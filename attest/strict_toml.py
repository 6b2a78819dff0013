"""TOML of the operator's own files, read strictly: every key known, every value of its type.

A misspelt key in a file that says what to trust must not be a rule that silently does not apply, so
``Table`` counts what was asked for and ``end`` refuses the rest.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attest.refusal import Malformed

MAX_ITEMS = 1024
"""Longest list in such a file; more is a mistake."""


class Table:
    """One table of a TOML document, read key by key.

    Args:
        values: the parsed table.
        name: prefix of the refusal codes.
        path: where the table is in the document, for people.
    """

    __slots__ = ("_name", "_path", "_unread", "_values")

    def __init__(self, values: Mapping[str, Any], name: str, path: str = "") -> None:
        self._values = values
        self._name = name
        self._path = path
        self._unread = set(values)

    def __repr__(self) -> str:
        return f"Table({self._name}, {len(self._values)} keys)"

    @classmethod
    def parse(cls, data: bytes, *, name: str, max_bytes: int) -> Table:
        """Parse a document.

        Raises:
            Malformed: ``{name}-too-large`` or ``{name}-not-toml``.
        """
        if len(data) > max_bytes:
            raise Malformed(f"{name}-too-large", f"{len(data)} bytes, at most {max_bytes}")
        try:
            return cls(tomllib.loads(data.decode("utf-8")), name)
        except (ValueError, RecursionError) as error:  # ValueError: syntax, UTF-8, impossible dates
            raise Malformed(
                f"{name}-not-toml", str(error) if isinstance(error, ValueError) else ""
            ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, form: re.Pattern[str]) -> str:
        """A string of the given form.

        Raises:
            Malformed: ``{name}-value``.
        """
        value = self._take(key)
        if not isinstance(value, str) or form.fullmatch(value) is None:
            raise self._wrong(key, f"text like {form.pattern}")
        return value

    def texts(self, key: str, form: re.Pattern[str]) -> frozenset[str]:
        """A list of at least one distinct string of the given form.

        Raises:
            Malformed: ``{name}-value``.
        """
        values = self._list(key)
        if not all(isinstance(value, str) and form.fullmatch(value) for value in values):
            raise self._wrong(key, f"texts like {form.pattern}")
        return frozenset(values)

    def optional_texts(self, key: str, form: re.Pattern[str]) -> frozenset[str]:
        """As ``texts``, or none where the key is absent: an empty list is an error still.

        Raises:
            Malformed: ``{name}-value``.
        """
        return self.texts(key, form) if key in self else frozenset()

    def integers(self, key: str, *, low: int, high: int) -> frozenset[int]:
        """A list of at least one distinct integer, each from ``low`` to ``high``.

        Raises:
            Malformed: ``{name}-value``.
        """
        values = self._list(key)
        if not all(type(value) is int and low <= value <= high for value in values):
            raise self._wrong(key, f"integers from {low} to {high}")
        return frozenset(values)

    def integer(self, key: str, *, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``.

        Raises:
            Malformed: ``{name}-value``.
        """
        value = self._take(key)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(key, f"an integer from {low} to {high}")
        return value

    def boolean(self, key: str) -> bool:
        """True or false.

        Raises:
            Malformed: ``{name}-value``.
        """
        value = self._take(key)
        if type(value) is not bool:
            raise self._wrong(key, "true or false")
        return value

    def moment(self, key: str) -> datetime:
        """A date and time with an offset.

        Raises:
            Malformed: ``{name}-value``.
        """
        value = self._take(key)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self._wrong(key, "a date and time with an offset, like 2030-01-01T00:00:00Z")
        return value

    def table(self, key: str) -> Table:
        """A sub-table.

        Raises:
            Malformed: ``{name}-value``.
        """
        value = self._take(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "a table")
        return Table(value, self._name, f"{self._path}{key}.")

    def end(self) -> None:
        """Require that every key was asked for.

        Raises:
            Malformed: ``{name}-unknown-key``.
        """
        if self._unread:
            raise Malformed(f"{self._name}-unknown-key", f"{self._path}{min(self._unread)}")

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise Malformed(f"{self._name}-missing-key", f"{self._path}{key}")
        self._unread.discard(key)
        return self._values[key]

    def _list(self, key: str) -> list[Any]:
        values = self._take(key)
        if not isinstance(values, list) or not 0 < len(values) <= MAX_ITEMS:
            raise self._wrong(key, f"a list of 1 to {MAX_ITEMS} items")
        if any(value in values[:index] for index, value in enumerate(values)):
            raise self._wrong(key, "a list without repetition")
        return values

    def _wrong(self, key: str, wanted: str) -> Malformed:
        return Malformed(f"{self._name}-value", f"{self._path}{key} is not {wanted}")


def dump(values: Mapping[str, Any]) -> str:
    """A document of tables, lists, ASCII text, integers, booleans and aware times, in the given order."""
    return "\n".join(_table(values, ()))


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = "".join(
        f"{key} = {_literal(value)}\n" for key, value in values.items() if not isinstance(value, Mapping)
    )
    head = f"[{'.'.join(path)}]\n" if path else ""
    tables = [_table(value, (*path, key)) for key, value in values.items() if isinstance(value, Mapping)]
    return [head + plain, *itertools.chain.from_iterable(tables)] if plain else [*itertools.chain(*tables)]


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value)  # for booleans, integers and ASCII text JSON and TOML agree

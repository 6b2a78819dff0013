"""RFC 9651 dictionaries, as far as a label needs them: items and inner lists with parameters.

Integers, strings, tokens, byte sequences and booleans are read; decimals, dates and display strings are
refused, because no label has one. Stricter than the RFC in one point: a repeated key is refused instead of
the last one winning, since an intermediary that reads the first would see another label.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.refusal import MalformedLabel

MAX_FIELD_BYTES = 16 * 1024

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
_BOOLEAN = re.compile(r"\?[01]")
_SPACES = re.compile(r" *")
_OWS = re.compile(r"[ \t]*")


class Token(str):
    """A token, which is not a string: it is written without quotes."""

    __slots__ = ()


Bare = int | str | bytes | bool  # Token is a str


@dataclass(frozen=True, slots=True)
class Item:
    """A bare item and its parameters."""

    value: Bare
    parameters: Mapping[str, Bare] = field(default_factory=dict)


Member = Item | Sequence[Item]


def parse_dictionary(text: str) -> dict[str, Member]:
    """The members of a dictionary, in order.

    Raises:
        MalformedLabel: ``label-header-too-large``, ``label-header-syntax``, ``label-header-duplicate``.
    """
    if len(text) > MAX_FIELD_BYTES:
        raise MalformedLabel("label-header-too-large", f"{len(text)} characters, at most {MAX_FIELD_BYTES}")
    return _Parser(text).dictionary()


def serialise_dictionary(members: Mapping[str, Member]) -> str:
    """The canonical text of ``members`` (RFC 9651 section 4.1.2)."""
    parts = []
    for key, member in members.items():
        if isinstance(member, Item):
            parts.append(f"{key}={_item_text(member)}")
        else:
            parts.append(f"{key}=({' '.join(_item_text(item) for item in member)})")
    return ", ".join(parts)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def dictionary(self) -> dict[str, Member]:
        self._match(_SPACES)
        members: dict[str, Member] = {}
        while True:
            key = self._expect(_KEY)
            if key in members:
                raise MalformedLabel("label-header-duplicate", "a key twice")
            # A key alone stands for true; labels have no boolean member, so it is refused further up.
            members[key] = self._member() if self._take("=") else Item(True, self._parameters())
            self._match(_OWS)
            if self._at == len(self._text):
                return members
            self._require(",")
            self._match(_OWS)

    def _member(self) -> Member:
        if not self._take("("):
            return self._item()
        items: list[Item] = []
        self._match(_SPACES)
        while not self._take(")"):
            items.append(self._item())
            if not self._match(_SPACES) and not self._text.startswith(")", self._at):
                raise self._error()
        return tuple(items)

    def _item(self) -> Item:
        return Item(self._bare(), self._parameters())

    def _parameters(self) -> dict[str, Bare]:
        parameters: dict[str, Bare] = {}
        while self._take(";"):
            self._match(_SPACES)
            key = self._expect(_KEY)
            if key in parameters:
                raise MalformedLabel("label-header-duplicate", "a parameter twice")
            parameters[key] = self._bare() if self._take("=") else True
        return parameters

    def _bare(self) -> Bare:
        start = self._text[self._at : self._at + 1]
        if start == '"':
            return re.sub(r"\\(.)", r"\1", self._expect(_STRING)[1:-1])
        if start == ":":
            return self._bytes()
        if start == "?":
            return self._expect(_BOOLEAN) == "?1"
        if start == "-" or start.isdigit():
            return int(self._expect(_INTEGER))
        return Token(self._expect(_TOKEN))

    def _bytes(self) -> bytes:
        encoded = self._expect(_BYTES)[1:-1]
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise self._error() from error

    def _match(self, form: re.Pattern[str]) -> str:
        found = form.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _expect(self, form: re.Pattern[str]) -> str:
        found = self._match(form)
        if not found:
            raise self._error()
        return found

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _require(self, sign: str) -> None:
        if not self._take(sign):
            raise self._error()

    def _error(self) -> MalformedLabel:
        return MalformedLabel("label-header-syntax", f"not a structured field at character {self._at}")


def _item_text(item: Item) -> str:
    parameters = "".join(
        f";{key}" if value is True else f";{key}={_bare_text(value)}"
        for key, value in item.parameters.items()
    )
    return _bare_text(item.value) + parameters


def _bare_text(value: Bare) -> str:
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode()}:"
    if isinstance(value, int | Token):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

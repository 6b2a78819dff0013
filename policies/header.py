"""The ``Data-Label`` header: a label as an RFC 9651 dictionary.

    Data-Label: v=1, c=("org:acme";o "enclave:sha256:9c1f…" "grp:7f3" "org:b";o), i=vendor, by=("svc:dlp"),
                p=(support), r=(eu), t=2592000, f=(no-train), s=5;mip="722a…", src=("sp:site/doc"),
                id=:base64:

In ``c``, an item with the parameter ``o`` names an owner and the items after it are his readers. ``id`` is
the SHA-256 of the canonical JSON; where it is given, it must be right. The other keys are the members of the
JSON form (policies/codec.py), which is also what the values are checked by: there is one reading of a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from policies.codec import document_of, label_id, label_of
from policies.labels import Label
from policies.refusal import MalformedLabel
from policies.structured_field import (
    MAX_FIELD_BYTES,
    Item,
    Member,
    Token,
    parse_dictionary,
    serialise_dictionary,
)

NAME = "Data-Label"

_T = TypeVar("_T", int, str, bytes)

_LISTS = ("p", "r", "f", "src", "u")
_TOKEN_LISTS = frozenset({"p", "r", "f"})
_KEYS = frozenset({"v", "c", "i", "by", "p", "r", "t", "f", "s", "src", "u", "id"})


def parse_header(text: str) -> Label:
    """The label in a ``Data-Label`` header's value.

    Raises:
        MalformedLabel: ``label-header-*``, ``label-id-mismatch``, or as ``policies.codec.parse``.
    """
    members = parse_dictionary(text)
    if not members.keys() <= _KEYS:
        raise MalformedLabel("label-members", f"known are {sorted(_KEYS)}")
    document: dict[str, Any] = {"v": _bare(members, "v", int)}
    if "c" in members:
        document["c"] = _owners(_list(members, "c"))
    document["i"] = _integrity(members)
    for name in _LISTS:
        if name in members:
            document[name] = [_string(item) for item in _list(members, name)]
    if "t" in members:
        document["t"] = _bare(members, "t", int)
    if "s" in members:
        document["s"] = _sensitivity(members["s"])
    label = label_of(document)
    if "id" in members and label_id(label) != f"sha256:{_bare(members, 'id', bytes).hex()}":
        raise MalformedLabel("label-id-mismatch", "id is not the id of this label")
    return label


def format_header(label: Label) -> str:
    """The value of a ``Data-Label`` header, ``id`` included.

    Raises:
        MalformedLabel: ``label-header-too-large`` if it would be longer than a reader accepts.
    """
    document = document_of(label)
    members: dict[str, Member] = {"v": Item(document["v"])}
    if "c" in document:
        members["c"] = tuple(_owner_items(document["c"]))
    integrity = document.get("i", {})
    if "lvl" in integrity:
        members["i"] = Item(Token(integrity["lvl"]))
    if "by" in integrity:
        members["by"] = tuple(Item(atom) for atom in integrity["by"])
    for name in _LISTS:
        if name in document:
            kind = Token if name in _TOKEN_LISTS else str
            members[name] = tuple(Item(kind(atom)) for atom in document[name])
    if "t" in document:
        members["t"] = Item(document["t"])
    if "s" in document:
        members["s"] = Item(document["s"]["prio"], {"mip": document["s"]["mip"]})
    members["id"] = Item(bytes.fromhex(label_id(label).removeprefix("sha256:")))
    text = serialise_dictionary(members)
    if len(text) > MAX_FIELD_BYTES:
        raise MalformedLabel("label-header-too-large", f"{len(text)} characters, at most {MAX_FIELD_BYTES}")
    return text


def _owner_items(owners: Mapping[str, Sequence[str]]) -> list[Item]:
    items: list[Item] = []
    for owner, readers in owners.items():
        items.append(Item(owner, {"o": True}))
        items.extend(Item(reader) for reader in readers)
    return items


def _owners(items: Sequence[Item]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    readers: list[str] | None = None
    for item in items:
        if item.parameters == {"o": True}:
            readers = []
            if owners.setdefault(_string(Item(item.value)), readers) is not readers:
                raise MalformedLabel("label-duplicate", "an owner twice")
        elif readers is None:
            raise MalformedLabel("label-owner", "c begins with no owner: mark him with ;o")
        else:
            readers.append(_string(item))
    return owners


def _integrity(members: Mapping[str, Member]) -> dict[str, Any]:
    integrity: dict[str, Any] = {}
    if "i" in members:
        integrity["lvl"] = _bare(members, "i", str)
    if "by" in members:
        integrity["by"] = [_string(item) for item in _list(members, "by")]
    return integrity


def _sensitivity(member: Member) -> dict[str, Any]:
    if not isinstance(member, Item) or member.parameters.keys() != {"mip"}:
        raise MalformedLabel("label-sensitivity", "wants a priority with the parameter mip")
    return {"prio": member.value, "mip": _string(Item(member.parameters["mip"]))}


def _list(members: Mapping[str, Member], name: str) -> Sequence[Item]:
    member = members[name]
    if isinstance(member, Item):
        raise MalformedLabel("label-type", f"{name} is not an inner list")
    return member


def _string(item: Item) -> str:
    if item.parameters or not isinstance(item.value, str):
        raise MalformedLabel("label-type", "a list item is not a plain string or token")
    return str(item.value)


def _bare(members: Mapping[str, Member], name: str, kind: type[_T]) -> _T:
    member = members.get(name)
    if (
        not isinstance(member, Item)
        or member.parameters
        or not isinstance(member.value, kind)
        or isinstance(member.value, bool)
    ):
        raise MalformedLabel("label-type", f"{name} is not of its type, or missing")
    return member.value

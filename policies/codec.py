"""Labels as canonical JSON, and their ids.

    {"v":1,"c":{"org:acme":["enclave:sha256:9c1f…","grp:7f3"]},"i":{"lvl":"vendor","by":["svc:dlp"]},
     "p":["support"],"r":["eu"],"t":2592000,"f":["no-train"],"s":{"mip":"722a…","prio":5},
     "src":["sp:site/doc"],"u":[]}

Canonical form: RFC 8785, arrays sorted by code point, members at their bottom value left out. ``label_id`` is
its SHA-256, so two labels have one id exactly if they are equal. The reader takes any order and spelt-out
bottoms, and refuses everything else: unknown or duplicate members, repeated array items, floats.

An encoded label carries at most 64 sources. Beyond that ``src`` is one reference to the Merkle tree
(RFC 6962) over the sorted sources, ``merkle:<count>:<root>``; sources never grant, so nothing is lost but
the list, which whoever joined them keeps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import rfc8785

from policies.labels import Integrity, Label, Sensitivity
from policies.refusal import MalformedLabel

VERSION = 1
MAX_LABEL_BYTES = 256 * 1024
MAX_SOURCES = 64
MAX_ATOMS = 4096  # in all arrays of one encoded label together
LEVELS = {level.name.lower(): level for level in Integrity}
_MEMBERS = frozenset({"v", "c", "i", "p", "r", "t", "f", "s", "src", "u"})


def encode(label: Label) -> bytes:
    """The canonical JSON of ``label``."""
    return rfc8785.dumps(document_of(label))


@lru_cache(maxsize=4096)
def label_id(label: Label) -> str:
    """``sha256:`` and the hex digest of the canonical JSON."""
    return f"sha256:{hashlib.sha256(encode(label)).hexdigest()}"


def parse(data: bytes) -> Label:
    """The label that ``data`` is.

    Raises:
        MalformedLabel: ``label-too-large``, ``label-not-json``, ``label-duplicate``, ``label-members``,
            ``label-version``, ``label-type``, and the codes of ``Label``.
    """
    if len(data) > MAX_LABEL_BYTES:
        raise MalformedLabel("label-too-large", f"{len(data)} bytes, at most {MAX_LABEL_BYTES}")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_constant=_no_number,
            parse_float=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedLabel("label-not-json") from error
    return label_of(document)


def merkle_reference(sources: Iterable[str]) -> str:
    """``merkle:<count>:<hex root>`` over the sorted sources (RFC 6962 section 2.1)."""
    level = [hashlib.sha256(b"\x00" + source.encode()).digest() for source in sorted(sources)]
    count = len(level)
    while len(level) > 1:
        # Pairing level by level gives RFC 6962's tree: an odd last node rises unchanged.
        pairs = [
            hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)
        ]
        level = pairs + level[len(pairs) * 2 :]
    root = level[0] if level else hashlib.sha256(b"").digest()
    return f"merkle:{count}:{root.hex()}"


def document_of(label: Label) -> dict[str, Any]:
    """The members of the canonical JSON of ``label``."""
    sources = sorted(label.sources)
    if len(sources) > MAX_SOURCES:
        sources = [merkle_reference(sources)]
    sensitivity = label.sensitivity
    members: dict[str, Any] = {
        "c": {owner: sorted(readers) for owner, readers in label.owners} or None,
        "i": _integrity_document(label) or None,
        "p": _sorted_or_none(label.purposes),
        "r": _sorted_or_none(label.regions),
        "t": label.retention_seconds,
        "f": sorted(label.flags) or None,
        "s": None if sensitivity is None else {"mip": sensitivity.mip, "prio": sensitivity.priority},
        "src": sources or None,
        "u": sorted(label.unresolved) or None,
    }
    return {"v": VERSION} | {name: value for name, value in members.items() if value is not None}


def _integrity_document(label: Label) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if label.integrity is not Integrity.SYSTEM:
        document["lvl"] = label.integrity.name.lower()
    if label.endorsers is not None:
        document["by"] = sorted(label.endorsers)
    return document


def _sorted_or_none(restriction: frozenset[str] | None) -> list[str] | None:
    # An empty list is not None here: "no purpose at all" is the opposite of "any".
    return None if restriction is None else sorted(restriction)


def label_of(document: Any) -> Label:
    """The label with these members.

    Raises:
        MalformedLabel: as ``parse``, less what concerns bytes.
    """
    members = _object(document, _MEMBERS)
    if members.get("v") != VERSION or isinstance(members["v"], bool):
        raise MalformedLabel("label-version", f"this version reads {VERSION}")
    owners = members.get("c", {})
    if not isinstance(owners, dict):
        raise MalformedLabel("label-type", "c is not an object")
    integrity = _object(members.get("i", {}), frozenset({"lvl", "by"}))
    sources = _atoms(members.get("src", []))
    _bound(members, owners, sources)
    return Label(
        owners=tuple((owner, _atoms(readers)) for owner, readers in owners.items()),
        integrity=_level(integrity.get("lvl", "system")),
        endorsers=_optional_atoms(integrity, "by"),
        purposes=_optional_atoms(members, "p"),
        regions=_optional_atoms(members, "r"),
        retention_seconds=_integer(members["t"]) if "t" in members else None,
        flags=_atoms(members.get("f", [])),
        sensitivity=_sensitivity(members["s"]) if "s" in members else None,
        sources=sources,
        unresolved=_atoms(members.get("u", [])),
    )


def _bound(members: dict[str, Any], owners: dict[str, Any], sources: frozenset[str]) -> None:
    if len(sources) > MAX_SOURCES:
        raise MalformedLabel("label-too-large", f"{len(sources)} sources, at most {MAX_SOURCES}")
    arrays = [value for value in (*members.values(), *owners.values()) if isinstance(value, list)]
    if len(owners) + sum(map(len, arrays)) > MAX_ATOMS:
        raise MalformedLabel("label-too-large", f"at most {MAX_ATOMS} atoms")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedLabel("label-duplicate", "a member twice")
    return members


def _no_number(_: str) -> Any:
    raise MalformedLabel("label-not-json", "a number that is no integer")


def _object(value: Any, names: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedLabel("label-type", "not an object")
    unknown = len(value.keys() - names)
    if unknown:
        raise MalformedLabel("label-members", f"{unknown} unknown, known are {sorted(names)}")
    return value


def _atoms(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(atom, str) for atom in value):
        raise MalformedLabel("label-type", "not an array of strings")
    atoms = frozenset(value)
    if len(atoms) != len(value):
        raise MalformedLabel("label-duplicate", "an array item twice")
    return atoms


def _optional_atoms(members: dict[str, Any], name: str) -> frozenset[str] | None:
    return _atoms(members[name]) if name in members else None


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedLabel("label-type", "not an integer")
    return value


def _level(value: Any) -> Integrity:
    if not isinstance(value, str) or value not in LEVELS:
        raise MalformedLabel("label-integrity", f"known levels are {sorted(LEVELS)}")
    return LEVELS[value]


def _sensitivity(value: Any) -> Sensitivity:
    members = _object(value, frozenset({"mip", "prio"}))
    if members.keys() != {"mip", "prio"} or not isinstance(members["mip"], str):
        raise MalformedLabel("label-sensitivity", "wants mip and prio")
    return Sensitivity(priority=_integer(members["prio"]), mip=members["mip"])

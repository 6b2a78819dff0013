"""What a value in the log may look like.

The log must never hold content, so nothing in it is free text: every string is an identifier, a code or a
digest of the forms here, and everything else is a number, a truth value or a list of identifiers. The forms
have no blank and no ``@``, so neither a sentence nor a mail address passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from attest.refusal import Malformed

MAX_COUNT = 2**53 - 1  # what every JSON reader holds exactly
MAX_LIST = 4096  # as many atoms as an encoded label may have

_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")
_CODE = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_MAX_CODE = 64
_OWNER = re.compile(r"(?:org|grp|svc):[A-Za-z0-9._~@/+=#:-]{1,200}|user:withheld")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

FACT_KINDS: Mapping[str, str] = {
    "groups": "ids",
    "attested": "bool",
    "vendor": "id",
    "is_mock": "bool",
    "region": "id",
    "model": "id",
    "practices": "ids",
    "label_id": "id",
    "label_owners": "owners",
    "label_integrity": "number",
    "label_flags": "ids",
    "label_unresolved": "number",
    "label_sensitivity": "number",
    "label_purposes": "ids",
    "label_regions": "ids",
    "obstacles": "ids",
    "purpose": "id",
    "stream": "bool",
    "max_tokens": "number",
    "allow_mock": "bool",
}
"""Every fact that may be logged. A new one is a decision to publish it, so it is made here by hand."""


def require_id(name: str, value: Any) -> None:
    """An identifier of at most 128 characters.

    Raises:
        Malformed: ``audit-id`` otherwise.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Malformed("audit-id", f"{name} is not an identifier")


def require_code(name: str, value: Any) -> None:
    """A kebab-case or snake_case code of at most 64 characters.

    Raises:
        Malformed: ``audit-code`` otherwise.
    """
    if not isinstance(value, str) or len(value) > _MAX_CODE or not _CODE.fullmatch(value):
        raise Malformed("audit-code", f"{name} is not a code")


def require_digest(name: str, value: Any) -> None:
    """``sha256:`` and 64 hex digits.

    Raises:
        Malformed: ``audit-digest`` otherwise.
    """
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise Malformed("audit-digest", f"{name} is not a digest")


def require_count(name: str, value: Any, *, least: int = 0) -> None:
    """An integer that every JSON reader holds exactly.

    Raises:
        Malformed: ``audit-count`` otherwise.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_COUNT:
        raise Malformed("audit-count", f"{name} is not a count")


def require_time(value: Any) -> None:
    """An aware moment in UTC.

    Raises:
        Malformed: ``audit-time`` otherwise.
    """
    if not isinstance(value, datetime) or value.utcoffset() != timedelta(0):
        raise Malformed("audit-time", "not an aware UTC time")


def require_ids(name: str, value: Any) -> None:
    """A tuple of at most ``MAX_LIST`` identifiers.

    Raises:
        Malformed: ``audit-list`` if it is none, ``audit-id`` for an item.
    """
    if not isinstance(value, tuple) or len(value) > MAX_LIST:
        raise Malformed("audit-list", f"{name} is not a list of at most {MAX_LIST}")
    for item in value:
        require_id(name, item)


def require_facts(facts: Mapping[str, Any]) -> None:
    """Known facts only, each of its own kind.

    Raises:
        Malformed: ``audit-fact`` for an unknown name or a wrong kind, or as above.
    """
    for name, value in facts.items():
        kind = FACT_KINDS.get(name)
        if kind is None:
            raise Malformed("audit-fact", "a fact that is not listed")
        _REQUIRE[kind](name, value)


def _require_owners(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or len(value) > MAX_LIST:
        raise Malformed("audit-list", f"{name} is not a list of at most {MAX_LIST}")
    for owner in value:
        if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
            raise Malformed("audit-fact", f"{name} holds what is no owner, or names a person")


def _require_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise Malformed("audit-fact", f"{name} is not a truth value")


def _require_number(name: str, value: Any) -> None:
    require_count(name, value, least=-1)


def _require_id_or_empty(name: str, value: Any) -> None:
    if value != "":
        require_id(name, value)


_REQUIRE: Mapping[str, Callable[[str, Any], None]] = {
    "bool": _require_bool,
    "number": _require_number,
    "id": _require_id_or_empty,
    "ids": require_ids,
    "owners": _require_owners,
}

"""A JSON schema made ready for the compiler: what is not asserted dropped, what cannot be enforced refused.

An unknown member of a schema means nothing (JSON Schema core, section 4.3.1), so it is dropped: among those
is the library's own, ``x-guidance``, which would change how it compiles. A known assertion that the library
does not enforce is refused by name: an answer that ignored it would be taken for one that did not.

Where a schema names an object's properties and does not say what others there may be, there are none: a
narrower form, and what a caller who lists a function's arguments means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from runtime.guide.form import FormRefused, Schema
from runtime.guide.pattern import portable

MAX_MULTIPLE: Final = 10_000
"""The compiler has a state per remainder: of the least common multiple of all, in the smallest decimal."""

_VALUES: Final = frozenset(
    {
        *("type", "enum", "const", "required", "minProperties", "maxProperties", "minItems", "maxItems"),
        *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("multipleOf", "pattern", "format", "$ref"),
    }
)
_ONE: Final = frozenset({"additionalProperties", "items"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_UNENFORCED: Final = frozenset(
    {
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "dependentSchemas"),
        *("dependentRequired", "dependencies", "propertyNames", "unevaluatedProperties", "unevaluatedItems"),
        *("additionalItems", "uniqueItems", "$dynamicRef", "$recursiveRef"),
    }
)
_FORMATS: Final = frozenset(
    {"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
"""Those that are enforced; by default a format is an annotation (JSON Schema validation, section 7.2.1)."""

_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM: Final = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_NARROWER: Final = {
    "email": f"^{_ATOM}{{1,32}}(\\.{_ATOM}{{1,31}})?@{_LABEL}(\\.{_LABEL}){{1,2}}$",
    "time": "^[0-9]{2}:[0-9]{2}:[0-5]",
    "date-time": "^[0-9-]{10}[^0-9][0-9]{2}:[0-9]{2}:[0-5]",
}
"""What validators refuse and the library would write: long local parts and labels (RFC 5321, RFC 1035), a
second numbered 60 at any time of day (RFC 3339, section 5.7)."""

_JOINING: Final = frozenset({"allOf", "anyOf", "oneOf", "$ref", "patternProperties", "minProperties"})


def prepared(schema: Schema) -> dict[str, Any]:
    """The schema as the compiler may have it.

    Raises:
        FormRefused: it asserts what cannot be enforced, or is malformed where that would matter.
    """
    return _Preparation(closing=not _joins(schema)).of_object(schema)


def _joins(value: Any) -> bool:
    """Whether a schema here adds to another's properties, so that closing the one would empty both."""
    if isinstance(value, Mapping):
        joining = "allOf" in value or ("properties" in value and not _JOINING.isdisjoint(value))
        return joining or any(map(_joins, value.values()))
    return isinstance(value, list) and any(map(_joins, value))


class _Preparation:
    def __init__(self, *, closing: bool) -> None:
        self._closing = closing
        self._multiple = Decimal(1)

    def of(self, schema: Any) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise FormRefused("A schema is an object, true or false.")
        return self.of_object(schema)

    def of_object(self, schema: Schema) -> dict[str, Any]:
        if idle := sorted(key for key in schema if key in _UNENFORCED and schema[key] is not False):
            raise FormRefused(f"The runtime does not enforce {', '.join(idle)} in a schema.")
        result = {key: self._member(key, value) for key, value in schema.items() if _counts(key, value)}
        if self._closing and result.get("properties"):
            result.setdefault("additionalProperties", False)
        if (narrower := _NARROWER.get(result.get("format", ""))) is not None:
            if result["format"] == "email":
                del result["format"]  # the expression says it all, and three at once are soon too complex
            if "pattern" in result:
                result["allOf"] = [*result.get("allOf", ()), {"pattern": narrower}]
            else:
                result["pattern"] = narrower
        return result

    def _member(self, key: str, value: Any) -> Any:
        if key in _ONE:
            return self.of(value)
        if key in _LISTS:
            return [self.of(each) for each in _typed(key, value, list)]
        if key in _MAPS:
            members = _typed(key, value, dict)
            name_of = portable if key == "patternProperties" else str
            return {name_of(name): self.of(each) for name, each in members.items()}
        if key == "pattern":
            return portable(_typed(key, value, str))
        if key == "multipleOf":
            self._multiply(value)
        return value

    def _multiply(self, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise FormRefused("multipleOf is a number above 0.")
        multiple, step = self._multiple, Decimal(repr(value))
        scale = Decimal(10) ** max(_decimals(multiple), _decimals(step))
        if max(multiple, step) * scale <= MAX_MULTIPLE:
            self._multiple = Decimal(math.lcm(int(multiple * scale), int(step * scale))) / scale
            if self._multiple * scale <= MAX_MULTIPLE:
                return
        raise FormRefused(f"multipleOf may span {MAX_MULTIPLE} of its last decimal, all of them together.")


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _counts(key: str, value: Any) -> bool:
    """Whether a member changes what is accepted."""
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    return key in _VALUES or key in _ONE or key in _LISTS or key in _MAPS


def _typed(key: str, value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise FormRefused(f"{key} is of another type in a schema.")
    return value

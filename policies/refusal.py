"""How this package says no.

    PolicyRefusal           something must not be accepted                      exit 10
    ├── FlowRefused         a label does not let this data go there             exit 10
    ├── BundleRefused       a policy bundle is not the one that was signed      exit 10
    ├── MalformedLabel      not a label at all                                  exit 30
    └── MalformedPolicies   not a usable set of policies                        exit 30

The tree mirrors ``attest.refusal`` and is apart from it, because neither package may import the other.
``code`` is stable and kebab-case (docs/reference/refusal-codes.md); ``reason`` is for a person. Neither
holds what a label's atoms say about people, nor any content: names of members, counts and sizes only.
"""

from __future__ import annotations

from typing import ClassVar


class PolicyRefusal(Exception):
    """A check of labels or policies failed.

    Args:
        code: stable identifier of the check, kebab-case.
        reason: what is wrong, for a person.
    """

    exit_code: ClassVar[int] = 10

    def __init__(self, code: str, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(code)

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" if self.reason else self.code


class FlowRefused(PolicyRefusal):
    """The label does not let its data reach the sink; ``code`` is ``flow-`` and the first obstacle."""


class BundleRefused(PolicyRefusal):
    """The policy bundle does not carry the signature that was demanded."""


class MalformedLabel(PolicyRefusal):
    """The value is not an instance of the label format."""

    exit_code = 30


class MalformedPolicies(PolicyRefusal):
    """The policies do not parse, do not validate against the schema, or cannot be named in a log."""

    exit_code = 30

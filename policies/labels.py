"""The label lattice: what is known about where data may go.

A ``Label`` is a product of ten components, each a join-semilattice; ``join`` is componentwise, so it is
commutative, associative and idempotent, with ``PUBLIC`` as its unit. Joining can only restrict: whatever a
label refuses, every join with it refuses too (tests/properties/test_label_laws.py).

    component           bottom      join                                        JSON
    owners              ()          union of owners, intersection of readers    c
    integrity           SYSTEM      minimum                                     i.lvl
    endorsers           None (any)  intersection                                i.by
    purposes, regions   None (any)  intersection                                p, r
    retention_seconds   None        minimum                                     t
    flags               {}          union                                       f
    sensitivity         None        higher priority                             s
    sources             {}          union; they inform an audit, never grant    src
    unresolved          {}          union; non-empty refuses everything         u

The owners' component is the decentralised label model (Myers and Liskov): every owner keeps his own list of
readers, and a reader needs the consent of all of them. An owner may always read what is his, so he is not
listed among his own readers. ``enclave:`` atoms name an appraisal policy: a runtime is that reader only
while a verdict under this policy holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from enum import IntEnum
from functools import reduce

from policies.refusal import MalformedLabel

MAX_RETENTION_SECONDS = 10**10
MAX_PRIORITY = 2**31 - 1

_ID = r"[A-Za-z0-9._~@/+=#:-]{1,200}"
_OWNER = re.compile(rf"(?:org|user|grp|svc):{_ID}")
_READER = re.compile(rf"(?:user|grp|svc):{_ID}|enclave:sha256:[0-9a-f]{{64}}")
_NAME = re.compile(r"[a-z][a-z0-9.-]{0,63}")
_REFERENCE = re.compile(r"[!#-\[\]-~]{1,256}")  # visible ASCII less the quote and the backslash
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

FLAGS = frozenset({"no-train", "no-cache", "no-log", "no-embed"})


class Integrity(IntEnum):
    """How far the origin of data is trusted; a join takes the lower."""

    UNTRUSTED = 0
    VENDOR = 1
    INTERNAL = 2
    USER = 3
    SYSTEM = 4


@dataclass(frozen=True, slots=True, order=True)
class Sensitivity:
    """A sensitivity label of the enterprise's own scheme.

    Args:
        priority: its rank there, 0 to 2**31 - 1; a join takes the higher.
        mip: its GUID, lower case; decides only between equal priorities, so that joins commute.
    """

    priority: int
    mip: str

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise MalformedLabel("label-sensitivity", "priority out of range")
        if not _GUID.fullmatch(self.mip):
            raise MalformedLabel("label-sensitivity", "mip is not a lower-case GUID")


@dataclass(frozen=True, slots=True, repr=False)
class Label:
    """One point of the lattice. ``Label()`` is ``PUBLIC``.

    Args:
        owners: (owner, readers) pairs; sorted and freed of self-references here, so that equal labels
            compare equal. ``labelled`` takes a mapping instead.
        retention_seconds: how long a sink may keep the data; 0 means not at all.
        unchecked: skips validation of parts that come out of valid labels; for ``join`` only.

    Raises:
        MalformedLabel: ``label-owner``, ``label-reader``, ``label-endorser``, ``label-purpose``,
            ``label-region``, ``label-retention``, ``label-flag``, ``label-source``, ``label-unresolved``.
    """

    owners: tuple[tuple[str, frozenset[str]], ...] = ()
    integrity: Integrity = Integrity.SYSTEM
    endorsers: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    regions: frozenset[str] | None = None
    retention_seconds: int | None = None
    flags: frozenset[str] = frozenset()
    sensitivity: Sensitivity | None = None
    sources: frozenset[str] = frozenset()
    unresolved: frozenset[str] = frozenset()
    unchecked: InitVar[bool] = False

    def __post_init__(self, unchecked: bool) -> None:
        if unchecked:
            return
        _check_owners(self.owners)
        _check(self.endorsers or (), _OWNER, "label-endorser")
        _check(self.purposes or (), _NAME, "label-purpose")
        _check(self.regions or (), _NAME, "label-region")
        _check(self.sources, _REFERENCE, "label-source")
        _check(self.unresolved, _REFERENCE, "label-unresolved")
        if not self.flags <= FLAGS:
            raise MalformedLabel("label-flag", f"known flags are {sorted(FLAGS)}")
        if self.retention_seconds is not None and not 0 <= self.retention_seconds <= MAX_RETENTION_SECONDS:
            raise MalformedLabel("label-retention", "out of range")
        ordered = tuple(sorted((owner, readers - {owner}) for owner, readers in self.owners))
        object.__setattr__(self, "owners", ordered)

    def __repr__(self) -> str:
        """Sizes only: atoms may name people."""
        return (
            f"Label({len(self.owners)} owners, {self.integrity.name.lower()}, flags {sorted(self.flags)}, "
            f"{len(self.sources)} sources, {len(self.unresolved)} unresolved)"
        )

    def refused_by(self, atoms: Iterable[str]) -> int:
        """How many owners do not let the reader holding ``atoms`` (any of them suffices) read."""
        held = frozenset(atoms)
        return sum(1 for owner, readers in self.owners if owner not in held and readers.isdisjoint(held))


def labelled(readers: Mapping[str, Iterable[str]]) -> Label:
    """A label that says who owns data and whom each owner lets read it, and nothing else."""
    return Label(owners=tuple((owner, frozenset(atoms)) for owner, atoms in readers.items()))


def enclave_atom(appraisal_policy_digest: str) -> str:
    """The reader that a runtime is while it appraises under the policy with this ``sha256:`` digest.

    Raises:
        MalformedLabel: ``label-reader`` if it is no such digest.
    """
    atom = f"enclave:{appraisal_policy_digest}"
    _check((atom,), _READER, "label-reader")
    return atom


def join(left: Label, right: Label) -> Label:
    """The least label that restricts as much as both."""
    if right in (left, PUBLIC):
        return left
    if left == PUBLIC:
        return right
    return Label(
        owners=_join_owners(left.owners, right.owners),
        integrity=min(left.integrity, right.integrity),
        endorsers=_narrower(left.endorsers, right.endorsers),
        purposes=_narrower(left.purposes, right.purposes),
        regions=_narrower(left.regions, right.regions),
        retention_seconds=_shorter(left.retention_seconds, right.retention_seconds),
        flags=left.flags | right.flags,
        sensitivity=_higher(left.sensitivity, right.sensitivity),
        sources=left.sources | right.sources,
        unresolved=left.unresolved | right.unresolved,
        unchecked=True,
    )


def join_all(labels: Iterable[Label]) -> Label:
    """The join of any number of labels; ``PUBLIC`` for none."""
    return reduce(join, labels, PUBLIC)


def is_at_most(lower: Label, upper: Label) -> bool:
    """The lattice's order: whether ``upper`` restricts at least as much as ``lower`` in every component."""
    return join(lower, upper) == upper


def _join_owners(
    left: tuple[tuple[str, frozenset[str]], ...], right: tuple[tuple[str, frozenset[str]], ...]
) -> tuple[tuple[str, frozenset[str]], ...]:
    merged = dict(left)
    for owner, readers in right:
        known = merged.get(owner)
        merged[owner] = readers if known is None else known & readers
    return tuple(sorted(merged.items()))


def _narrower(left: frozenset[str] | None, right: frozenset[str] | None) -> frozenset[str] | None:
    if left is None:
        return right
    return left if right is None else left & right


def _shorter(left: int | None, right: int | None) -> int | None:
    if left is None:
        return right
    return left if right is None else min(left, right)


def _higher(left: Sensitivity | None, right: Sensitivity | None) -> Sensitivity | None:
    if left is None:
        return right
    return left if right is None else max(left, right)


def _check_owners(owners: tuple[tuple[str, frozenset[str]], ...]) -> None:
    names = [owner for owner, _ in owners]
    _check(names, _OWNER, "label-owner")
    if len(set(names)) != len(names):
        raise MalformedLabel("label-owner", "named twice")
    for owner, readers in owners:
        _check(readers - {owner}, _READER, "label-reader")


def _check(values: Iterable[str], form: re.Pattern[str], code: str) -> None:
    for value in values:
        if not form.fullmatch(value):
            raise MalformedLabel(code, "not of the documented form")


PUBLIC = Label()

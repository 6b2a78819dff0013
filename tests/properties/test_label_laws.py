"""The lattice is one: joins commute, associate, repeat without effect, and only ever restrict."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from policies.flow import Sink, flows_to, obstacles
from policies.labels import PUBLIC, Label, is_at_most, join, join_all
from policies.refusal import FlowRefused
from tests.properties.label_strategies import OWNERS, READERS, labels, sinks


@given(labels, labels)
def test_join_commutes(left: Label, right: Label) -> None:
    assert join(left, right) == join(right, left)


@given(labels, labels, labels)
def test_join_associates(a: Label, b: Label, c: Label) -> None:
    assert join(join(a, b), c) == join(a, join(b, c)) == join_all([a, b, c])


@given(labels)
def test_join_is_idempotent_and_public_is_its_unit(label: Label) -> None:
    assert join(label, label) == label
    assert join(label, PUBLIC) == label == join(PUBLIC, label)


@given(labels, labels, labels)
def test_join_is_the_least_upper_bound(a: Label, b: Label, c: Label) -> None:
    both = join(a, b)
    assert is_at_most(a, both)
    assert is_at_most(b, both)
    if is_at_most(a, c) and is_at_most(b, c):
        assert is_at_most(both, c)


@given(labels, labels)
def test_order_is_antisymmetric(a: Label, b: Label) -> None:
    assert (is_at_most(a, b) and is_at_most(b, a)) == (a == b)


@given(labels, labels, sinks)
def test_joining_never_opens_a_way(label: Label, other: Label, sink: Sink) -> None:
    """Whatever stands between a label and a sink stands there after any join."""
    assert set(obstacles(label, sink)) <= set(obstacles(join(label, other), sink))


@given(labels, labels, sinks)
def test_a_join_is_blocked_only_by_what_blocks_a_part(label: Label, other: Label, sink: Sink) -> None:
    """The join adds no restriction of its own, where a sink is a single identity and a single endorser asked.

    With several atoms it may: one owner can admit the user and another only the group.
    """
    narrow = Sink(
        atoms=frozenset(sorted(sink.atoms)[:1]),
        purpose=sink.purpose,
        region=sink.region,
        keeps_seconds=sink.keeps_seconds,
        practices=sink.practices,
        min_integrity=sink.min_integrity,
        required_endorsers=sink.required_endorsers,
    )
    parts = set(obstacles(label, narrow)) | set(obstacles(other, narrow))
    joined = set(obstacles(join(label, other), narrow))
    assert joined - parts <= {"reader"}
    if "reader" in joined - parts:  # the same owner listed different readers in the two
        assert {owner for owner, _ in label.owners} & {owner for owner, _ in other.owners}


@settings(max_examples=300)
@given(labels)
def test_readers_are_those_whom_every_owner_admits(label: Label) -> None:
    """Against the textbook definition: effective readers = intersection over owners of (readers + owner)."""
    for atom in (*READERS, *OWNERS):
        admitted = all(atom in readers | {owner} for owner, readers in label.owners)
        blocked = "reader" in obstacles(label, Sink(atoms=frozenset({atom})))
        assert admitted is not blocked


@given(labels, sinks)
def test_flows_to_raises_exactly_if_there_is_an_obstacle(label: Label, sink: Sink) -> None:
    found = obstacles(label, sink)
    if not found:
        flows_to(label, sink)
        return
    with pytest.raises(FlowRefused) as caught:
        flows_to(label, sink)
    assert caught.value.code == f"flow-{found[0]}"
    assert all(obstacle in caught.value.reason for obstacle in found)

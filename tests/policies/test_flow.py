"""Each obstacle, alone, with the smallest sink that meets it and the smallest change that removes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.flow import Obstacle, Sink, flows_to, obstacles
from policies.labels import PUBLIC, Integrity, Label, labelled
from policies.refusal import FlowRefused

SINK = Sink(atoms=frozenset({"svc:sink"}))


@pytest.mark.parametrize(
    ("obstacle", "label", "sink", "allowed"),
    [
        ("unresolved", Label(unresolved=frozenset({"call-1"})), SINK, None),
        ("reader", labelled({"org:a": []}), SINK, replace(SINK, atoms=frozenset({"org:a"}))),
        (
            "reader",
            labelled({"org:a": ["grp:x"]}),
            SINK,
            replace(SINK, atoms=frozenset({"svc:sink", "grp:x"})),
        ),
        ("purpose", Label(purposes=frozenset({"support"})), SINK, replace(SINK, purpose="support")),
        ("purpose", Label(purposes=frozenset()), replace(SINK, purpose="support"), None),
        ("region", Label(regions=frozenset({"eu"})), replace(SINK, region="us"), replace(SINK, region="eu")),
        ("region", Label(regions=frozenset({"eu"})), SINK, replace(SINK, region="eu")),
        ("retention", Label(retention_seconds=0), replace(SINK, keeps_seconds=1), SINK),
        (
            "retention",
            Label(retention_seconds=9),
            replace(SINK, keeps_seconds=None),
            replace(SINK, keeps_seconds=9),
        ),
        (
            "practice",
            Label(flags=frozenset({"no-train"})),
            replace(SINK, practices=frozenset({"train"})),
            replace(SINK, practices=frozenset({"cache", "log", "embed"})),
        ),
        (
            "practice",
            Label(flags=frozenset({"no-cache", "no-log", "no-embed"})),
            replace(SINK, practices=frozenset({"embed"})),
            replace(SINK, practices=frozenset({"train"})),
        ),
        (
            "integrity",
            Label(integrity=Integrity.VENDOR),
            replace(SINK, min_integrity=Integrity.USER),
            replace(SINK, min_integrity=Integrity.VENDOR),
        ),
        (
            "endorsement",
            Label(endorsers=frozenset()),
            replace(SINK, required_endorsers=frozenset({"svc:dlp"})),
            SINK,
        ),
    ],
)
def test_an_obstacle_stands_alone_and_goes_away(
    obstacle: str, label: Label, sink: Sink, allowed: Sink | None
) -> None:
    assert obstacles(label, sink) == (Obstacle(obstacle),)
    with pytest.raises(FlowRefused) as caught:
        flows_to(label, sink)
    assert caught.value.code == f"flow-{obstacle}"
    if allowed is not None:
        flows_to(label, allowed)


def test_every_obstacle_is_reported_at_once() -> None:
    label = Label(
        owners=(("org:a", frozenset()),),
        integrity=Integrity.UNTRUSTED,
        endorsers=frozenset(),
        purposes=frozenset(),
        regions=frozenset(),
        retention_seconds=0,
        flags=frozenset({"no-log"}),
        unresolved=frozenset({"x"}),
    )
    sink = Sink(
        atoms=frozenset(),
        keeps_seconds=None,
        practices=frozenset({"log"}),
        min_integrity=Integrity.SYSTEM,
        required_endorsers=frozenset({"svc:dlp"}),
    )
    assert obstacles(label, sink) == tuple(Obstacle)


def test_public_data_may_go_anywhere() -> None:
    flows_to(PUBLIC, Sink(atoms=frozenset(), keeps_seconds=None, practices=frozenset({"train", "log"})))


def test_an_unresolved_input_is_never_a_rank() -> None:
    """No sink, however trusted, is a reader of what is not known."""
    anyone = Sink(atoms=frozenset({"org:a", "user:ann"}), purpose="support", region="eu")
    with pytest.raises(FlowRefused):
        flows_to(Label(unresolved=frozenset({"call-1"})), anyone)

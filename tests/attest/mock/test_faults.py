"""Every named lie is refused, by the code that it names, and differs from honesty in one thing."""

from __future__ import annotations

import pytest

from attest.mock import faults
from attest.mock.faults import FAULTS, Fault, apply_bundle_fault
from attest.mock.world import MockWorld
from attest.refusal import Refused
from tests.simulators.mock_runtime import NONCE, verdict

BUNDLE_FAULTS = [fault for fault in FAULTS.values() if fault.level == "bundle"]


@pytest.mark.parametrize("fault", BUNDLE_FAULTS, ids=lambda fault: fault.name)
def test_every_bundle_fault_is_refused(mock_world: MockWorld, fault: Fault) -> None:
    """By exactly the code and exit code that the registry promises."""
    lie = apply_bundle_fault(fault.name, mock_world, NONCE)
    with pytest.raises(Refused) as refusal:
        verdict(mock_world, lie)
    assert (refusal.value.code, refusal.value.exit_code) == (fault.expected_code, fault.exit_code)
    assert refusal.value.checks, "a refusal of a whole bundle shows its rows"


def test_the_world_is_honest_without_a_fault(mock_world: MockWorld) -> None:
    """So what is refused above is the lie."""
    assert verdict(mock_world, mock_world.answer(NONCE)).is_mock


def test_a_lie_leaves_the_world_as_it_was(mock_world: MockWorld) -> None:
    """The registry changes copies: after all lies the same world still answers honestly."""
    for fault in BUNDLE_FAULTS:
        apply_bundle_fault(fault.name, mock_world, NONCE)
    assert verdict(mock_world, mock_world.answer(NONCE)).is_mock


def test_the_six_liars_of_the_demo_have_names() -> None:
    """The demo and the development server rely on them."""
    bundle = {"wrong-measurement", "debug-guest", "key-swapped", "stale-nonce"}
    channel = {"replayed-answer", "truncated-stream"}
    assert {name for name in bundle if FAULTS[name].level == "bundle"} == bundle
    assert {name for name in channel if FAULTS[name].level == "channel"} == channel


def test_channel_faults_are_not_made_here(mock_world: MockWorld) -> None:
    """A name that only a runtime can act out is no bundle."""
    for name in ("replayed-answer", "no-such-fault"):
        with pytest.raises(KeyError):
            apply_bundle_fault(name, mock_world, NONCE)


def test_registry_is_complete() -> None:
    """Every fault says what it is, and no name is taken twice."""
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert fault.title
        assert fault.promise in {f"P{number}" for number in range(1, 9)}
    with pytest.raises(ValueError, match="debug-guest"):
        faults._register(FAULTS["debug-guest"])

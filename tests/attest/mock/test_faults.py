"""Every named lie is refused, by the code that it names, and differs from honesty in one thing."""

from __future__ import annotations

import pytest

from attest.mock import faults
from attest.mock.faults import FAULTS, Fault, apply_bundle_fault
from attest.mock.world import MockWorld
from attest.refusal import Refused
from gateway.cli.demo.liars import liars_of
from gateway.cli.dev_world import Machine
from tests.simulators.mock_runtime import NONCE, verdict

BUNDLE_FAULTS = [fault for fault in FAULTS.values() if fault.level == "bundle"]
WORLDS: dict[str, set[str]] = {
    "mock_world": {"any", "snp"},
    "one_gpu_world": {"any", "snp", "gpu"},
    "td_world": {"any", "tdx"},
    "azure_world": {"any", "azure-snp"},
    "board_world": {"any", "tdx", "gpu", "board"},
}
TOLD = [(world, fault) for world, kinds in WORLDS.items() for fault in BUNDLE_FAULTS if fault.needs in kinds]


@pytest.fixture(params=WORLDS)
def any_world(request: pytest.FixtureRequest) -> MockWorld:
    """Each kind of machine in turn."""
    world: MockWorld = request.getfixturevalue(request.param)
    return world


@pytest.mark.parametrize(("name", "fault"), TOLD, ids=lambda each: getattr(each, "name", each))
def test_every_bundle_fault_is_refused(name: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    """By exactly the code and exit code that the registry promises, on every machine that can tell it."""
    world: MockWorld = request.getfixturevalue(name)
    assert fault.fits(world)
    lie = apply_bundle_fault(fault.name, world, NONCE)
    with pytest.raises(Refused) as refusal:
        verdict(world, lie)
    assert (refusal.value.code, refusal.value.exit_code) == (fault.expected_code, fault.exit_code)
    assert refusal.value.checks, "a refusal of a whole bundle shows its rows"


def test_a_machine_cannot_lie_about_what_it_lacks(mock_world: MockWorld, td_world: MockWorld) -> None:
    """A lie that does not fit is an error of whoever asks for it, never an honest answer."""
    for name, world in (
        ("wrong-mrtd", mock_world),
        ("gpu-stale", mock_world),
        ("wrong-pcr", mock_world),
        ("debug-guest", td_world),
    ):
        assert not FAULTS[name].fits(world)
        with pytest.raises(TypeError):
            apply_bundle_fault(name, world, NONCE)
    assert {fault.name for _, fault in TOLD} == {fault.name for fault in BUNDLE_FAULTS}


def test_the_world_is_honest_without_a_fault(any_world: MockWorld) -> None:
    """So what is refused above is the lie."""
    assert verdict(any_world, any_world.answer(NONCE)).is_mock


def test_a_lie_leaves_the_world_as_it_was(any_world: MockWorld) -> None:
    """The registry changes copies: after all lies the same world still answers honestly."""
    for fault in BUNDLE_FAULTS:
        if fault.fits(any_world):
            apply_bundle_fault(fault.name, any_world, NONCE)
    assert verdict(any_world, any_world.answer(NONCE)).is_mock


@pytest.mark.parametrize("machine", [Machine(), Machine(gpus=1), Machine("tdx"), Machine("tdx", 8)])
def test_the_liars_of_the_demo_have_names(machine: Machine) -> None:
    """The demo and the development server rely on them."""
    liars = liars_of(machine)
    assert len(liars) == len(set(liars)) == (8 if machine.gpus else 6)
    assert {FAULTS[name].level for name in liars} == {"bundle", "channel"}


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
    assert len(FAULTS) == len(faults._CHANNEL_FAULTS) + sum(len(each.faults) for each in faults._CATALOGUES)

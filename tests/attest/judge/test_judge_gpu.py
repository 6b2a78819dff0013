"""What reference values ask of NVIDIA devices, claim by claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attest.accepted.gpu import GpuReference
from attest.checks import CheckList
from attest.judge.gpu import judge_gpus
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.verify.bundle import verify_bundle
from attest.verify.nvidia import VerifiedGpu
from tests.simulators.mock_runtime import NONCE, NOW

Devices = tuple[VerifiedGpu, ...]


@pytest.fixture(scope="module")
def devices(board_world: MockWorld) -> Devices:
    """Eight GPUs and four switches."""
    return verify_bundle(board_world.answer(NONCE), nonce=NONCE, roots=board_world.trust(), now=NOW).devices


@pytest.fixture(scope="module")
def accepted(board_world: MockWorld) -> GpuReference:
    """Values that accept exactly them."""
    board = board_world.machine.board
    assert board is not None
    return board.reference()


def _code(devices: Devices, accepted: GpuReference) -> str | None:
    try:
        judge_gpus(devices, accepted, CheckList())
    except Refused as refusal:
        return refusal.code
    return None


def test_the_honest_board_is_accepted(devices: Devices, accepted: GpuReference) -> None:
    """Every device has rows of its own."""
    checks = CheckList()
    judge_gpus(devices, accepted, checks)
    assert [row.name for row in checks].count("driver version") == 8
    assert [row.name for row in checks].count("NVSwitch BIOS version") == 4
    rows = list(checks)
    assert [(row.name, row.part) for row in rows[:2]] == [
        ("number of GPUs", ()),
        ("number of NVSwitches", ()),
    ]
    parts = list(dict.fromkeys(row.part for row in rows[2:]))
    assert parts == [
        *((f"nvidia-gpu {place}",) for place in range(8)),
        *((f"nvidia-switch {place}",) for place in range(4)),
    ]
    assert [(row.name, row.clause) for row in rows if row.part == ("nvidia-gpu 7",)] == [
        ("revocation answers", "RFC 6960"),
        ("firmware identity in the report", "TCG DICE attestation architecture 1.1 section 6.1"),
        ("architecture", "docs/reference/reference-values.md"),
        ("mode", "docs/reference/reference-values.md"),
        ("driver version", "NVIDIA RIM"),
        ("VBIOS line", "NVIDIA RIM"),
        ("VBIOS version", "NVIDIA RIM"),
    ]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("device-count", {"count": 7}),
        ("device-count", {"count": 9}),
        ("device-count", {"switches": 3}),
        ("device-count", {"switches": 0, "min_switch_bios": None}),
        ("gpu-arch-not-accepted", {"archs": frozenset({"BLACKWELL"})}),
        ("gpu-mode-not-accepted", {"modes": frozenset({"spt", "mpt", "unsaid"})}),
        ("gpu-driver-version", {"min_driver": "550.90.08"}),
        ("gpu-driver-version", {"min_driver": "550.100.0"}),
        ("gpu-driver-version", {"min_driver": "550.90.07.1"}),
        ("gpu-vbios-version", {"min_vbios": frozenset({"96.00.9F.00.02"})}),
        ("gpu-vbios-version", {"min_vbios": frozenset({"96.00.A0.00.00"})}),
        ("gpu-vbios-line", {"min_vbios": frozenset({"97.00.00.00.00"})}),
        ("gpu-switch-bios-version", {"min_switch_bios": "96.10.56.00.00"}),
        ("gpu-ueid-not-accepted", {"ueids": frozenset({"1"})}),
    ],
)
def test_values_that_want_something_else(
    devices: Devices, accepted: GpuReference, code: str, change: dict[str, Any]
) -> None:
    """The same genuine devices under other values."""
    assert _code(devices, replace(accepted, **change)) == code


@pytest.mark.parametrize(
    "change",
    [
        {"min_driver": "535.200.99"},
        {"min_driver": "550.9.99"},
        {"min_vbios": frozenset({"96.00.5E.00.FF", "97.00.00.00.00"})},
        {"min_switch_bios": "96.10.54.FF.FF"},
    ],
)
def test_floors_are_compared_number_by_number(
    devices: Devices, accepted: GpuReference, change: dict[str, Any]
) -> None:
    """As text, 550.9 would come after 550.90."""
    assert _code(devices, replace(accepted, **change)) is None


@pytest.mark.parametrize("place", [0, 7, 8, 11])
def test_every_device_is_judged(devices: Devices, accepted: GpuReference, place: int) -> None:
    """Not only the first."""
    unchecked = replace(devices[place], revocation_checked=False)
    changed = (*devices[:place], unchecked, *devices[place + 1 :])
    assert _code(changed, accepted) == "gpu-revocation-unchecked"
    assert _code(changed, replace(accepted, require_revocation_answers=False)) is None


def test_firmware_identity_and_mode_of_older_reports(devices: Devices, accepted: GpuReference) -> None:
    """Reports of 2023 name neither; they are accepted only where that is said."""
    old = tuple(
        replace(each, fwid_in_report=False, feature_flag=None) if each.kind == "gpu" else each
        for each in devices
    )
    assert _code(old, accepted) == "gpu-fwid-unsaid"
    lenient = replace(accepted, require_fwid=False)
    assert _code(old, lenient) == "gpu-mode-not-accepted"
    assert _code(old, replace(lenient, modes=frozenset({"unsaid"}))) is None


def test_a_version_that_is_no_number_is_below_every_floor(devices: Devices, accepted: GpuReference) -> None:
    """Nothing unreadable passes for new."""
    for version in ("999.a.1", "", None):  # decimal
        odd = (replace(devices[0], driver_version=version), *devices[1:])
        assert _code(odd, accepted) == "gpu-driver-version"
    odd = (replace(devices[0], vbios_version="96.FF.9G.00.01"), *devices[1:])  # hexadecimal
    assert _code(odd, accepted) == "gpu-vbios-version"
    odd = (*devices[:-1], replace(devices[-1], vbios_version="96.FF.9G.00.01"))
    assert _code(odd, accepted) == "gpu-switch-bios-version"


def test_a_line_is_named_in_either_case(devices: Devices, accepted: GpuReference) -> None:
    """Its firmware is read as a number, whose letters have no case."""
    lines = accepted.min_vbios | {"AB.00.00.00.02"}
    small = (replace(devices[0], vbios_version="ab.00.00.00.02"), *devices[1:])
    assert _code(small, replace(accepted, min_vbios=lines)) is None
    below = (replace(devices[0], vbios_version="ab.00.00.00.01"), *devices[1:])
    assert _code(below, replace(accepted, min_vbios=lines)) == "gpu-vbios-version"


def test_identities_of_all_devices(devices: Devices, accepted: GpuReference) -> None:
    """Where identities are named, all of them are, switches' too."""
    named, checks = replace(accepted, ueids=frozenset(device.ueid for device in devices)), CheckList()
    judge_gpus(devices, named, checks)
    assert [row.name for row in checks].count("device identity") == len(devices)
    fewer = replace(accepted, ueids=frozenset(device.ueid for device in devices[:-1]))
    assert _code(devices, fewer) == "gpu-ueid-not-accepted"

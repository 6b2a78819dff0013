"""Whole boards: eight GPUs and four switches, and every way in which they are not one closed set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attest.checks import CheckList, Outcome
from attest.collateral.nvidia import NvidiaRoots
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu
from attest.refusal import Refused
from attest.verify.gpu_set import require_one_set, verify_gpu_set
from attest.verify.nvidia import VerifiedGpu
from tests.simulators.genuine_nvidia import SUMMER_2025, complete
from tests.simulators.gpu_world import GPU_PDIS, NONCE, NOW, SWITCH_PDIS, GpuWorld, board

Edit = Callable[[list[MockGpu]], list[MockGpu]]


def verify(world: GpuWorld, gpus: list[MockGpu], checks: CheckList | None = None) -> tuple[VerifiedGpu, ...]:
    """Verify a set under this world's roots."""
    devices = [(world.evidence(gpu), world.collateral(gpu)) for gpu in gpus]
    return verify_gpu_set(
        devices, world.roots, nonce=NONCE, now=NOW, checks=CheckList() if checks is None else checks
    )


@pytest.mark.parametrize(("gpus", "switches"), [(8, 4), (4, 4), (2, 1)])
def test_a_closed_board(gpus: int, switches: int, gpu_world: GpuWorld) -> None:
    """Everybody takes part and names exactly the others."""
    checks = CheckList()
    verified = verify(gpu_world, board(gpus=gpus, switches=switches), checks)
    assert [device.kind for device in verified] == ["gpu"] * gpus + ["switch"] * switches
    assert checks.rows[-1].got == f"{gpus} GPUs, {switches} switches"


def test_gpus_without_switches(gpu_world: GpuWorld) -> None:
    """One GPU, or several on their own, are a set too."""
    assert len(verify(gpu_world, [MockGpu()])) == 1
    assert len(verify(gpu_world, [MockGpu(), MockGpu(index=1)])) == 2


def change(place: int, **members: object) -> Edit:
    """Another device in one place of the board."""
    return lambda devices: [
        replace(device, **members) if number == place else device
        for number, device in enumerate(devices)  # type: ignore[arg-type]  # each test names real members
    ]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda devices: devices[:0], "gpu-set-size"),
        (lambda devices: devices * 3, "gpu-set-size"),
        (lambda devices: [*devices, devices[0]], "gpu-set-device-repeated"),
        (change(0, driver_version="550.90.08"), "gpu-set-mixed"),
        (change(0, feature_flag=0), "gpu-set-mixed"),
        (lambda devices: devices[8:], "gpu-set-mixed"),
        (change(0, protected_pcie=False), "gpu-set-mode"),
        (
            lambda devices: [
                replace(device, feature_flag=1) if not device.is_switch else device for device in devices
            ],
            "gpu-set-mode",
        ),
        (lambda devices: devices[:8], "gpu-set-switches"),
        (change(9, own_pdi=SWITCH_PDIS[0]), "gpu-set-switches"),
        (lambda devices: devices[:11], "gpu-set-topology"),
        (lambda devices: devices[1:], "gpu-set-topology"),
        (change(0, peers=SWITCH_PDIS[:3]), "gpu-set-topology"),
        (change(0, peers=(*SWITCH_PDIS[:3], bytes([9] * 8))), "gpu-set-topology"),
        (change(0, peers=(*SWITCH_PDIS, bytes([9] * 8))), "gpu-set-topology"),
        (change(8, peers=GPU_PDIS[:7]), "gpu-set-topology"),
        (change(8, peers=(*GPU_PDIS[:7], bytes([9] * 8))), "gpu-set-topology"),
        (change(8, measured={3: b"\x01" * 48}), "gpu-measurement-mismatch"),
        (change(7, measured={3: b"\x01" * 48}), "gpu-measurement-mismatch"),
    ],
)
def test_what_is_no_closed_board(edit: Edit, code: str, gpu_world: GpuWorld) -> None:
    """One device more, less, twice, elsewhere or in another mode refuses the whole set."""
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        verify(gpu_world, edit(board()), checks)
    assert refusal.value.code == code
    if code.startswith("gpu-set") and code != "gpu-set-size":
        assert (checks.rows[-1].name, checks.rows[-1].outcome) == ("GPU set", Outcome.REFUSED)


def test_the_largest_set(gpu_world: GpuWorld) -> None:
    """Thirty-two devices are looked at, one more is not."""
    device = (gpu_world.evidence(), gpu_world.collateral())
    for count, code in ((32, "gpu-set-device-repeated"), (33, "gpu-set-size")):
        with pytest.raises(Refused, match=code):
            verify_gpu_set([device] * count, gpu_world.roots, nonce=NONCE, now=NOW, checks=CheckList())


def test_a_switch_without_an_identity(gpu_world: GpuWorld) -> None:
    """Links that lead nowhere known are not links to it."""
    devices = verify(gpu_world, board(gpus=2, switches=1))
    nameless = replace(devices[2], own_pdi=None)
    gpus = [replace(gpu, pdis=frozenset({None})) for gpu in devices[:2]]  # type: ignore[arg-type]  # the point
    with pytest.raises(Refused, match="gpu-set-switches"):
        require_one_set([*gpus, nameless])


def test_protected_gpus_need_their_switches(gpu_world: GpuWorld) -> None:
    """Either sign of the mode, the flag or the status, asks for switches."""
    for gpu in (
        MockGpu(protected_pcie=True, feature_flag=None, peers=SWITCH_PDIS),
        MockGpu(protected_pcie=True, feature_flag=2, peers=SWITCH_PDIS),
    ):
        with pytest.raises(Refused, match="gpu-set-switches"):
            verify(gpu_world, [gpu])
    with pytest.raises(Refused, match="gpu-set-mode"):
        verify(gpu_world, [MockGpu(protected_pcie=None, feature_flag=2, peers=SWITCH_PDIS)])
    first = MockGpu(protected_pcie=True, feature_flag=None, peers=SWITCH_PDIS)
    with pytest.raises(Refused, match="gpu-set-mode"):  # one is enough
        verify(gpu_world, [first, MockGpu(index=1, feature_flag=None)])


def test_switches_ask_for_the_mode(gpu_world: GpuWorld) -> None:
    """Switches beside GPUs that are not in protected PCIe mode see their traffic: refused."""
    plain = [
        device if device.is_switch else replace(device, protected_pcie=False, feature_flag=0)
        for device in board()
    ]
    with pytest.raises(Refused, match="gpu-set-mode"):
        verify(gpu_world, plain)


@pytest.mark.shared
def test_vendors_do_not_mix(gpu_world: GpuWorld, nvidia_vectors: Path) -> None:
    """A genuine GPU beside a mock one is no set, even where both roots are trusted."""
    vendor = MockGpuVendor.create(now=SUMMER_2025)
    roots = NvidiaRoots(True, vendor.device_root_sha256, vendor.rim_root_sha256)
    genuine = complete(nvidia_vectors)
    mock = (vendor.evidence(NONCE), vendor.collateral(now=SUMMER_2025))
    with pytest.raises(Refused, match="gpu-set-vendor"):
        verify_gpu_set([genuine, mock], roots, nonce=None, now=SUMMER_2025, checks=CheckList())

"""Lies about the GPUs and switches beside the CPU: all or nothing (P1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from attest.attesters.base import NO_DEVICES, DeviceAnswers
from attest.evidence.bundle import Bundle
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.gpu import Architecture
from attest.mock.lies.catalogue import Catalogue, other_bytes, other_digest, other_hex
from attest.mock.machine import MockBoard
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import MAX_GPUS, devices_of
from attest.mock.nvidia_report import MockGpu
from attest.mock.world import MockWorld
from attest.statement import gpu_nonce

lie = Catalogue(needs="gpu")

Edit = Callable[[tuple[DeviceEvidence, ...]], tuple[DeviceEvidence, ...]]


@lie("gpu-left-out", "a GPU that the statement names is left out of the bundle", "device-missing")
def _gpu_left_out(world: MockWorld, nonce: str) -> bytes:
    return _beside(world, nonce, lambda devices: devices[1:])


@lie("gpu-unnamed", "a GPU that the statement does not name stands in the bundle", "device-unnamed")
def _gpu_unnamed(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    answers = DeviceAnswers(honest.devices[1:], honest.nvidia)
    stated = world.bundle_of(world.stated(nonce, answers), answers)
    return replace(honest, statement=stated.statement, cpu=stated.cpu).serialise()


@lie("gpu-hidden", "GPUs work beside the CPU and nobody says so", "device-count")
def _gpu_hidden(world: MockWorld, nonce: str) -> bytes:
    return world.bundle_of(world.stated(nonce), NO_DEVICES).serialise()


@lie("gpu-miscounted", "another number of GPUs than was agreed", "device-count")
def _gpu_miscounted(world: MockWorld, nonce: str) -> bytes:
    gpus = sum(not gpu.is_switch for gpu in _board(world).devices)
    return _with_devices(world, devices_of(4 if gpus == MAX_GPUS else gpus + 1)).answer(nonce)


@lie("gpu-twice", "one GPU answers as two", "gpu-set-device-repeated")
def _gpu_twice(world: MockWorld, nonce: str) -> bytes:
    answers = world.answers(nonce)
    last = max(device.index for device in answers.devices if device.kind == "nvidia-gpu")
    again = replace(answers.devices[0], index=last + 1)
    devices = tuple(sorted((*answers.devices, again), key=lambda device: (device.kind, device.index)))
    both = DeviceAnswers(devices, answers.collateral)
    return world.bundle_of(world.stated(nonce, both), both).serialise()


@lie("gpu-stale", "a GPU's answer of yesterday, bound today", "gpu-nonce")
def _gpu_stale(world: MockWorld, nonce: str) -> bytes:
    stale = world.machine.device_answers(gpu_nonce(other_hex(nonce), world.keyset.digest), world.now)
    return world.bundle_of(world.stated(nonce, stale), stale).serialise()


@lie("gpu-of-other-keys", "a GPU that answered for another enclave's keys", "gpu-nonce")
def _gpu_of_other_keys(world: MockWorld, nonce: str) -> bytes:
    other = world.machine.device_answers(gpu_nonce(nonce, other_digest(world.keyset.digest)), world.now)
    return world.bundle_of(world.stated(nonce, other), other).serialise()


@lie("gpu-swapped", "evidence of another GPU than the statement binds", "device-digest-mismatch")
def _gpu_swapped(world: MockWorld, nonce: str) -> bytes:
    spare = MockGpu(index=200)
    evidence = _board(world).vendor.evidence(gpu_nonce(nonce, world.keyset.digest), gpu=spare)

    def swap(devices: tuple[DeviceEvidence, ...]) -> tuple[DeviceEvidence, ...]:
        return replace(devices[0], evidence=evidence), *devices[1:]

    return _beside(world, nonce, swap)


@lie("gpus-reordered", "two GPUs change places", "device-digest-mismatch", needs="board")
def _gpus_reordered(world: MockWorld, nonce: str) -> bytes:
    def exchange(devices: tuple[DeviceEvidence, ...]) -> tuple[DeviceEvidence, ...]:
        first, second = devices[:2]
        return (
            replace(first, evidence=second.evidence),
            replace(second, evidence=first.evidence),
            *devices[2:],
        )

    return _beside(world, nonce, exchange)


@lie("gpu-other-arch", "a GPU of one generation told as another", "gpu-arch-mismatch")
def _gpu_other_arch(world: MockWorld, nonce: str) -> bytes:
    answers = world.answers(nonce)
    first = answers.devices[0]
    arch: Architecture = "HOPPER" if first.evidence.arch == "BLACKWELL" else "BLACKWELL"
    told = replace(first, evidence=replace(first.evidence, arch=arch))
    changed = DeviceAnswers((told, *answers.devices[1:]), answers.collateral)
    return world.bundle_of(world.stated(nonce, changed), changed).serialise()


@lie("gpu-firmware", "a GPU runs firmware that was never published", "gpu-measurement-mismatch")
def _gpu_firmware(world: MockWorld, nonce: str) -> bytes:
    return _changed(world, measured={9: b"\xee" * 48}).answer(nonce)


@lie("gpu-old-driver", "a driver with a known hole", "gpu-driver-version")
def _gpu_old_driver(world: MockWorld, nonce: str) -> bytes:
    return _all_changed(world, driver_version="535.86.09").answer(nonce)


@lie("gpu-old-vbios", "a VBIOS with a known hole", "gpu-vbios-version")
def _gpu_old_vbios(world: MockWorld, nonce: str) -> bytes:
    return _all_changed(world, vbios_version="96.00.5E.00.01").answer(nonce)


@lie("gpu-no-golden-values", "the golden values are left out", "gpu-rim-missing")
def _gpu_no_golden_values(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    return replace(honest, nvidia=NvidiaCollateral({}, _pool(honest).ocsp)).serialise()


@lie("gpu-no-revocation", "the answers on revoked certificates are left out", "gpu-revocation-unchecked")
def _gpu_no_revocation(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    return replace(honest, nvidia=NvidiaCollateral(_pool(honest).rims, ())).serialise()


@lie("gpu-wrong-root", "a GPU of another vendor's root, same names", "gpu-root-not-trusted", promise="P8")
def _gpu_wrong_root(world: MockWorld, nonce: str) -> bytes:
    board = replace(_board(world), vendor=_stranger())
    return replace(world, machine=replace(world.machine, board=board)).answer(nonce)


@lie("gpu-report-bit", "one bit of a GPU's report flipped before it was bound", "gpu-report-signature")
def _gpu_report_bit(world: MockWorld, nonce: str) -> bytes:
    answers = world.answers(nonce)
    first = answers.devices[0]
    report = other_bytes(first.evidence.report, 37 + 8 + 7 + 8)  # in the first measurement
    flipped = replace(first, evidence=replace(first.evidence, report=report))
    changed = DeviceAnswers((flipped, *answers.devices[1:]), answers.collateral)
    return world.bundle_of(world.stated(nonce, changed), changed).serialise()


@lie("gpu-open-links", "links between GPU and switches are not protected", "gpu-set-mode", needs="board")
def _gpu_open_links(world: MockWorld, nonce: str) -> bytes:
    return _changed(world, protected_pcie=False).answer(nonce)


def _board(world: MockWorld) -> MockBoard:
    if world.machine.board is None:
        raise TypeError("a lie about a GPU needs one")
    return world.machine.board


def _pool(bundle: Bundle) -> NvidiaCollateral:
    return bundle.nvidia or NvidiaCollateral()


def _beside(world: MockWorld, nonce: str, edit: Edit) -> bytes:
    """An honest statement, and other devices beside it than it names."""
    honest = world.bundle(nonce)
    return replace(honest, devices=edit(honest.devices)).serialise()


def _with_devices(world: MockWorld, devices: tuple[MockGpu, ...]) -> MockWorld:
    board = replace(_board(world), devices=devices)
    return replace(world, machine=replace(world.machine, board=board))


def _changed(world: MockWorld, **changes: Any) -> MockWorld:
    """The same world with its first GPU otherwise."""
    first, *others = _board(world).devices
    return _with_devices(world, (replace(first, **changes), *others))


def _all_changed(world: MockWorld, **changes: Any) -> MockWorld:
    """The same world with every GPU otherwise."""
    devices = _board(world).devices
    return _with_devices(world, tuple(gpu if gpu.is_switch else replace(gpu, **changes) for gpu in devices))


@cache
def _stranger() -> MockGpuVendor:
    return MockGpuVendor.create()

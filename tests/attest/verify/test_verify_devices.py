"""Devices and the statement that names them: each way in which the two do not fit, and the set as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from attest.checks import CheckList
from attest.digest import sha256_digest
from attest.evidence.bundle import Bundle
from attest.evidence.device import DeviceEvidence
from attest.evidence.gpu import GpuEvidence
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.statement import Device, Statement
from attest.verify.devices import require_named, verify_devices
from tests.simulators.mock_runtime import NONCE, NOW

FIRST = DeviceEvidence.of(0, GpuEvidence("HOPPER", b"report", b"chain"))
SECOND = DeviceEvidence.of(1, GpuEvidence("HOPPER", b"another report", b"chain"))


def _statement(world: MockWorld, *devices: DeviceEvidence) -> Statement:
    named = tuple(Device(each.kind, each.index, each.digest) for each in devices)
    return replace(world.stated(NONCE), devices=named)


def _named(world: MockWorld, devices: Sequence[DeviceEvidence], *stated: DeviceEvidence) -> tuple[str, str]:
    with pytest.raises(Refused) as refusal:
        require_named(devices, _statement(world, *stated), CheckList())
    return refusal.value.code, refusal.value.got


def test_devices_are_those_of_the_statement(mock_world: MockWorld) -> None:
    """None is missing, none is added, and each is the one that was meant."""
    checks = CheckList()
    require_named((FIRST, SECOND), _statement(mock_world, FIRST, SECOND), checks)
    assert [row.name for row in checks] == [
        "every named device is here",
        "every device here is named",
        "evidence is what the statement binds",
    ]
    assert _named(mock_world, (FIRST,), FIRST, SECOND) == ("device-missing", "nvidia-gpu 1")
    assert _named(mock_world, (FIRST, SECOND), FIRST) == ("device-unnamed", "nvidia-gpu 1")
    swapped = replace(SECOND, index=0)
    assert _named(mock_world, (swapped,), FIRST) == ("device-digest-mismatch", "nvidia-gpu 0")
    other = Device(FIRST.kind, 0, sha256_digest(b"other"))
    with pytest.raises(Refused, match="device-digest-mismatch"):
        require_named((FIRST,), replace(mock_world.stated(NONCE), devices=(other,)), CheckList())


def _verify(world: MockWorld, devices: Sequence[DeviceEvidence]) -> Refused:
    bundle = replace(world.bundle(NONCE), devices=tuple(devices))
    with pytest.raises(Refused) as refusal:
        verify_devices(bundle, Statement.parse(bundle.statement), world.trust(), now=NOW, checks=CheckList())
    return refusal.value


def _device(bundle: Bundle) -> DeviceEvidence:
    (device,) = bundle.devices
    return device


def test_one_report_told_as_two_devices(one_gpu_world: MockWorld) -> None:
    """It is seen before a signature is verified, with the code that two reports of one device have too."""
    device = _device(one_gpu_world.bundle(NONCE))
    refusal = _verify(one_gpu_world, (device, replace(device, index=1)))
    assert (refusal.code, refusal.got) == ("gpu-set-device-repeated", "one report twice")


def test_two_reports_of_one_device(one_gpu_world: MockWorld) -> None:
    """Signed twice, the reports differ; the device is one all the same."""
    one, other = (_device(one_gpu_world.bundle(NONCE)) for _ in range(2))
    assert one.evidence.report != other.evidence.report
    refusal = _verify(one_gpu_world, (one, replace(other, index=1)))
    assert refusal.code == "gpu-set-device-repeated"
    assert refusal.got.startswith("twice: ")

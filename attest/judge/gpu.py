"""Are these genuine NVIDIA devices ones that we accept, all of them and no others?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from attest.accepted.forms import CLAUSE
from attest.accepted.gpu import GpuReference
from attest.checks import CheckList
from attest.judge.one_of import one_of
from attest.verify.nvidia import VerifiedGpu

_FIRMWARE: Final = "NVIDIA RIM"
_UNREACHABLE: Final = "FFFFFFFF"
"""The floor of a switch for which none was given: the count has refused it before, and so would this."""


def judge_gpus(devices: Sequence[VerifiedGpu], accepted: GpuReference, checks: CheckList) -> None:
    """Judge how many devices there are, and each.

    Args:
        devices: verified, as one set.
        accepted: what the reference values say.
        checks: gets the rows.

    Raises:
        Refused: ``device-count``, ``gpu-*``.
    """
    for kind, name, count in (("gpu", "GPUs", accepted.count), ("switch", "NVSwitches", accepted.switches)):
        judge_count(sum(device.kind == kind for device in devices), count, name, checks)
    places: Counter[str] = Counter()
    for device in devices:
        with checks.under(f"nvidia-{device.kind} {places[device.kind]}"):
            _judge_identity(device, accepted, checks)
            if device.kind == "gpu":
                _judge_gpu(device, accepted, checks)
            else:
                _judge_switch(device, accepted, checks)
        places[device.kind] += 1


def judge_count(got: int, expected: int, name: str, checks: CheckList) -> None:
    """Require an exact number: one device less is a device that was not asked.

    Raises:
        Refused: ``device-count``.
    """
    checks.require(
        got == expected, "device-count", f"number of {name}", CLAUSE, expected=str(expected), got=str(got)
    )


def _judge_identity(device: VerifiedGpu, accepted: GpuReference, checks: CheckList) -> None:
    checks.require(
        device.revocation_checked or not accepted.require_revocation_answers,
        "gpu-revocation-unchecked",
        "revocation answers",
        "RFC 6960",
        expected="a good answer on every certificate"
        if accepted.require_revocation_answers
        else "good answers, or none",
        got="complete" if device.revocation_checked else "incomplete",
    )
    if accepted.ueids:
        one_of(checks, "gpu-ueid-not-accepted", "device identity", device.ueid, accepted.ueids)


def _judge_gpu(device: VerifiedGpu, accepted: GpuReference, checks: CheckList) -> None:
    checks.require(
        device.fwid_in_report or not accepted.require_fwid,
        "gpu-fwid-unsaid",
        "firmware identity in the report",
        "TCG DICE attestation architecture 1.1 section 6.1",
        expected="named" if accepted.require_fwid else "named, or not",
        got="named" if device.fwid_in_report else "not named",
    )
    one_of(checks, "gpu-arch-not-accepted", "architecture", device.arch, accepted.archs)
    one_of(checks, "gpu-mode-not-accepted", "mode", device.feature_flag or "unsaid", accepted.modes)
    driver = device.driver_version or ""
    _floor(checks, "gpu-driver-version", "driver", driver, accepted.min_driver, base=10)
    line = device.vbios_version[:2].upper()
    floors = {floor[:2]: floor for floor in accepted.min_vbios}
    one_of(checks, "gpu-vbios-line", "VBIOS line", line, floors, clause=_FIRMWARE)
    _floor(checks, "gpu-vbios-version", "VBIOS", device.vbios_version, floors[line], base=16)


def _judge_switch(device: VerifiedGpu, accepted: GpuReference, checks: CheckList) -> None:
    floor = accepted.min_switch_bios or _UNREACHABLE
    _floor(checks, "gpu-switch-bios-version", "NVSwitch BIOS", device.vbios_version, floor, base=16)


def _floor(checks: CheckList, code: str, name: str, got: str, floor: str, *, base: int) -> None:
    checks.require(
        _numbers(got, base) >= _numbers(floor, base),
        code,
        f"{name} version",
        _FIRMWARE,
        expected=f"at least {floor}",
        got=got,
    )


def _numbers(version: str, base: int) -> tuple[int, ...]:
    """The version's parts, to be compared one after the other; what is no number is below every floor."""
    try:
        return tuple(int(part, base) for part in version.split("."))
    except ValueError:
        return ()

"""Do these GPUs and switches form one closed board? (NVIDIA protected PCIe)

In protected PCIe mode the GPUs of a board talk over NVSwitches, so a tenant's data is as safe as the worst
of them: all take part, all are judged, and each names exactly the others at the ends of its links.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import GpuCollateral, GpuEvidence
from attest.refusal import Refused
from attest.verify.nvidia import VerifiedGpu, verify_gpu

MAX_DEVICES: Final = 32
CLAUSE: Final = "NVIDIA protected PCIe"


def verify_gpu_set(
    devices: Sequence[tuple[GpuEvidence, GpuCollateral]],
    roots: NvidiaRoots,
    *,
    nonce: bytes | None,
    now: datetime,
    checks: CheckList,
) -> tuple[VerifiedGpu, ...]:
    """Judge every device, and then whether they are one set.

    One GPU alone, or several that are not in protected PCIe mode, are a set without switches. Arguments are
    those of ``verify_gpu``, with one nonce for all.

    Raises:
        Refused: ``gpu-set-size``, ``gpu-set-device-repeated``, ``gpu-set-vendor``, ``gpu-set-mixed``,
            ``gpu-set-mode``, ``gpu-set-switches``, ``gpu-set-topology``, and all that ``verify_gpu`` raises.
    """
    if not 0 < len(devices) <= MAX_DEVICES:
        raise Refused("gpu-set-size", CLAUSE, expected=f"1 to {MAX_DEVICES} devices", got=str(len(devices)))
    verified = tuple(
        verify_gpu(evidence, collateral, roots, nonce=nonce, now=now, checks=checks)
        for evidence, collateral in devices
    )
    with checks.step("GPU set", CLAUSE):
        require_one_set(verified)
        switches = sum(device.kind == "switch" for device in verified)
        checks.passed(
            "GPU set",
            CLAUSE,
            expected="distinct devices, each naming exactly the others",
            got=f"{len(verified) - switches} GPUs, {switches} switches",
        )
    return verified


def require_one_set(devices: Sequence[VerifiedGpu]) -> None:
    """Require that verified devices are distinct and, in protected PCIe mode, a closed set.

    Raises:
        Refused: as ``verify_gpu_set``, without the devices' own.
    """
    gpus = [device for device in devices if device.kind == "gpu"]
    switches = [device for device in devices if device.kind == "switch"]
    _require_distinct(devices)
    _require_alike(gpus)
    if any(device.protected_pcie or device.feature_flag == "ppcie" for device in gpus) or switches:
        _require_protected(gpus)
        _require_closed(gpus, switches)


def _require_distinct(devices: Sequence[VerifiedGpu]) -> None:
    ueids = [device.ueid for device in devices]
    repeated = sorted({ueid for ueid in ueids if ueids.count(ueid) > 1})
    if repeated:
        raise Refused(
            "gpu-set-device-repeated",
            CLAUSE,
            expected="each device once",
            got=f"twice: {', '.join(repeated)}",
        )
    vendors = sorted({device.vendor for device in devices})
    if len(vendors) != 1:
        raise Refused("gpu-set-vendor", CLAUSE, expected="one vendor", got=" and ".join(vendors))


def _require_alike(gpus: Sequence[VerifiedGpu]) -> None:
    kinds = sorted({f"{gpu.arch} {gpu.driver_version} {gpu.feature_flag}" for gpu in gpus})
    if len(kinds) != 1:
        raise Refused(
            "gpu-set-mixed",
            CLAUSE,
            expected="GPUs of one architecture, driver and mode",
            got="; ".join(kinds) or "no GPU",
        )


def _require_protected(gpus: Sequence[VerifiedGpu]) -> None:
    for gpu in gpus:
        if not gpu.protected_pcie or gpu.feature_flag not in {"ppcie", None}:
            raise Refused(
                "gpu-set-mode",
                CLAUSE,
                expected="every GPU in protected PCIe mode",
                got=f"device {gpu.ueid} is not",
            )


def _require_closed(gpus: Sequence[VerifiedGpu], switches: Sequence[VerifiedGpu]) -> None:
    """Each GPU's links end in exactly these switches, and each switch's in as many GPUs, the same for all."""
    present = {switch.own_pdi for switch in switches}
    if not switches or None in present or len(present) != len(switches):
        raise Refused(
            "gpu-set-switches",
            CLAUSE,
            expected="evidence of every switch, each with an identity",
            got=f"{len(switches)} switches, {len(present - {None})} identities",
        )
    for gpu in gpus:
        if gpu.pdis != present:
            raise _open(gpu, len(present), "switches")
    linked = {switch.pdis for switch in switches}
    for switch in switches:
        if len(switch.pdis) != len(gpus) or len(linked) != 1:
            raise _open(switch, len(gpus), "GPUs")


def _open(device: VerifiedGpu, count: int, what: str) -> Refused:
    return Refused(
        "gpu-set-topology",
        CLAUSE,
        expected=f"links to exactly the {count} {what} that were judged",
        got=f"{device.kind} {device.ueid} has links to {len(device.pdis)}",
    )

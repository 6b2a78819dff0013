"""``--nvidia``: what GPUs and switches signed."""

from __future__ import annotations

from typing import Final

from attest.collateral.nvidia import NvidiaRoots
from attest.judge.gpu import judge_gpus
from attest.verify.gpu_set import require_one_set
from attest.verify.nvidia import verify_gpu
from gateway.cli.verify.inputs import nonce_bytes
from gateway.cli.verify.raw_files import gpu_devices, read
from gateway.cli.verify.raw_task import Found, Task

_SET: Final = "NVIDIA protected PCIe"


def judge_devices(task: Task) -> Found:
    """Judge every device, and whether they are one set.

    Raises:
        Refused: as ``verify_gpu``, ``require_one_set`` and ``judge_gpus`` do.
    """
    files, mock = task.files, task.mock
    roots = NvidiaRoots(task.roots.nvidia, mock.gpu_device_root_sha256, mock.gpu_rim_root_sha256)
    rims, answers = tuple(map(read, files.rims)), tuple(map(read, files.ocsp))
    with task.checks.step("GPU evidence format", "NVIDIA attestation SDK, serialised evidence"):
        devices = gpu_devices([read(file) for file in files.nvidia], files.chain, files.arch, rims, answers)
    nonce = nonce_bytes(files.nonce)
    verified = []
    for number, (evidence, collateral) in enumerate(devices):
        with task.checks.under(f"device {number}"):
            device = verify_gpu(evidence, collateral, roots, nonce=nonce, now=task.now, checks=task.checks)
            verified.append(device)
    with task.checks.under("devices"), task.checks.step("devices form one set", _SET):
        require_one_set(verified)
        task.checks.passed("devices form one set", _SET, got=f"{len(verified)} devices")
    task.appraise("gpu", lambda accepted: judge_gpus(verified, accepted, task.checks))
    facts = {
        f"device {number}": f"{device.vendor} {device.chip}, driver {device.driver_version or 'none'}, "
        f"VBIOS {device.vbios_version}, mode {device.feature_flag or 'unsaid'}"
        for number, device in enumerate(verified)
    }
    return Found(frozenset(device.vendor for device in verified), facts)

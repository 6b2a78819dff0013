"""The mock vendor of GPUs keeps its identity across restarts, keeps its seed to itself, and is not NVIDIA."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu
from attest.refusal import Refused
from attest.verify.nvidia import verify_gpu
from tests.simulators.gpu_world import NONCE, NOW, GpuWorld


def test_saved_and_loaded_is_the_same_vendor(tmp_path: Path) -> None:
    """Both roots' digests are pinned elsewhere, so they must survive a restart."""
    folder = tmp_path / "mock-tee"
    vendor = MockGpuVendor.load_or_create(folder)
    again = MockGpuVendor.load_or_create(folder)
    assert again.device_root_sha256 == vendor.device_root_sha256
    assert again.rim_root_sha256 == vendor.rim_root_sha256
    assert again.device(MockGpu())[0].der == vendor.device(MockGpu())[0].der
    evidence, now = again.evidence(NONCE), vendor.issued_at
    roots = GpuWorld(vendor).roots
    verify_gpu(evidence, vendor.collateral(now=now), roots, nonce=NONCE, now=now, checks=CheckList())


def test_the_seed_is_the_owners_alone(tmp_path: Path) -> None:
    """One file, readable by its owner; nothing of it in the vendor's text."""
    vendor = MockGpuVendor.load_or_create(tmp_path / "mock-tee")
    (file,) = (tmp_path / "mock-tee").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    seed = json.loads(file.read_text())["seed"]
    for shown in (repr(vendor), repr(vendor.device_root), repr(vendor.device(MockGpu()))):
        assert seed not in shown
        assert "private" not in shown


@pytest.mark.parametrize("content", ["{}", '{"seed": 1, "issued_at": 2}', '{"seed": "zz", "issued_at": 2}'])
def test_another_file_is_no_vendor(content: str, tmp_path: Path) -> None:
    """A file of another form is an error and not a new vendor."""
    (tmp_path / "gpu-vendor.json").write_text(content)
    with pytest.raises(ValueError, match=r"mock vendor of GPUs|hexadecimal"):
        MockGpuVendor.load_or_create(tmp_path)


def test_two_vendors_share_nothing() -> None:
    """Each vendor has its own roots, and its evidence is nothing under the other's or under NVIDIA's."""
    mine, theirs = MockGpuVendor.create(now=NOW), MockGpuVendor.create(now=NOW)
    assert mine.device_root_sha256 != theirs.device_root_sha256
    assert mine.device_root_sha256 != mine.rim_root_sha256
    for roots in (GpuWorld(theirs).roots, NvidiaRoots(nvidia=True)):
        with pytest.raises(Refused, match="gpu-root-not-trusted"):
            verify_gpu(
                mine.evidence(NONCE),
                mine.collateral(now=NOW),
                roots,
                nonce=NONCE,
                now=NOW,
                checks=CheckList(),
            )


def test_devices_are_told_apart(gpu_world: GpuWorld) -> None:
    """Each index is a device of its own: key, identity and serial number."""
    ueids = {gpu_world.verify(MockGpu(index=index)).ueid for index in range(8)}
    assert len(ueids) == 8
    evidence = replace(gpu_world.evidence(), report=gpu_world.evidence(MockGpu(index=1)).report)
    with pytest.raises(Refused, match="gpu-report-signature"):
        gpu_world.verify(evidence=evidence)


def test_by_the_clock() -> None:
    """Without a time given, vendor and answers are of now."""
    vendor, now = MockGpuVendor.create(), datetime.now(UTC)
    assert abs(now - vendor.issued_at) < timedelta(minutes=1)
    roots = GpuWorld(vendor).roots
    verified = verify_gpu(
        vendor.evidence(NONCE, index=3),
        vendor.collateral(MockGpu(index=3)),
        roots,
        nonce=NONCE,
        now=now,
        checks=CheckList(),
    )
    assert verified.revocation_checked

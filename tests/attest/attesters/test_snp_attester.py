"""The configfs-tsm attester against a simulated kernel: fresh, untangled, tidy, and never half right."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.attesters.base import Attester, AttesterFailure
from attest.attesters.snp import KernelReportFolder, SnpAttester
from attest.checks import CheckList
from attest.collateral.snp import SnpCollateral, SnpRoots
from attest.evidence.certificate_table import ARK, VCEK, VLEK
from attest.evidence.snp_tcb import TcbVersion
from attest.mock.attester import MockAttester
from attest.mock.machine import MockMachine, MockSnpCpu
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.verify.snp import verify_snp
from tests.simulators.snp_world import NOW, SnpWorld
from tests.simulators.tsm import SimulatedTsm, certificate_table, table_of

ASKED = b"question".ljust(64, b"?")


@pytest.fixture(scope="module")
def vendor(mock_keys: MockKeys) -> MockVendor:
    """The chip behind the simulated kernel."""
    return MockVendor(mock_keys, issued_at=NOW)


@pytest.fixture
def tsm(vendor: MockVendor) -> SimulatedTsm:
    """A kernel whose host offers the whole chain."""
    return SimulatedTsm(lambda data: vendor.report(data, MockLaunch()), table_of(vendor.collateral(now=NOW)))


def attester(tsm: SimulatedTsm, **options: object) -> SnpAttester:
    """The attester under test; it does not wait."""
    return SnpAttester(tsm, pause_seconds=0, **options)  # type: ignore[arg-type]  # options of the tests below


def test_evidence_verifies(tsm: SimulatedTsm, vendor: MockVendor) -> None:
    """What it hands over answers the question and verifies; the directory is gone afterwards."""
    maker: Attester = attester(tsm)
    evidence = maker.cpu_evidence(ASKED)
    assert maker.kind == evidence.kind == "snp"
    assert tsm.directories == {}
    collateral = evidence.collateral
    assert collateral.ark is None
    with_root = type(collateral)(
        collateral.leaf, collateral.intermediate, vendor.collateral(now=NOW).ark, collateral.crl
    )
    roots = SnpRoots(amd=False, mock_ark_sha256=vendor.ark_sha256)
    verified = verify_snp(evidence.report, with_root, roots, now=NOW, checks=CheckList())
    assert verified.report.report_data == ASKED
    assert verified.revocation_checked


def test_the_hosts_root_is_left_out(vendor: MockVendor, world: SnpWorld) -> None:
    """A verifier has the root pinned; one from the host would only look like a mock's."""
    vlek = SnpWorld(world.keys, kind="vlek")
    leaf, report = vlek.leaf(), vlek.report()
    table = certificate_table({VCEK: b"not this one", VLEK: leaf, ARK: vlek.ark_der})
    evidence = attester(SimulatedTsm(lambda _: report, table)).cpu_evidence(report[0x50:0x90])
    assert evidence.collateral == SnpCollateral(leaf)


def test_busy_firmware_is_asked_again(tsm: SimulatedTsm) -> None:
    """Busy a few times: asked again. Busy always: a failure that says so."""
    tsm.busy = 4
    assert attester(tsm).cpu_evidence(ASKED).report[0x50:0x90] == ASKED
    tsm.busy = 5
    with pytest.raises(AttesterFailure, match="busy after 5"):
        attester(tsm).cpu_evidence(ASKED)
    assert tsm.directories == {}


def test_a_report_spoilt_by_another_writer_is_asked_again(tsm: SimulatedTsm) -> None:
    """Another process's write between ours makes the generation differ: never take that report."""
    tsm.interference = 1
    assert attester(tsm).cpu_evidence(ASKED).report[0x50:0x90] == ASKED
    assert tsm.made == 2


def test_privilege_level_is_written(tsm: SimulatedTsm) -> None:
    """Only where it was asked for; it counts as a write."""
    attester(tsm).cpu_evidence(ASKED)
    assert tsm.privilege_levels == []
    attester(tsm, privilege_level=2).cpu_evidence(ASKED)
    assert tsm.privilege_levels == [b"2"]


def test_another_provider(vendor: MockVendor) -> None:
    """A TDX guest has the same files and another driver."""
    other = SimulatedTsm(lambda _: b"", b"", provider=b"tdx_guest\n")
    with pytest.raises(AttesterFailure, match="tdx_guest"):
        attester(other).cpu_evidence(ASKED)
    assert other.directories == {}


def test_an_answer_to_another_question(vendor: MockVendor) -> None:
    """Firmware (or a shim) that answers something else is not passed on."""
    shim = SimulatedTsm(
        lambda _: vendor.report(bytes(64), MockLaunch()), table_of(vendor.collateral(now=NOW))
    )
    with pytest.raises(AttesterFailure, match="another question"):
        attester(shim).cpu_evidence(ASKED)


@pytest.mark.parametrize(("report", "table"), [(b"short", b""), (None, b"\x01" * 30)])
def test_nonsense(report: bytes | None, table: bytes, vendor: MockVendor) -> None:
    """Neither a broken report nor a broken table is handed on."""
    shim = SimulatedTsm(lambda data: report or vendor.report(data, MockLaunch()), table)
    with pytest.raises(AttesterFailure, match="nonsense"):
        attester(shim).cpu_evidence(ASKED)


def test_host_without_certificates(vendor: MockVendor) -> None:
    """Configured ones stand in; without any, whoever verifies looks the chip's up."""
    bare = SimulatedTsm(lambda data: vendor.report(data, MockLaunch()), b"")
    assert attester(bare).cpu_evidence(ASKED).collateral == SnpCollateral(None)
    configured = vendor.collateral(now=NOW)
    assert attester(bare, collateral=configured).cpu_evidence(ASKED).collateral is configured


def test_generation_that_is_no_number(tsm: SimulatedTsm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that speaks otherwise than documented is not understood by guessing."""
    read = tsm.read
    monkeypatch.setattr(tsm, "read", lambda name, what: b"many" if what == "generation" else read(name, what))
    with pytest.raises(AttesterFailure, match="generation"):
        attester(tsm).cpu_evidence(ASKED)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_is_64_bytes(size: int, tsm: SimulatedTsm) -> None:
    """The kernel would pad; two questions would share one answer."""
    with pytest.raises(ValueError, match="report_data takes 64 bytes"):
        attester(tsm).cpu_evidence(bytes(size))


def test_machine_without_a_tee(tmp_path: Path) -> None:
    """No configfs-tsm at all: a failure with the system's reason."""
    with pytest.raises(AttesterFailure, match="No such file"):
        SnpAttester(KernelReportFolder(tmp_path / "absent")).cpu_evidence(ASKED)


def test_real_file_operations(tmp_path: Path) -> None:
    """The four operations on a real directory: one write call per value, and a short one is an error."""
    folder = KernelReportFolder(tmp_path)
    folder.make("one")
    (tmp_path / "one" / "inblob").touch()
    folder.write("one", "inblob", b"value")
    assert folder.read("one", "inblob") == b"value"
    (tmp_path / "one" / "inblob").unlink()
    folder.remove("one")
    assert list(tmp_path.iterdir()) == []


def test_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a question is another question."""
    folder = KernelReportFolder(tmp_path)
    folder.make("one")
    (tmp_path / "one" / "inblob").touch()
    monkeypatch.setattr(os, "write", lambda _descriptor, value: len(value) - 1)
    with pytest.raises(OSError, match="short write") as error:
        folder.write("one", "inblob", b"value")
    assert error.value.errno == errno.EIO


def test_mock_attester(mock_keys: MockKeys) -> None:
    """The mock behind the same seam: its chain comes whole, at whatever firmware version it says."""
    vendor = MockVendor(mock_keys, issued_at=datetime.now(UTC))
    launch = MockLaunch(tcb=TcbVersion(1, 2, 3, 4))
    maker: Attester = MockAttester(MockMachine(MockSnpCpu(vendor, launch)))
    evidence = maker.cpu_evidence(ASKED)
    roots = SnpRoots(amd=False, mock_ark_sha256=vendor.ark_sha256)
    verified = verify_snp(
        evidence.report, evidence.collateral, roots, now=datetime.now(UTC), checks=CheckList()
    )
    assert verified.vendor == "mock"
    assert verified.reported_tcb == launch.tcb
    assert "bytes" in repr(evidence)
    with pytest.raises(ValueError, match="64 bytes"):
        maker.cpu_evidence(b"short")

"""The TDX attester against a simulated kernel: fresh, its own question, and never half right."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.attesters.base import AttesterFailure
from attest.attesters.tdx import TdxAttester
from attest.attesters.tsm import KernelReportFolder
from attest.checks import CheckList
from attest.collateral.tdx import TdxRoots
from attest.evidence.tdx_evidence import MAX_EVENT_LOG_BYTES, TdxEvidence
from attest.mock.attester import MockAttester
from attest.mock.machine import MockMachine, MockTdxCpu
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_event_log import event_log
from attest.mock.tdx_quote import MockTdLaunch
from attest.verify.tdx import verify_tdx
from tests.simulators.tsm import SimulatedTsm

ASKED = b"question".ljust(64, b"?")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def vendor() -> MockTdxVendor:
    """The platform behind the simulated kernel."""
    return MockTdxVendor.create(now=NOW)


@pytest.fixture
def tsm(vendor: MockTdxVendor) -> SimulatedTsm:
    """A TDX guest's kernel, whose host pads quotes to a fixed size."""
    return SimulatedTsm(lambda data: vendor.quote(data).ljust(8000, b"\x00"), b"", provider=b"tdx_guest\n")


def attester(tsm: SimulatedTsm, log: Path, **options: object) -> TdxAttester:
    """The attester under test; it does not wait."""
    return TdxAttester(tsm, pause_seconds=0, event_log_file=log, **options)  # type: ignore[arg-type]  # options of the tests below


def test_evidence_verifies(tsm: SimulatedTsm, vendor: MockTdxVendor, tmp_path: Path) -> None:
    """What it hands over answers the question, verifies, and has lost the host's padding."""
    log = tmp_path / "CCEL"
    log.write_bytes(event_log([(0, b"firmware")]))
    collateral = vendor.collateral(now=NOW)
    maker = attester(tsm, log, collateral=collateral)
    evidence = maker.cpu_evidence(ASKED)
    assert maker.kind == evidence.kind == "tdx"
    assert tsm.directories == {}
    assert evidence.event_log == log.read_bytes()
    assert evidence.collateral is collateral
    roots = TdxRoots(intel=False, mock_root_sha256=vendor.root_sha256)
    verified = verify_tdx(evidence.quote, collateral, roots, now=NOW, checks=CheckList())
    assert verified.quote.report.report_data == ASKED
    assert verified.quote.trimmed == evidence.quote


def test_busy_host_is_asked_again(tsm: SimulatedTsm, tmp_path: Path) -> None:
    """Busy a few times: asked again. Busy always, or spoilt by another writer: never a wrong quote."""
    maker = attester(tsm, tmp_path / "none")
    tsm.busy, tsm.interference = 3, 1
    assert maker.cpu_evidence(ASKED).event_log is None
    assert tsm.made == 5
    tsm.busy = 5
    with pytest.raises(AttesterFailure, match="busy after 5"):
        maker.cpu_evidence(ASKED)
    assert tsm.directories == {}


def test_another_provider(tmp_path: Path) -> None:
    """A SEV-SNP guest has the same files and another driver."""
    with pytest.raises(AttesterFailure, match="sev_guest"):
        attester(SimulatedTsm(lambda _: b"", b""), tmp_path / "none").cpu_evidence(ASKED)


def test_an_answer_to_another_question(vendor: MockTdxVendor, tmp_path: Path) -> None:
    """A host that quotes something else is not passed on."""
    shim = SimulatedTsm(lambda _: vendor.quote(bytes(64)), b"", provider=b"tdx_guest\n")
    with pytest.raises(AttesterFailure, match="another question"):
        attester(shim, tmp_path / "none").cpu_evidence(ASKED)


def test_nonsense(tmp_path: Path) -> None:
    """Neither is what is no quote."""
    shim = SimulatedTsm(lambda _: b"short", b"", provider=b"tdx_guest\n")
    with pytest.raises(AttesterFailure, match="nonsense"):
        attester(shim, tmp_path / "none").cpu_evidence(ASKED)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_is_64_bytes(size: int, tsm: SimulatedTsm, tmp_path: Path) -> None:
    """The kernel would pad; two questions would share one answer."""
    with pytest.raises(ValueError, match="report_data takes 64 bytes"):
        attester(tsm, tmp_path / "none").cpu_evidence(bytes(size))


def test_event_log_that_cannot_be_read(tsm: SimulatedTsm, tmp_path: Path) -> None:
    """A log that is there and unreadable, or beyond any firmware's, is a failure; silence would hide it."""
    with pytest.raises(AttesterFailure, match="event log: Is a directory"):
        attester(tsm, tmp_path).cpu_evidence(ASKED)
    (tmp_path / "CCEL").write_bytes(bytes(MAX_EVENT_LOG_BYTES + 1))
    with pytest.raises(AttesterFailure, match="event log: more than"):
        attester(tsm, tmp_path / "CCEL").cpu_evidence(ASKED)


def test_machine_without_a_tee(tmp_path: Path) -> None:
    """No configfs-tsm at all: a failure with the system's reason."""
    with pytest.raises(AttesterFailure, match="No such file"):
        TdxAttester(KernelReportFolder(tmp_path / "absent")).cpu_evidence(ASKED)


def test_mock_attester() -> None:
    """The mock behind the same seam: its collateral comes whole, and its log explains its registers."""
    vendor = MockTdxVendor.create()
    maker = MockAttester(MockMachine(MockTdxCpu(vendor, MockTdLaunch(), event_log([]))))
    evidence = maker.cpu_evidence(ASKED)
    assert isinstance(evidence, TdxEvidence)
    assert evidence.collateral is not None
    roots = TdxRoots(intel=False, mock_root_sha256=vendor.root_sha256)
    verified = verify_tdx(
        evidence.quote, evidence.collateral, roots, now=datetime.now(UTC), checks=CheckList()
    )
    assert verified.vendor == "mock"
    assert maker.kind == "tdx"
    assert "bytes" in repr(evidence)
    assert "tdx" in repr(maker)
    with pytest.raises(ValueError, match="64 bytes"):
        maker.cpu_evidence(b"short")

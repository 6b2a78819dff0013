"""A simulated machine: one CPU TEE, and the devices beside it, each under a mock vendor's root.

Each part says what it hands over, under which roots, and which reference values accept exactly it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import ClassVar, Final, TypedDict

from attest.accepted.azure import AzureReference
from attest.accepted.gpu import GpuMode, GpuReference
from attest.accepted.snp import SnpReference
from attest.accepted.tdx import TdxReference
from attest.attesters.base import NO_DEVICES, DeviceAnswers
from attest.evidence.cpu import AzureSnpEvidence, CpuKind, SnpEvidence
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.spdm import SpdmReport
from attest.evidence.tdx_evidence import TdxEvidence
from attest.mock.azure import MockAzureCvm
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu
from attest.mock.snp_report import MockLaunch
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_documents import MockTcb
from attest.mock.tdx_quote import MockTdLaunch
from attest.mock.vendor import MockVendor
from attest.reference import Vendor
from attest.statement import vtpm_nonce
from attest.trust import MockRoots


@dataclass(frozen=True, slots=True)
class MockSnpCpu:
    """A SEV-SNP guest on the mock vendor's chip.

    Args:
        vendor: signs.
        launch: how the guest was launched.
    """

    kind: ClassVar[CpuKind] = "snp"

    vendor: MockVendor
    launch: MockLaunch

    def evidence(self, report_data: bytes, now: datetime | None = None) -> SnpEvidence:
        """A report and its chain; ``now`` is when the revocation list is issued, None is the clock."""
        report = self.vendor.report(report_data, self.launch)
        return SnpEvidence(report, self.vendor.collateral(self.launch.tcb, now=now))

    def reference(self) -> SnpReference:
        """Values that accept exactly this guest."""
        return SnpReference(
            products=frozenset({self.vendor.product}),
            signing_keys=frozenset({"vcek"}),
            vmpls=frozenset({self.launch.vmpl}),
            measurements=frozenset({self.launch.measurement.hex()}),
            min_guest_svn=self.launch.guest_svn,
            min_tcb={self.vendor.product: self.launch.tcb},
        )


@dataclass(frozen=True, slots=True)
class MockTdxCpu:
    """A trust domain on the mock vendor's platform.

    Args:
        vendor: signs.
        launch: how the TD was launched.
        event_log: handed on with each quote; must explain the launch's registers.
    """

    kind: ClassVar[CpuKind] = "tdx"

    vendor: MockTdxVendor
    launch: MockTdLaunch
    event_log: bytes | None = None

    def evidence(self, report_data: bytes, now: datetime | None = None) -> TdxEvidence:
        """A quote and its documents; ``now`` is when they are issued, None is the clock."""
        quote = self.vendor.quote(report_data, self.launch)
        return TdxEvidence(quote, self.vendor.collateral(now=now), self.event_log)

    def reference(self) -> TdxReference:
        """Values that accept exactly this TD."""
        rtmr0, rtmr1, rtmr2, rtmr3 = (frozenset({value.hex()}) for value in self.launch.rtmrs)
        return TdxReference(
            mrtds=frozenset({self.launch.mrtd.hex()}),
            rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
            mrconfigids=frozenset({self.launch.mrconfigid.hex()}),
            min_tcb_evaluation_data_number=MockTcb().evaluation_number,
        )


@dataclass(frozen=True, slots=True)
class MockAzureCpu:
    """An Azure confidential VM on the mock vendor's chip.

    Args:
        cvm: its paravisor and vTPM.
    """

    kind: ClassVar[CpuKind] = "azure-snp"

    cvm: MockAzureCvm

    @property
    def vendor(self) -> MockVendor:
        """Signs the hardware report."""
        return self.cvm.vendor

    def evidence(self, report_data: bytes, now: datetime | None = None) -> AzureSnpEvidence:
        """Report, quote and chain; ``now`` is when the revocation list is issued, None is the clock."""
        collateral = self.vendor.collateral(self.cvm.launch.tcb, now=now)
        return AzureSnpEvidence(self.cvm.hcl_report(), self.cvm.quote(vtpm_nonce(report_data)), collateral)

    def reference(self) -> SnpReference:
        """Values that accept exactly this paravisor."""
        return MockSnpCpu(self.vendor, self.cvm.launch).reference()

    def boot_reference(self) -> AzureReference:
        """Values that accept exactly this boot."""
        return AzureReference(
            pcrs={index: frozenset({value.hex()}) for index, value in enumerate(self.cvm.pcrs)}
        )


MockCpu = MockSnpCpu | MockTdxCpu | MockAzureCpu


class ReferenceParts(TypedDict):
    """The members of ``ReferenceValues`` that speak of the machine."""

    vendors: frozenset[Vendor]
    mock: MockRoots
    snp: SnpReference | None
    tdx: TdxReference | None
    azure: AzureReference | None
    gpu: GpuReference | None


_MODES: Final[dict[int | None, GpuMode]] = {0: "spt", 1: "mpt", 2: "ppcie", None: "unsaid"}


@dataclass(frozen=True)
class MockBoard:
    """The GPUs and switches of one machine.

    Args:
        vendor: signs.
        devices: each by its own index; GPUs first.
    """

    vendor: MockGpuVendor
    devices: tuple[MockGpu, ...]

    def answers(self, nonce: bytes, now: datetime | None = None) -> DeviceAnswers:
        """Every device's report over ``nonce``; ``now`` is when revocation answers are given."""
        devices = (DeviceEvidence.of(gpu.index, self.vendor.evidence(nonce, gpu=gpu)) for gpu in self.devices)
        return DeviceAnswers(tuple(devices), self.collateral(now))

    def collateral(self, now: datetime | None = None) -> NvidiaCollateral:
        """Golden values and revocation answers for all devices, each once."""
        moment = now or datetime.now(UTC)
        answers = (self.vendor.answers(gpu, now=moment) for gpu in self.devices)
        # Devices share all authorities but their own; the first answer on a certificate does for all.
        by_subject = {subject: answer for each in answers for subject, answer in each.items()}
        return NvidiaCollateral(self._rims, tuple(by_subject.values()))

    @cached_property
    def _rims(self) -> dict[str, bytes]:
        """Golden values under the names that the devices' reports imply."""
        rims: dict[str, bytes] = {}
        for gpu in self.devices:
            evidence = self.vendor.evidence(bytes(32), gpu=gpu)
            facts = GpuFacts.read(SpdmReport.parse(evidence.report).opaque, evidence.arch)
            if facts.vbios_rim_id not in rims:
                golden = self.vendor.collateral(gpu)
                named = {facts.driver_rim_id: golden.driver_rim, facts.vbios_rim_id: golden.vbios_rim}
                rims |= {name: rim for name, rim in named.items() if name is not None and rim is not None}
        return rims

    def reference(self) -> GpuReference:
        """Values that accept exactly this board."""
        gpus = [gpu for gpu in self.devices if not gpu.is_switch]
        switches = [gpu for gpu in self.devices if gpu.is_switch]
        return GpuReference(
            count=len(gpus),
            switches=len(switches),
            archs=frozenset(gpu.arch for gpu in gpus if gpu.arch != "LS10"),
            modes=frozenset(_MODES[gpu.feature_flag] for gpu in gpus),
            min_driver=gpus[0].driver_version,
            min_vbios=frozenset({gpus[0].vbios_version}),
            min_switch_bios=switches[0].vbios_version if switches else None,
        )


@dataclass(frozen=True, slots=True, repr=False)
class MockMachine:
    """One simulated machine.

    Args:
        cpu: its TEE.
        board: its devices, or None.
    """

    cpu: MockCpu
    board: MockBoard | None = None

    def __repr__(self) -> str:
        devices = 0 if self.board is None else len(self.board.devices)
        return f"MockMachine({self.cpu.kind}, {devices} devices)"

    def device_answers(self, nonce: bytes, now: datetime | None = None) -> DeviceAnswers:
        """Every device's report over ``nonce``, or none."""
        return NO_DEVICES if self.board is None else self.board.answers(nonce, now)

    def reference_parts(self) -> ReferenceParts:
        """Values that accept exactly this machine, as ``ReferenceValues`` takes them."""
        cpu, board = self.cpu, self.board
        return {
            "vendors": frozenset({"mock"}),
            "mock": self.roots(),
            "snp": cpu.reference() if isinstance(cpu, MockSnpCpu | MockAzureCpu) else None,
            "tdx": cpu.reference() if isinstance(cpu, MockTdxCpu) else None,
            "azure": cpu.boot_reference() if isinstance(cpu, MockAzureCpu) else None,
            "gpu": None if board is None else board.reference(),
        }

    def roots(self) -> MockRoots:
        """The roots that this machine's evidence stands under, and no others."""
        cpu, board = self.cpu, self.board
        return MockRoots(
            ark_sha256=None if isinstance(cpu, MockTdxCpu) else cpu.vendor.ark_sha256,
            tdx_root_sha256=cpu.vendor.root_sha256 if isinstance(cpu, MockTdxCpu) else None,
            gpu_device_root_sha256=None if board is None else board.vendor.device_root_sha256,
            gpu_rim_root_sha256=None if board is None else board.vendor.rim_root_sha256,
        )

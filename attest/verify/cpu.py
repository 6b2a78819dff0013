"""Is this CPU evidence genuine? Whichever TEE made it, one kind of answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from attest.checks import CheckList
from attest.collateral.snp import SnpRoots
from attest.collateral.tdx import TdxRoots
from attest.evidence.cpu import AzureSnpEvidence, CpuEvidence, CpuKind, SnpEvidence
from attest.evidence.tdx_evidence import TdxEvidence
from attest.refusal import Refused
from attest.trust import MockRoots, TrustRoots
from attest.verify.azure import VerifiedAzureSnp, verify_azure_snp
from attest.verify.snp import VerifiedSnp, verify_snp
from attest.verify.tdx import VerifiedTdx, verify_tdx

CpuVendor = Literal["amd", "intel", "mock"]

_NO_MOCK: Final = (None, None)


@dataclass(frozen=True, slots=True)
class VerifiedCpu:
    """Genuine CPU evidence. Made by ``verify_cpu`` only.

    Args:
        detail: what the TEE's own verifier returned.
        event_log: a TDX guest's, not replayed yet; None otherwise.
    """

    detail: VerifiedSnp | VerifiedTdx | VerifiedAzureSnp
    event_log: bytes | None = None

    @property
    def kind(self) -> CpuKind:
        """The TEE's kind."""
        if isinstance(self.detail, VerifiedAzureSnp):
            return "azure-snp"
        return "snp" if isinstance(self.detail, VerifiedSnp) else "tdx"

    @property
    def vendor(self) -> CpuVendor:
        """Whose root the chain ends in."""
        return self._hardware.vendor

    @property
    def carried(self) -> bytes:
        """What the guest chose and the evidence carries: 64 bytes of report data, or a vTPM's nonce."""
        if isinstance(self.detail, VerifiedAzureSnp):
            return self.detail.vtpm.nonce
        if isinstance(self.detail, VerifiedSnp):
            return self.detail.report.report_data
        return self.detail.quote.report.report_data

    @property
    def measurement(self) -> str:
        """What was launched: launch digest (on Azure the paravisor's) or MRTD, 96 hex digits."""
        hardware = self._hardware
        if isinstance(hardware, VerifiedSnp):
            return hardware.report.measurement.hex()
        return hardware.quote.report.mrtd.hex()

    @property
    def product(self) -> str:
        """The hardware, for people: an AMD product line or an Intel platform family (FMSPC)."""
        hardware = self._hardware
        return hardware.product if isinstance(hardware, VerifiedSnp) else f"FMSPC {hardware.fmspc.hex()}"

    @property
    def not_after(self) -> datetime:
        """The earliest end of what the evidence was judged under."""
        return self._hardware.not_after

    @property
    def _hardware(self) -> VerifiedSnp | VerifiedTdx:
        return self.detail.snp if isinstance(self.detail, VerifiedAzureSnp) else self.detail


def verify_cpu(evidence: CpuEvidence, roots: TrustRoots, *, now: datetime, checks: CheckList) -> VerifiedCpu:
    """Judge whether CPU evidence is genuine under ``roots``.

    Raises:
        Refused: ``snp-*``, ``tdx-*``, ``azure-*``, ``certificate-*``, ``crl-*``;
            ``tdx-collateral-missing`` for a quote without the documents to judge it under.
    """
    mock = roots.mock
    snp_roots = SnpRoots(amd=roots.amd, mock_ark_sha256=None if mock is None else mock.ark_sha256)
    if isinstance(evidence, SnpEvidence):
        return VerifiedCpu(
            verify_snp(evidence.report, evidence.collateral, snp_roots, now=now, checks=checks)
        )
    if isinstance(evidence, AzureSnpEvidence):
        hcl_report, quote, collateral = evidence.hcl_report, evidence.quote, evidence.collateral
        return VerifiedCpu(verify_azure_snp(hcl_report, quote, collateral, snp_roots, now=now, checks=checks))
    return VerifiedCpu(_verify_tdx(evidence, roots.intel, mock, now, checks), evidence.event_log)


def _verify_tdx(
    evidence: TdxEvidence, intel: bool, mock: MockRoots | None, now: datetime, checks: CheckList
) -> VerifiedTdx:
    if evidence.collateral is None:
        raise Refused("tdx-collateral-missing", "Intel PCS API v4", expected="the nine documents", got="none")
    roots = TdxRoots(intel=intel, mock_root_sha256=None if mock is None else mock.tdx_root_sha256)
    # Azure's attributes of zero are let through to the appraisal, which refuses them unless they are named.
    return verify_tdx(
        evidence.quote, evidence.collateral, roots, now=now, checks=checks, azure_paravisor=True
    )

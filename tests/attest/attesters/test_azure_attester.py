"""The Azure attester against a simulated vTPM, and its command lines against simulated tools."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.attesters.azure import (
    ATTESTATION_KEY,
    HCL_REPORT_INDEX,
    AzureAttester,
    AzureSnpAttester,
    TpmTools,
)
from attest.attesters.base import AttesterFailure
from attest.checks import CheckList
from attest.collateral.snp import SnpRoots
from attest.evidence.cpu import SnpCollateral
from attest.mock.azure import MockAzureCvm
from attest.mock.vendor import MockKeys, MockVendor
from attest.statement import vtpm_nonce
from attest.verify.azure import PcrPolicy, verify_azure_cvm, verify_azure_snp

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(range(64))


class SimulatedTpm:
    """A vTPM of the mock VM; each part of its answer may be replaced."""

    def __init__(self, cvm: MockAzureCvm) -> None:
        self.report = cvm.hcl_report()
        self.cvm = cvm
        self.nonce: bytes | None = None
        self.message: bytes | None = None
        self.cut = 0

    def read(self, index: str) -> bytes:
        """The paravisor's report."""
        assert index == HCL_REPORT_INDEX
        return self.report

    def quote(self, key: str, pcrs: str, nonce: bytes) -> tuple[bytes, bytes, bytes]:
        """As tpm2_quote answers."""
        assert key == ATTESTATION_KEY
        assert pcrs == "sha256:" + ",".join(str(index) for index in range(24))
        quote = self.cvm.quote(self.nonce or nonce)
        values = b"".join(quote.pcrs)
        return self.message or quote.message, quote.signature, values[: len(values) - self.cut]


@pytest.fixture(scope="module")
def cvm(mock_keys: MockKeys) -> MockAzureCvm:
    """An honest VM."""
    return MockAzureCvm(MockVendor(mock_keys, issued_at=NOW))


def test_its_evidence_verifies(cvm: MockAzureCvm) -> None:
    """What the attester hands over is what the verifier takes."""
    evidence = AzureAttester(SimulatedTpm(cvm)).evidence(NONCE)
    verified = verify_azure_cvm(
        evidence.hcl_report,
        evidence.quote,
        cvm.vendor.collateral(now=NOW),
        SnpRoots(amd=False, mock_ark_sha256=cvm.vendor.ark_sha256),
        nonce=NONCE,
        pcr_policy=PcrPolicy({7: frozenset({cvm.pcrs[7]})}),
        now=NOW,
        checks=CheckList(),
    )
    assert verified.vtpm.nonce == NONCE
    assert repr(evidence) == f"AzureEvidence(report 2600 bytes, {evidence.quote!r})"


def test_a_runtime_in_a_vm(cvm: MockAzureCvm) -> None:
    """The quote carries the digest of the report data, and the certificates are those that were given."""
    collateral = cvm.vendor.collateral(now=NOW)
    evidence = AzureSnpAttester(SimulatedTpm(cvm), collateral).cpu_evidence(NONCE)
    roots = SnpRoots(amd=False, mock_ark_sha256=cvm.vendor.ark_sha256)
    verified = verify_azure_snp(
        evidence.hcl_report, evidence.quote, evidence.collateral, roots, now=NOW, checks=CheckList()
    )
    assert verified.vtpm.nonce == vtpm_nonce(NONCE)
    assert AzureSnpAttester(SimulatedTpm(cvm)).cpu_evidence(NONCE).collateral == SnpCollateral(None)
    assert "hcl" not in repr(evidence)


def test_a_runtime_in_a_vm_on_other_hardware(cvm: MockAzureCvm) -> None:
    """A TDREPORT cannot be verified from afar."""
    tpm = SimulatedTpm(cvm)
    tpm.report = cvm.hcl_report(kind="tdx")
    with pytest.raises(AttesterFailure, match="SEV-SNP"):
        AzureSnpAttester(tpm).cpu_evidence(NONCE)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_of_another_size(cvm: MockAzureCvm, size: int) -> None:
    """The caller's bug."""
    with pytest.raises(ValueError, match="64"):
        AzureSnpAttester(SimulatedTpm(cvm)).cpu_evidence(bytes(size))


@pytest.mark.parametrize("nonce", [b"", bytes(65)])
def test_nonces_that_cannot_be_carried(cvm: MockAzureCvm, nonce: bytes) -> None:
    """The caller's bug, not the vTPM's failure."""
    with pytest.raises(ValueError, match="64"):
        AzureAttester(SimulatedTpm(cvm)).evidence(nonce)


def test_answers_that_are_not_ours(cvm: MockAzureCvm) -> None:
    """Another nonce, no report, another structure, too few PCRs: no evidence rather than wrong evidence."""
    for change in (
        {"nonce": bytes(64)},
        {"report": b"HCLB"},
        {"report": b""},
        {"message": b"\xffTCG"},
        {"cut": 32},
        {"cut": 1},
    ):
        tpm = SimulatedTpm(cvm)
        vars(tpm).update(change)
        with pytest.raises(AttesterFailure):
            AzureAttester(tpm).evidence(NONCE)


def _tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_tools_command_lines(tmp_path: Path, cvm: MockAzureCvm) -> None:
    """The tools are called as their manual says, and their files are read."""
    report, quote = cvm.hcl_report(), cvm.quote(NONCE)
    (tmp_path / "report").write_bytes(report)
    (tmp_path / "m").write_bytes(quote.message)
    (tmp_path / "s").write_bytes(quote.signature)
    (tmp_path / "p").write_bytes(b"".join(quote.pcrs))
    _tool(tmp_path, "tpm2_nvread", f'echo "$@" > {tmp_path}/read-arguments; cat {tmp_path}/report')
    _tool(
        tmp_path,
        "tpm2_quote",
        f'echo "$@" > {tmp_path}/quote-arguments\n'
        'while [ $# -gt 0 ]; do case "$1" in\n'
        f"-m) cp {tmp_path}/m $2;; -s) cp {tmp_path}/s $2;; -o) cp {tmp_path}/p $2;; esac; shift; done",
    )
    evidence = AzureAttester(TpmTools(tmp_path)).evidence(NONCE)
    assert evidence.hcl_report == report
    assert evidence.quote == quote
    assert (tmp_path / "read-arguments").read_text() == "-C o 0x01400001\n"
    arguments = (tmp_path / "quote-arguments").read_text()
    assert arguments.startswith("-c 0x81000003 -l sha256:0,1,2,")
    assert f"-q {NONCE.hex()} -g sha256 -f plain -F values -m " in arguments


def test_tools_that_fail(tmp_path: Path, cvm: MockAzureCvm) -> None:
    """An absent tool, one that says no, and one that writes nothing."""
    with pytest.raises(AttesterFailure, match="tpm2_nvread: FileNotFoundError"):
        AzureAttester(TpmTools(tmp_path)).evidence(NONCE)
    _tool(tmp_path, "tpm2_nvread", "exit 1")
    with pytest.raises(AttesterFailure, match="tpm2_nvread: CalledProcessError"):
        AzureAttester(TpmTools(tmp_path)).evidence(NONCE)
    (tmp_path / "report").write_bytes(cvm.hcl_report())
    _tool(tmp_path, "tpm2_nvread", f"cat {tmp_path}/report")
    _tool(tmp_path, "tpm2_quote", "exit 0")
    with pytest.raises(AttesterFailure, match="wrote no quote"):
        AzureAttester(TpmTools(tmp_path)).evidence(NONCE)


def test_the_mock_vm_shows_no_key(cvm: MockAzureCvm) -> None:
    """Private keys have no place in logs."""
    assert repr(replace(cvm)) == f"MockAzureCvm({cvm.vendor!r})"

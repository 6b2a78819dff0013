"""Evidence of an Azure confidential VM, from its vTPM by way of tpm2-tools (version 5 or later).

The paravisor's report lies in an NV index and was made at boot; what is fresh is the quote, which carries the
64 bytes that elsewhere are REPORT_DATA. The chip's certificate is not in the guest: whoever verifies gets it.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from attest.attesters.base import AttesterFailure
from attest.evidence.cpu import AzureSnpEvidence, CpuKind, SnpCollateral
from attest.evidence.hcl import REPORT_DATA_SIZE, HclReport
from attest.evidence.tpm import DIGEST_SIZE, MAX_EXTRA_DATA, PCR_COUNT, QuoteFacts, TpmQuote
from attest.refusal import Refused
from attest.statement import vtpm_nonce

HCL_REPORT_INDEX: Final = "0x01400001"
ATTESTATION_KEY: Final = "0x81000003"
TOOLS_FOLDER: Final = Path("/usr/bin")
_TIMEOUT_SECONDS: Final = 20
_ALL_PCRS: Final = "sha256:" + ",".join(map(str, range(PCR_COUNT)))


class Tpm(Protocol):
    """The two things that are asked of a vTPM."""

    def read(self, index: str) -> bytes:
        """The whole of an NV index."""
        ...

    def quote(self, key: str, pcrs: str, nonce: bytes) -> tuple[bytes, bytes, bytes]:
        """Message, raw signature, and the PCRs' values one after the other."""
        ...


class TpmTools:
    """``Tpm`` by tpm2-tools.

    Args:
        folder: where the tools are.
    """

    def __init__(self, folder: Path = TOOLS_FOLDER) -> None:
        self._folder = folder

    def read(self, index: str) -> bytes:
        """The whole of an NV index.

        Raises:
            AttesterFailure: the tool is absent or says no.
        """
        return self._run("tpm2_nvread", "-C", "o", index)

    def quote(self, key: str, pcrs: str, nonce: bytes) -> tuple[bytes, bytes, bytes]:
        """Message, raw signature, and the PCRs' values one after the other.

        Raises:
            AttesterFailure: the tool is absent, says no or writes nothing.
        """
        with tempfile.TemporaryDirectory() as name:
            message, signature, values = (Path(name) / part for part in ("message", "signature", "pcrs"))
            options = [
                "-c",
                key,
                "-l",
                pcrs,
                "-q",
                nonce.hex(),
                "-g",
                "sha256",
                "-f",
                "plain",
                "-F",
                "values",
            ]
            files = ["-m", str(message), "-s", str(signature), "-o", str(values)]
            self._run("tpm2_quote", *options, *files)
            try:
                return message.read_bytes(), signature.read_bytes(), values.read_bytes()
            except OSError as error:
                raise AttesterFailure("tpm2_quote wrote no quote") from error

    def _run(self, tool: str, *arguments: str) -> bytes:
        command = [str(self._folder / tool), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_SECONDS)  # noqa: S603 - fixed tools, no shell, hex and constants only
        except (OSError, subprocess.SubprocessError) as error:
            raise AttesterFailure(f"{tool}: {type(error).__name__}") from error
        return done.stdout


@dataclass(frozen=True, slots=True, repr=False)
class AzureEvidence:
    """One VM's answer to one nonce, as plain data.

    Args:
        hcl_report: from the NV index.
        quote: over all PCRs and the nonce.
    """

    hcl_report: bytes
    quote: TpmQuote

    def __repr__(self) -> str:
        return f"AzureEvidence(report {len(self.hcl_report)} bytes, {self.quote!r})"


class AzureAttester:
    """Asks the VM's own vTPM.

    Args:
        tpm: the vTPM.
    """

    kind = "azure"

    def __init__(self, tpm: Tpm | None = None) -> None:
        self._tpm = TpmTools() if tpm is None else tpm

    def evidence(self, nonce: bytes) -> AzureEvidence:
        """Report and fresh quote. May block for a second: call it off the event loop.

        Args:
            nonce: 1 to 64 bytes, chosen by the caller and signed by the vTPM.

        Raises:
            AttesterFailure: no evidence could be made, or it is not an answer to this nonce.
            ValueError: the nonce cannot be carried.
        """
        if not 0 < len(nonce) <= MAX_EXTRA_DATA:
            raise ValueError(f"a quote carries 1 to {MAX_EXTRA_DATA} bytes")
        hcl_report = self._tpm.read(HCL_REPORT_INDEX)
        message, signature, values = self._tpm.quote(ATTESTATION_KEY, _ALL_PCRS, nonce)
        try:
            HclReport.parse(hcl_report)
            facts = QuoteFacts.parse(message)
        except Refused as refusal:
            raise AttesterFailure(f"the vTPM's answer is not of the known form: {refusal.code}") from refusal
        if facts.extra_data != nonce or len(values) != PCR_COUNT * DIGEST_SIZE:
            raise AttesterFailure("the vTPM answered another question")
        pcrs = tuple(values[place : place + DIGEST_SIZE] for place in range(0, len(values), DIGEST_SIZE))
        return AzureEvidence(hcl_report, TpmQuote(message, signature, pcrs))


class AzureSnpAttester:
    """The seam of a runtime in an Azure confidential VM on SEV-SNP.

    The chip's certificate is not in the guest: the verifier looks it up, or is given it here.

    Args:
        tpm: the vTPM.
        collateral: certificates to hand on.
    """

    kind: Final[CpuKind] = "azure-snp"

    def __init__(self, tpm: Tpm | None = None, collateral: SnpCollateral | None = None) -> None:
        self._attester = AzureAttester(tpm)
        self._collateral = collateral or SnpCollateral(None)

    def cpu_evidence(self, report_data: bytes) -> AzureSnpEvidence:
        """The paravisor's report, and a quote that carries the digest of ``report_data``.

        Raises:
            AttesterFailure: as ``AzureAttester.evidence``, and for a VM on other hardware.
            ValueError: ``report_data`` is not 64 bytes.
        """
        if len(report_data) != REPORT_DATA_SIZE:
            raise ValueError(f"report_data has {REPORT_DATA_SIZE} bytes")
        evidence = self._attester.evidence(vtpm_nonce(report_data))
        if HclReport.parse(evidence.hcl_report).kind != "snp":
            raise AttesterFailure("this Azure VM does not stand on SEV-SNP")
        return AzureSnpEvidence(evidence.hcl_report, evidence.quote, self._collateral)

"""What a CPU TEE hands over, as plain data: made inside the enclave, judged outside.

It lives apart from ``attest.collateral`` so that the enclave can fill it in without carrying any
verifier's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from attest.evidence.tdx_evidence import TdxEvidence
from attest.evidence.tpm import TpmQuote

CpuKind = Literal["snp", "tdx", "azure-snp"]


@dataclass(frozen=True, slots=True, repr=False)
class SnpCollateral:
    """The certificates (and list) under which a SEV-SNP report is to be judged. All DER; none trusted yet.

    Args:
        leaf: VCEK or VLEK; ``None`` where the host gave the guest none, and a verifier looks it up.
        intermediate: ASK or ASVK; ``None`` means the pinned one.
        ark: a mock vendor's root, which has no pinned copy; ``None`` for AMD.
        crl: revocation list signed by the root.
    """

    leaf: bytes | None
    intermediate: bytes | None = None
    ark: bytes | None = None
    crl: bytes | None = None

    def __repr__(self) -> str:
        sizes = {name: len(value) for name in self.__slots__ if (value := getattr(self, name)) is not None}
        return f"SnpCollateral({', '.join(f'{name} {size} bytes' for name, size in sizes.items())})"


@dataclass(frozen=True, slots=True, repr=False)
class SnpEvidence:
    """One SEV-SNP guest's answer to one ``report_data``.

    Args:
        report: the signed report as the hardware wrote it.
        collateral: what the enclave knows towards verifying it; a verifier may use its own instead.
    """

    kind: ClassVar[CpuKind] = "snp"

    report: bytes
    collateral: SnpCollateral

    def __repr__(self) -> str:
        return f"SnpEvidence(report {len(self.report)} bytes, {self.collateral!r})"


@dataclass(frozen=True, slots=True, repr=False)
class AzureSnpEvidence:
    """One Azure confidential VM's answer to one ``report_data``.

    Args:
        hcl_report: of the paravisor, with the SEV-SNP report made at boot inside.
        quote: of the vTPM, over all PCRs and ``vtpm_nonce(report_data)``.
        collateral: as of ``SnpEvidence``.
    """

    kind: ClassVar[CpuKind] = "azure-snp"

    hcl_report: bytes
    quote: TpmQuote
    collateral: SnpCollateral

    def __repr__(self) -> str:
        return f"AzureSnpEvidence(report {len(self.hcl_report)} bytes, {self.quote!r}, {self.collateral!r})"


CpuEvidence = SnpEvidence | TdxEvidence | AzureSnpEvidence
"""What any CPU TEE hands over; ``kind`` chooses the verifier."""

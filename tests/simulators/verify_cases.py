"""Genuine evidence of each kind as ``sealgate verify`` takes it: one that verifies and one that does not.

Files, times and outcomes are those of shared/vectors/SOURCES.md. Evidence that is stored inside another
project's envelope is taken out of it into files of the working folder first.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attest.evidence.certificate_table import ASK, VCEK
from attest.evidence.pem import read_certificates
from tests.simulators.genuine_azure import NONCES, read
from tests.simulators.genuine_tokens import (
    FALSE_KEYS,
    HOPPER_NONCE,
    JOINT,
    JOINT_KEYS,
    JOINT_NONCE,
    MAA_ISSUER,
    MAA_KEYS,
    MAA_POLICY_HASH,
    NRAS,
)

SUMMER: Final = "2026-06-01T00:00:00Z"
_HOPPER: Final = "nvidia/hopper-550.90.07-complete"
_RIMS: Final = f"--rim {_HOPPER}/driver_rim.xml --rim {_HOPPER}/vbios_rim.xml"
_MAA: Final = f"--jwks {MAA_KEYS} --issuer {MAA_ISSUER} --policy-hash {MAA_POLICY_HASH}"
_DEBUG_TD, _GCP_TD, _AZURE_TD = "tdx/v4-debug-td", "tdx/v4-gcp-cos113-uptodate", "tdx/v4-azure-no-septve"
_AZURE: Final = (
    "--azure azure/hcl-report.bin --tpm-quote azure/quote.msg --tpm-signature azure/quote.sig "
    "--tpm-pcrs azure/pcrs.bin"
)


@dataclass(frozen=True)
class VerifyCase:
    """One command line on genuine evidence.

    Args:
        title: what it shows.
        options: as typed; a word with a slash is a file under shared/vectors or of the working folder.
        code: the refusal; empty if the evidence is genuine.
        exit_code: how the command ends.
        prepare: writes the working folder's files, where there are any: ``prepare(vectors, work)``.
    """

    title: str
    options: str
    code: str = ""
    exit_code: int = 0
    prepare: Callable[[Path, Path], None] | None = None

    def __str__(self) -> str:
        return self.title.replace(" ", "-")

    def arguments(self, vectors: Path, work: Path) -> list[str]:
        """The options with the files where they are; makes those of the working folder."""
        if self.prepare is not None:
            self.prepare(vectors, work)
        return [self._located(word, vectors, work) for word in shlex.split(self.options)]

    @staticmethod
    def _located(word: str, vectors: Path, work: Path) -> str:
        return next((str(root / word) for root in (vectors, work) if (root / word).is_file()), word)


def certificate_table(parts: Mapping[bytes, bytes]) -> bytes:
    """A host's certificate table: GUID to certificate."""
    headers, body, offset = b"", b"", 24 * (len(parts) + 1)
    for guid, certificate in parts.items():
        headers += guid + offset.to_bytes(4, "little") + len(certificate).to_bytes(4, "little")
        body += certificate
        offset += len(certificate)
    return headers + bytes(24) + body


def _table(vectors: Path, work: Path) -> None:
    """The table of a Genoa host: the chip's certificate and its issuer."""
    genoa = vectors / "sev-snp"
    parts = {
        VCEK: read_certificates((genoa / "genoa-v3-aci/vcek.pem").read_bytes())[0],
        ASK: read_certificates((genoa / "roots/genoa_vcek_cert_chain.pem").read_bytes())[0],
    }
    (work / "snp").mkdir(exist_ok=True)
    (work / "snp/table.bin").write_bytes(certificate_table(parts))


def _gpu_json(vectors: Path, work: Path) -> None:
    """One GPU in the JSON form of NVIDIA's tools."""
    folder = vectors / _HOPPER
    device = {
        "arch": "HOPPER",
        "certificate": base64.b64encode((folder / "cert_chain.pem").read_bytes()).decode(),
        "evidence": base64.b64encode((folder / "report.bin").read_bytes()).decode(),
        "nonce": HOPPER_NONCE,
    }
    (work / "gpu").mkdir(exist_ok=True)
    (work / "gpu/evidence.json").write_text(json.dumps([device]))


def _azure(name: str) -> Callable[[Path, Path], None]:
    def prepare(vectors: Path, work: Path) -> None:
        file, folder = read(vectors / "azure-hcl", name), work / "azure"
        folder.mkdir(exist_ok=True)
        (folder / "hcl-report.bin").write_bytes(file.hcl_report)
        (folder / "quote.msg").write_bytes(file.quote.message)
        (folder / "quote.sig").write_bytes(file.quote.signature)
        (folder / "pcrs.bin").write_bytes(b"".join(file.quote.pcrs))
        if file.leaf:
            (folder / "vcek.der").write_bytes(file.leaf)

    return prepare


# What PCR 7 (secure boot) of the stored machines is.
_PCR7_GENOA: Final = "3b20e022416fdf61d72e4da32b4354781be3de0608116976d28ffdad8c341d2a"
_PCR7_TDX: Final = "4d98d960d39753d97c718812eb4baa6c4bae9eca0365d6100393bf227d91f894"

CASES: Final[tuple[VerifyCase, ...]] = (
    VerifyCase(
        "SEV-SNP report, Turin",
        f"--snp sev-snp/turin-v5-aci/report.bin --vcek sev-snp/turin-v5-aci/vcek.pem --at {SUMMER}",
    ),
    VerifyCase(
        "SEV-SNP report signed by a provider's key, with its chain",
        "--snp sev-snp/milan-v3-vlek-aws/report.bin --vlek sev-snp/milan-v3-vlek-aws/vlek.der "
        "--chain sev-snp/roots/milan_vlek_cert_chain.pem --at 2025-06-01T00:00:00Z",
    ),
    VerifyCase(
        "SEV-SNP report with the host's certificate table",
        f"--snp sev-snp/genoa-v3-aci/report.bin --cert-table snp/table.bin --at {SUMMER}",
        prepare=_table,
    ),
    VerifyCase(
        "SEV-SNP report with another chip's certificate",
        "--snp sev-snp/milan-v2-azure/report.bin --vcek sev-snp/milan-v2-azure/vcek-mismatch-new.der "
        f"--at {SUMMER}",
        code="certificate-signature",
        exit_code=10,
    ),
    VerifyCase(
        "TDX quote with its event log",
        f"--tdx {_GCP_TD}/quote.bin --collateral {_GCP_TD}/collateral.json "
        f"--event-log {_GCP_TD}/ccel_data.bin --at 2025-07-15T00:00:00Z",
    ),
    VerifyCase(
        "TDX quote of a debug guest",
        f"--tdx {_DEBUG_TD}/quote.bin --collateral {_DEBUG_TD}/collateral.json --at 2026-03-20T00:00:00Z",
        code="tdx-debug",
        exit_code=10,
    ),
    VerifyCase(
        "NVIDIA GPU",
        f"--nvidia gpu/evidence.json {_RIMS} --nonce {HOPPER_NONCE} --at 2025-06-01T00:00:00Z",
        prepare=_gpu_json,
    ),
    VerifyCase(
        "NVIDIA GPUs without their golden values",
        f"--nvidia nvidia/hopper-590.12-ppcie-4gpu/evidence.json {_RIMS} --at 2025-06-01T00:00:00Z",
        code="gpu-rim-missing",
        exit_code=10,
    ),
    VerifyCase(
        "NVIDIA attestation service",
        f"--nras {JOINT}/nras_response.json --jwks {JOINT_KEYS} --nonce {JOINT_NONCE} "
        "--at 2026-06-29T02:08:05Z",
    ),
    VerifyCase(
        "NVIDIA attestation service that says no",
        f"--nras {NRAS}/v3-overall-false-8gpu.json --jwks {FALSE_KEYS} --at 2026-05-20T02:20:00Z",
        code="nras-result",
        exit_code=10,
    ),
    VerifyCase(
        "Azure Attestation token",
        f"--maa maa/azurevm-snp-2022.jwt --maa-kind azurevm-sevsnpvm {_MAA} --nonce 31323334 "
        "--at 2022-09-07T22:00:00Z",
    ),
    VerifyCase(
        "Azure Attestation token under an unknown key",
        f"--maa maa/azurevm-snp-protocol3-2025.jwt --maa-kind azurevm-sevsnpvm {_MAA} "
        "--at 2025-12-15T20:00:00Z",
        code="jwks-key-unknown",
        exit_code=10,
    ),
    VerifyCase(
        "Azure confidential VM",
        f"{_AZURE} --vcek azure/vcek.der --pcr 7={_PCR7_GENOA} --nonce {NONCES['snp-genoa'].hex()} "
        f"--at {SUMMER}",
        prepare=_azure("snp-genoa"),
    ),
    VerifyCase(
        "Azure confidential VM that answers another nonce",
        f"{_AZURE} --vcek azure/vcek.der --pcr 7={_PCR7_GENOA} --nonce 00 --at {SUMMER}",
        code="azure-quote-nonce",
        exit_code=10,
        prepare=_azure("snp-genoa"),
    ),
    VerifyCase(
        "Azure confidential VM on TDX, out of date",
        f"{_AZURE} --tdx {_AZURE_TD}/quote.bin --collateral {_AZURE_TD}/collateral.json "
        f"--pcr 7={_PCR7_TDX} --nonce {NONCES['tdx-v1'].hex()} --at 2025-07-15T00:00:00Z",
        prepare=_azure("tdx-v1"),
    ),
    VerifyCase(
        "Azure confidential VM on TDX without a quote",
        f"{_AZURE} --pcr 7={_PCR7_TDX} --at {SUMMER}",
        code="azure-tdx-quote",
        exit_code=20,
        prepare=_azure("tdx-v1"),
    ),
    VerifyCase(
        "A file that is no report",
        f"--snp {_GCP_TD}/nonce.bin --vcek sev-snp/turin-v5-aci/vcek.pem --at {SUMMER}",
        code="snp-report-length",
        exit_code=30,
    ),
)
"""In the order of the document that shows them."""

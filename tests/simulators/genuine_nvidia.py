"""The genuine evidence in shared/vectors/nvidia: what belongs together, when, and what must come out."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attest.evidence.gpu import Architecture, GpuCollateral, GpuEvidence

MAY_2024 = datetime(2024, 5, 1, tzinfo=UTC)
SUMMER_2025 = datetime(2025, 6, 1, tzinfo=UTC)
MARCH_2026 = datetime(2026, 3, 1, tzinfo=UTC)
AUTUMN_2024 = datetime(2024, 9, 1, tzinfo=UTC)
DEVICE_OCSP = datetime(2025, 8, 21, 12, tzinfo=UTC)
RIM_OCSP = datetime(2025, 10, 24, 12, tzinfo=UTC)

COMPLETE: Final = "hopper-550.90.07-complete"


@dataclass(frozen=True, slots=True)
class ReportCase:
    """A report and a chain; ``refusal`` is the code or empty for a genuine one."""

    report: str
    chain: str
    arch: Architecture
    driver: str | None
    vbios: str
    refusal: str = ""
    place: int | None = None

    def __str__(self) -> str:
        return f"{self.report}{'' if self.place is None else f'[{self.place}]'}"

    def read(self, folder: Path) -> GpuEvidence:
        """The evidence."""
        if self.place is None:
            return GpuEvidence(
                self.arch, (folder / self.report).read_bytes(), (folder / self.chain).read_bytes()
            )
        entry = json.loads((folder / self.report).read_bytes())[self.place]
        return GpuEvidence(
            entry["arch"], base64.b64decode(entry["evidence"]), base64.b64decode(entry["certificate"])
        )

    def nonce(self, folder: Path) -> bytes | None:
        """That the file says was asked with, if it says."""
        if self.place is None:
            return None
        return bytes.fromhex(json.loads((folder / self.report).read_bytes())[self.place]["nonce"])


def _folder(
    name: str, driver: str, vbios: str, *, arch: Architecture = "HOPPER", chain: str = "", refusal: str = ""
) -> ReportCase:
    return ReportCase(
        f"{name}/report.bin", f"{chain or name}/cert_chain.pem", arch, driver, vbios, refusal=refusal
    )


REPORTS: Final = (
    _folder(COMPLETE, "550.90.07", "96.00.9F.00.01"),
    _folder("hopper-535.86.09", "535.86.09", "96.00.5E.00.01"),
    _folder("hopper-570.124.03-expired-rim", "570.124.03", "96.00.5E.00.04"),
    _folder("hopper-580.159.03", "580.159.03", "96.00.74.00.20"),
    _folder("hopper-580.95.05-trailing-nul", "580.95.05", "96.00.74.00.1A"),
    _folder("blackwell-gb100", "575.32", "97.00.88.00.0F", arch="BLACKWELL"),
    _folder(
        "hopper-invalid-signature", "560.00", "96.00.A5.00.01", chain="hopper-535.86.09", refusal="gpu-fwid"
    ),
    *(
        ReportCase("hopper-590.12-ppcie-4gpu/evidence.json", "", "HOPPER", "590.12", "96.00.A5.00.01", "", n)
        for n in range(4)
    ),
    *(ReportCase("switch-ls10/evidence.json", "", "LS10", None, "96.10.55.00.01", "", n) for n in range(4)),
)


@dataclass(frozen=True, slots=True)
class RimCase:
    """A signed manifest at a time; ``refusal`` is the code or empty for a genuine one."""

    file: str
    now: datetime
    version: str
    active: int
    refusal: str = ""

    def __str__(self) -> str:
        return f"{self.file}-{self.now:%Y-%m}"


RIMS: Final = (
    RimCase(f"{COMPLETE}/driver_rim.xml", SUMMER_2025, "550.90.07", 21),
    RimCase(f"{COMPLETE}/driver_rim.xml", MAY_2024, "", 0, "certificate-not-yet-valid"),
    RimCase(f"{COMPLETE}/vbios_rim.xml", SUMMER_2025, "96.00.9F.00.01", 12),
    RimCase(f"{COMPLETE}/vbios_rim.xml", MARCH_2026, "", 0, "certificate-expired"),
    RimCase("hopper-535.86.09/vbios_rim.xml", AUTUMN_2024, "96.00.5E.00.01", 12),
    RimCase("hopper-535.86.09/vbios_rim.xml", DEVICE_OCSP, "", 0, "certificate-expired"),
    RimCase("hopper-535.86.09/vbios_rim_reissued_mismatch.xml", AUTUMN_2024, "96.00.5E.00.01", 12),
    RimCase("hopper-535.86.09/driver_rim_mismatch.xml", SUMMER_2025, "", 0, "rim-digest"),
    RimCase("hopper-570.124.03-expired-rim/driver_rim_expired.xml", SUMMER_2025, "", 0, "rim-digest"),
    RimCase("hopper-570.124.03-expired-rim/vbios_rim_2023.xml", AUTUMN_2024, "96.00.5E.00.04", 12),
    RimCase("rim-negative/good_NV_GPU_DRIVER_GH100_550.144.03.xml", SUMMER_2025, "550.144.03", 21),
    RimCase("rim-negative/incorrect_signature_driver_rim.xml", SUMMER_2025, "", 0, "rim-signature"),
    RimCase("rim-negative/incorrect_cert_chain_driver_rim.xml", SUMMER_2025, "", 0, "rim-root-not-trusted"),
)

# With which code the reader of golden values refuses a document of the parser set. Those about certificates
# lack every namespace, so it is the structure that is refused; the same faults in well-formed signatures are
# in test_rim_signature.py.
PARSER: Final[dict[str, str]] = {
    "failure_duplicate_index": "rim-index-twice",
    "failure_empty_payload": "rim-payload",
    "failure_hash_empty_namespace": "rim-resource",
    "failure_invalid_alternatives": "rim-resource",
    "failure_invalid_base64_cert": "rim-structure",
    "failure_invalid_cert_bytes": "rim-structure",
    "failure_invalid_index": "rim-resource",
    "failure_invalid_pem_data": "rim-structure",
    "failure_invalid_size": "rim-resource",
    "failure_missing_alternatives": "rim-resource",
    "failure_missing_colloquial_version": "rim-structure",
    "failure_missing_hash": "rim-resource",
    "failure_missing_index": "rim-resource",
    "failure_missing_meta": "rim-structure",
    "failure_missing_size": "rim-resource",
    "failure_missing_x509_certificate": "rim-structure",
    "failure_missing_x509_data": "rim-structure",
    "failure_no_payload": "rim-payload",
    "success_payload_multiple_alternatives": "",
}

OCSP: Final[dict[str, tuple[str, datetime]]] = {
    "test_gpu_certificate_l2": ("device", DEVICE_OCSP),
    "test_gpu_certificate_l3": ("device", DEVICE_OCSP),
    "test_gpu_certificate_l4": ("device", DEVICE_OCSP),
    "test_gpu_driver_rim_l3": ("rim", RIM_OCSP),
    "test_gpu_driver_rim_l4": ("rim", RIM_OCSP),
    "test_gpu_rim_l2": ("rim", RIM_OCSP),
    "test_gpu_vbios_l4": ("rim", RIM_OCSP),
}


def complete(folder: Path, *ocsp: str) -> tuple[GpuEvidence, GpuCollateral]:
    """The one set in which everything belongs together, with the named OCSP responses."""
    evidence = REPORTS[0].read(folder)
    answers = tuple((folder / COMPLETE / "ocsp" / f"{name}.der").read_bytes() for name in ocsp)
    return evidence, GpuCollateral(
        (folder / COMPLETE / "driver_rim.xml").read_bytes(),
        (folder / COMPLETE / "vbios_rim.xml").read_bytes(),
        answers,
    )

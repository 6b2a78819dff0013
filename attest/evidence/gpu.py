"""What GPUs and switches hand over, as plain data: made inside the enclave, judged outside.

As with ``attest.evidence.cpu``, it lives apart from ``attest.collateral`` so that the enclave can fill it in
without carrying any verifier's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Architecture = Literal["HOPPER", "BLACKWELL", "LS10"]

NONCE_SIZE: Final = 32
MAX_REPORT_BYTES: Final = 16 * 1024  # Hopper's are 4.3 kB
MAX_CHAIN_BYTES: Final = 64 * 1024
MAX_RIM_BYTES: Final = 128 * 1024  # NVIDIA's are 21 kB
MAX_OCSP_BYTES: Final = 8 * 1024  # NVIDIA's are 1 kB
ARCHITECTURES: Final[tuple[Architecture, ...]] = ("HOPPER", "BLACKWELL", "LS10")


@dataclass(frozen=True, slots=True, repr=False)
class GpuEvidence:
    """One device's answer to one nonce.

    Args:
        arch: the device's architecture as NVIDIA's tools name it; ``LS10`` is an NVSwitch.
        report: SPDM request and response as the driver returns them.
        certificate_chain: PEM, leaf first.
    """

    arch: Architecture
    report: bytes
    certificate_chain: bytes

    def __repr__(self) -> str:
        sizes = f"report {len(self.report)} bytes, chain {len(self.certificate_chain)} bytes"
        return f"GpuEvidence({self.arch}, {sizes})"


@dataclass(frozen=True, slots=True, repr=False)
class GpuCollateral:
    """Golden values and revocation answers under which a device is to be judged; none trusted yet.

    Args:
        driver_rim: signed golden values of the driver; ``None`` for a switch, which has none.
        vbios_rim: signed golden values of the VBIOS (a switch's BIOS).
        ocsp: OCSP responses, DER, for any certificates of the device's chain and of the two RIMs' chains.
    """

    driver_rim: bytes | None
    vbios_rim: bytes | None
    ocsp: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        driver, vbios = len(self.driver_rim or b""), len(self.vbios_rim or b"")
        return f"GpuCollateral(driver {driver} bytes, VBIOS {vbios} bytes, {len(self.ocsp)} OCSP responses)"

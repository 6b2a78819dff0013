"""Lay out and sign SEV-SNP reports as firmware does (AMD 56860, table "ATTESTATION_REPORT")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attest.evidence.snp import REPORT_DATA_SIZE, REPORT_SIZE, SIGNED_SIZE
from attest.evidence.snp_tcb import Product, TcbVersion

DEFAULT_TCB: Final = TcbVersion(boot_loader=10, tee=0, snp=27, microcode=84)
DEFAULT_POLICY: Final = 0x30000  # bit 17 must be one; bit 16 allows SMT
DEBUG_POLICY_BIT: Final = 1 << 19
MIGRATION_POLICY_BIT: Final = 1 << 18

_CPUID: Final[dict[Product, bytes]] = {
    "Milan": bytes([0x19, 0x01, 0x01]),
    "Genoa": bytes([0x19, 0x11, 0x01]),
    "Turin": bytes([0x1A, 0x02, 0x01]),
}
_SIGNING_KEY_FLAG: Final = {"vcek": 0, "vlek": 1}
_FIRMWARE: Final = bytes([0x37, 0x37, 0x01, 0x00])  # build, minor, major, reserved


@dataclass(frozen=True, slots=True)
class MockLaunch:
    """How a guest was launched, as far as a report shows it.

    Args:
        measurement: 48 bytes.
        policy: GUEST_POLICY as a number.
        vmpl: privilege level that asks.
        guest_svn: security version number of the guest image.
        tcb: REPORTED, COMMITTED, CURRENT and LAUNCH version alike.
        host_data: 32 bytes chosen by the host.
        id_key_digest: 48 bytes; zero without an ID block.
        migration_agent: 32 bytes; all ones without an agent.
        platform_info: PLATFORM_INFO as a number.
        version: report version, 2, 3 or 5.
    """

    measurement: bytes = b"\x5e" * 48
    policy: int = DEFAULT_POLICY
    vmpl: int = 0
    guest_svn: int = 1
    tcb: TcbVersion = DEFAULT_TCB
    host_data: bytes = bytes(32)
    id_key_digest: bytes = bytes(48)
    migration_agent: bytes = b"\xff" * 32
    platform_info: int = 0x25
    version: int = 5


def unsigned_report(
    report_data: bytes,
    launch: MockLaunch,
    *,
    product: Product,
    chip_id: bytes,
    signing_key: Literal["vcek", "vlek"] = "vcek",
) -> bytearray:
    """A report of 1184 bytes whose signature is still zero.

    Args:
        report_data: 64 bytes.
        launch: what to say of the guest.
        product: decides CPUID and the layout of TCB versions.
        chip_id: up to 64 bytes, padded with zeros.
        signing_key: written to the flags.

    Raises:
        ValueError: a field has the wrong length.
    """
    tcb = launch.tcb.serialise(product)
    report = bytearray(REPORT_SIZE)
    fields: tuple[tuple[int, int, bytes], ...] = (
        (0x000, 4, launch.version.to_bytes(4, "little")),
        (0x004, 4, launch.guest_svn.to_bytes(4, "little")),
        (0x008, 8, launch.policy.to_bytes(8, "little")),
        (0x030, 4, launch.vmpl.to_bytes(4, "little")),
        (0x034, 4, (1).to_bytes(4, "little")),
        (0x038, 8, tcb),
        (0x040, 8, launch.platform_info.to_bytes(8, "little")),
        (0x048, 4, (_SIGNING_KEY_FLAG[signing_key] << 2).to_bytes(4, "little")),
        (0x050, REPORT_DATA_SIZE, report_data),
        (0x090, 48, launch.measurement),
        (0x0C0, 32, launch.host_data),
        (0x0E0, 48, launch.id_key_digest),
        (0x140, 32, _report_id(launch)),
        (0x160, 32, launch.migration_agent),
        (0x180, 8, tcb),
        (0x188, 3, bytes(3) if launch.version == 2 else _CPUID[product]),  # noqa: PLR2004  version 2 has no CPUID
        (0x1A0, 64, chip_id.ljust(64, b"\x00")),
        (0x1E0, 8, tcb),
        (0x1E8, 4, _FIRMWARE),
        (0x1EC, 4, _FIRMWARE),
        (0x1F0, 8, tcb),
    )
    for offset, size, value in fields:
        if len(value) != size:
            raise ValueError(f"field at {offset:#x} takes {size} bytes, not {len(value)}")
        report[offset : offset + size] = value
    return report


def _report_id(launch: MockLaunch) -> bytes:
    """A stand-in for REPORT_ID: one value per launch, 32 bytes."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(launch.measurement + launch.host_data)
    return digest.finalize()


def sign(report: bytearray, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write the signature over the first 672 bytes: r and s little endian in 72 bytes each."""
    r, s = decode_dss_signature(key.sign(bytes(report[:SIGNED_SIZE]), ec.ECDSA(hashes.SHA384())))
    report[0x2A0:0x2E8] = r.to_bytes(72, "little")
    report[0x2E8:0x330] = s.to_bytes(72, "little")
    return bytes(report)

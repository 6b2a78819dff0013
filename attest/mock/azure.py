"""A software Azure confidential VM: paravisor report and vTPM quote over the mock vendor's SEV-SNP report.

It proves nothing about hardware. Everything has Azure's formats and goes through the production verifier; the
root is the mock vendor's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attest import strict_json
from attest.evidence.hcl import (
    ATTESTATION_KEY_ID,
    MAX_SIZE,
    TDREPORT_DATA_OFFSET,
    TDREPORT_SIZE,
    HardwareKind,
)
from attest.evidence.snp import REPORT_SIZE
from attest.evidence.tpm import PCR_COUNT, TpmQuote
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockVendor

IMAGE_PCR: Final = 11
"""Where a unified kernel image is measured (systemd-stub)."""

_KEY_BITS: Final = 2048
_REPORT_TYPES: Final[dict[HardwareKind, int]] = {"snp": 2, "tdx": 4}


def default_pcrs() -> tuple[bytes, ...]:
    """PCR 0 to 23 of a mock boot."""
    return tuple(hashlib.sha256(f"mock PCR {index}".encode()).digest() for index in range(PCR_COUNT))


@dataclass(frozen=True, slots=True, repr=False)
class MockAzureCvm:
    """One VM with its vTPM.

    Args:
        vendor: makes the hardware report.
        launch: what the hardware report says of the guest.
        pcrs: how the VM booted.
        secure_boot: what the paravisor says of it.
        key: the vTPM's attestation key.
    """

    vendor: MockVendor
    launch: MockLaunch = field(default_factory=MockLaunch)
    pcrs: tuple[bytes, ...] = field(default_factory=default_pcrs)
    secure_boot: bool = True
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, _KEY_BITS))

    def __repr__(self) -> str:
        return f"MockAzureCvm({self.vendor!r})"

    def runtime_claims(self) -> dict[str, Any]:
        """The paravisor's runtime claims."""
        numbers = self.key.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        jwk = {
            "kid": ATTESTATION_KEY_ID,
            "key_ops": ["sign"],
            "kty": "RSA",
            "e": strict_json.b64url_encode(numbers.e.to_bytes(3)),
            "n": strict_json.b64url_encode(modulus),
        }
        configuration = {
            "console-enabled": True,
            "secure-boot": self.secure_boot,
            "tpm-enabled": True,
            "vmUniqueId": "00000000-0000-4000-8000-000000000000",
        }
        return {"keys": [jwk], "vm-configuration": configuration, "user-data": "00" * 64}

    def hcl_report(
        self,
        claims: dict[str, Any] | None = None,
        *,
        report_data: bytes | None = None,
        kind: HardwareKind = "snp",
    ) -> bytes:
        """The paravisor's report, of the NV index's size.

        Args:
            claims: the runtime claims; default are the VM's.
            report_data: 64 bytes, if not the digest of the claims.
            kind: of the hardware.
        """
        runtime = json.dumps(self.runtime_claims() if claims is None else claims).encode()
        bound = report_data or hashlib.sha256(runtime).digest().ljust(64, b"\x00")
        if kind == "snp":
            area = self.vendor.report(bound, self.launch)
        else:
            area = (
                (bytes(TDREPORT_DATA_OFFSET) + bound)
                .ljust(TDREPORT_SIZE, b"\x00")
                .ljust(REPORT_SIZE, b"\x00")
            )
        return hcl_bytes(area, runtime, report_type=_REPORT_TYPES[kind])

    def quote(
        self,
        nonce: bytes,
        selected: tuple[int, ...] = tuple(range(PCR_COUNT)),
        *,
        key: rsa.RSAPrivateKey | None = None,
    ) -> TpmQuote:
        """A quote over PCRs.

        Args:
            nonce: at most 64 bytes.
            selected: indexes, ascending.
            key: signs, if not the vTPM's.
        """
        digest = hashlib.sha256(b"".join(self.pcrs[index] for index in selected)).digest()
        message = quote_message(nonce, sum(1 << index for index in selected), digest)
        signature = (key or self.key).sign(message, padding.PKCS1v15(), hashes.SHA256())
        return TpmQuote(message, signature, self.pcrs)


def hcl_bytes(area: bytes, runtime: bytes, *, report_type: int) -> bytes:
    """An HCL report around a hardware report."""
    data_size = 20 + len(runtime)
    header = b"HCLA" + b"".join(
        value.to_bytes(4, "little") for value in (2, 0x20 + REPORT_SIZE + data_size, 2)
    )
    data_header = b"".join(
        value.to_bytes(4, "little") for value in (data_size, 1, report_type, 1, len(runtime))
    )
    return (header.ljust(0x20, b"\x00") + area + data_header + runtime).ljust(MAX_SIZE, b"\x00")


def quote_message(nonce: bytes, bitmap: int, digest: bytes) -> bytes:
    """A TPMS_ATTEST of a quote over one bank of SHA-256 PCRs."""
    signer = b"\x00\x0b" + bytes(32)
    return b"".join(
        (
            bytes.fromhex("ff5443478018"),
            len(signer).to_bytes(2) + signer,
            len(nonce).to_bytes(2) + nonce,
            (1000).to_bytes(8) + (3).to_bytes(4) + (0).to_bytes(4) + b"\x01",
            bytes.fromhex("2020031200120003"),
            (1).to_bytes(4) + bytes.fromhex("000b03") + bitmap.to_bytes(3, "little"),
            len(digest).to_bytes(2) + digest,
        )
    )

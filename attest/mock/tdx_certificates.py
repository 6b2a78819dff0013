"""Certificates and revocation lists in Intel's form, signed by keys that are not Intel's.

Same names, algorithms and extensions as the real ones (Intel, "SGX PCK Certificate and CRL Profile"), except
for the organisation, so that the production verifier, and the second one, run on them unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest.evidence.pck import SGX_EXTENSION

ORGANISATION: Final = "Sealgate MOCK vendor - not hardware"
CA_LIFETIME: Final = timedelta(days=25 * 365)
LEAF_LIFETIME: Final = timedelta(days=7 * 365)
LIST_LIFETIME: Final = timedelta(days=30)
BACKDATE: Final = timedelta(days=1)  # for a verifier whose clock is a little behind

ROOT_NAME: Final = "Intel SGX Root CA"
AUTHORITY_NAME: Final = "Intel SGX PCK Platform CA"
PCK_NAME: Final = "Intel SGX PCK Certificate"
SIGNER_NAME: Final = "Intel SGX TCB Signing"

_CRL_ADDRESS: Final = "https://mock.invalid/list"  # never followed; RFC 2606 keeps it from resolving
_SGX: Final = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1


@dataclass(frozen=True, slots=True, repr=False)
class Party:
    """Somebody with a name and a P-256 key."""

    common_name: str
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Party({self.common_name})"


@dataclass(frozen=True, slots=True)
class MockPlatform:
    """What the mock's PCK certificate says of the platform.

    Args:
        fmspc: 6 bytes.
        pceid: 2 bytes.
        components: sixteen security versions.
        pcesvn: of the provisioning enclave.
    """

    fmspc: bytes = bytes.fromhex("5ea190c0ffee")
    pceid: bytes = bytes(2)
    components: tuple[int, ...] = (3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
    pcesvn: int = 13


def name(common_name: str) -> x509.Name:
    """A distinguished name in Intel's order, with the mock's organisation."""
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(x509.NameOID.LOCALITY_NAME, "Santa Clara"),
            x509.NameAttribute(x509.NameOID.STATE_OR_PROVINCE_NAME, "CA"),
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "US"),
        ]
    )


def certificate(
    subject: Party,
    issuer: Party,
    *,
    serial: int,
    issued_at: datetime,
    path_length: int | None = None,
    is_authority: bool = False,
    sgx: bytes | None = None,
) -> x509.Certificate:
    """One certificate.

    Args:
        subject: whose.
        issuer: who signs.
        serial: its number.
        issued_at: aware; dated a day back.
        path_length: of an authority.
        is_authority: root or PCK authority.
        sgx: Intel's extension, for a PCK certificate.
    """
    lifetime = CA_LIFETIME if is_authority else LEAF_LIFETIME
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(_CRL_ADDRESS)], None, None, None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject.common_name))
        .issuer_name(name(issuer.common_name))
        .public_key(subject.key.public_key())
        .serial_number(serial)
        .not_valid_before(issued_at - BACKDATE)
        .not_valid_after(issued_at - BACKDATE + lifetime)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject.key.public_key()), critical=False)
        .add_extension(_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=path_length), critical=True)
    )
    if sgx is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(SGX_EXTENSION, sgx), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def revocation_list(issuer: Party, revoked_serials: Iterable[int], *, issued_at: datetime) -> bytes:
    """A DER revocation list for thirty days."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer.common_name))
        .last_update(issued_at - BACKDATE)
        .next_update(issued_at - BACKDATE + LIST_LIFETIME)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for serial in revoked_serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued_at - BACKDATE)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def sgx_extension(platform: MockPlatform) -> bytes:
    """The value of Intel's extension for a platform."""
    cpusvn = bytes(platform.components)
    numbers = [*enumerate(platform.components, 1), (17, platform.pcesvn)]
    tcb = [_pair(bytes([2, number]), _integer(value)) for number, value in numbers]
    tcb.append(_pair(bytes([2, 18]), der(0x04, cpusvn)))
    configuration = [_pair(bytes([7, number]), der(0x01, b"\xff")) for number in (1, 2, 3)]
    entries = (
        _pair(b"\x01", der(0x04, bytes(16))),
        _pair(b"\x02", der(0x30, b"".join(tcb))),
        _pair(b"\x03", der(0x04, platform.pceid)),
        _pair(b"\x04", der(0x04, platform.fmspc)),
        _pair(b"\x05", der(0x0A, b"\x01")),
        _pair(b"\x06", der(0x04, bytes(16))),
        _pair(b"\x07", der(0x30, b"".join(configuration))),
    )
    return der(0x30, b"".join(entries))


def der(tag: int, body: bytes) -> bytes:
    """One DER element, its length in the shortest form."""
    if len(body) <= 0x7F:  # noqa: PLR2004  X.690 section 8.1.3: the short form ends here
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _pair(suffix: bytes, value: bytes) -> bytes:
    return der(0x30, der(0x06, _SGX + suffix) + value)


def _integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=not is_authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )

"""Certificates and revocation lists in AMD's form (AMD 57230), signed by keys that are not AMD's.

Same names, algorithms and extensions as the real chain, except for the organisation, so that the
production verifier runs on them unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attest.evidence.snp_tcb import Product, TcbVersion

ORGANISATION: Final = "Sealgate MOCK vendor - not hardware"
CA_LIFETIME: Final = timedelta(days=25 * 365)
LEAF_LIFETIME: Final = timedelta(days=7 * 365)
CRL_LIFETIME: Final = timedelta(days=30)
# Everything is dated back, so that a verifier whose clock is a little behind accepts a new chain.
BACKDATE: Final = timedelta(days=1)

ARK_SERIAL: Final = 0x20000
ASK_SERIAL: Final = 0x20002
VCEK_SERIAL: Final = 0x5EA1

_AMD: Final = "1.3.6.1.4.1.3704.1"
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


@dataclass(frozen=True, slots=True, repr=False)
class Issuer:
    """A certificate authority: its name and its key."""

    common_name: str
    key: rsa.RSAPrivateKey

    def __repr__(self) -> str:
        return f"Issuer({self.common_name})"


def name(common_name: str) -> x509.Name:
    """A distinguished name in AMD's order, with the mock's organisation."""
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )


def authority(
    subject: Issuer, issuer: Issuer, *, serial: int, issued_at: datetime, path_length: int | None
) -> x509.Certificate:
    """A CA certificate: the ARK over itself (``path_length`` None) or an ASK or ASVK under it (0)."""
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=path_length is None,
        encipher_only=False,
        decipher_only=False,
    )
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject.common_name))
        .issuer_name(name(issuer.common_name))
        .public_key(subject.key.public_key())
        .serial_number(serial)
        .not_valid_before(issued_at - BACKDATE)
        .not_valid_after(issued_at - BACKDATE + CA_LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject.key.public_key()), critical=False)
        .add_extension(issuer_key_id, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer.key, hashes.SHA384(), rsa_padding=_PSS)
    )


def leaf(
    public_key: ec.EllipticCurvePublicKey,
    issuer: Issuer,
    extensions: dict[str, bytes],
    *,
    common_name: str,
    issued_at: datetime,
    serial: int = VCEK_SERIAL,
) -> x509.Certificate:
    """A VCEK or VLEK certificate with the given AMD extensions (see ``vcek_extensions``)."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(name(issuer.common_name))
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(issued_at - BACKDATE)
        .not_valid_after(issued_at - BACKDATE + LEAF_LIFETIME)
    )
    for suffix, value in extensions.items():
        oid = x509.ObjectIdentifier(f"{_AMD}.{suffix}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return builder.sign(issuer.key, hashes.SHA384(), rsa_padding=_PSS)


def vcek_extensions(product: Product, tcb: TcbVersion, chip_id: bytes) -> dict[str, bytes]:
    """AMD's extensions of a VCEK, by the last part of their identifier.

    Args:
        product: decides structure version, stepping and the presence of an FMC number.
        tcb: the version the key stands for.
        chip_id: 64 bytes (Milan, Genoa) or 8 bytes (Turin), written raw as the key service does today.
    """
    turin = product == "Turin"
    names: dict[Product, str] = {"Milan": "Milan-B0", "Genoa": "Genoa", "Turin": "Turin"}
    extensions = {"1": integer(int(turin)), "2": ia5_string(names[product])}
    if turin:
        extensions["3.9"] = integer(tcb.fmc)
    extensions |= {"3.1": integer(tcb.boot_loader), "3.2": integer(tcb.tee)}
    if not turin:
        extensions["3.4"] = integer(0)
    extensions |= {"3.5": integer(0), "3.6": integer(0), "3.7": integer(0)}
    extensions |= {"3.3": integer(tcb.snp), "3.8": integer(tcb.microcode), "4": chip_id}
    return extensions


def revocation_list(
    issuer: Issuer, revoked_serials: Iterable[int], *, issued_at: datetime, lifetime: timedelta = CRL_LIFETIME
) -> bytes:
    """A DER revocation list as the root signs it."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer.common_name))
        .last_update(issued_at - BACKDATE)
        .next_update(issued_at - BACKDATE + lifetime)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for serial in revoked_serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued_at - BACKDATE)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)


def integer(value: int) -> bytes:
    """DER INTEGER of 0 to 255."""
    body = value.to_bytes(1 if value < 128 else 2, "big")  # noqa: PLR2004  X.690 8.3: the first bit is the sign
    return bytes([0x02, len(body)]) + body


def ia5_string(text: str) -> bytes:
    """DER IA5String of at most 127 characters."""
    return bytes([0x16, len(text)]) + text.encode("ascii")

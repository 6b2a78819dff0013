"""Certificates and OCSP responses in NVIDIA's form, signed by keys that are not NVIDIA's.

Same names of chips, algorithms and extensions as the real hierarchies, except for the organisation, so that
the production verifier runs on them unchanged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from attest.evidence.gpu import Architecture
from attest.evidence.gpu_leaf import DICE_FWID_OID, DICE_TCB_INFO_OID
from attest.mock.snp_certificates import BACKDATE, ORGANISATION

LIFETIME: Final = timedelta(days=25 * 365)
OCSP_LIFETIME: Final = timedelta(days=1)

_CURVE: Final = ec.SECP384R1()
_ORDER_BITS: Final = 384
_FWID_HEAD: Final = bytes.fromhex("303d06096086480165030402020430")
_UNCOMPRESSED_P384: Final = bytes.fromhex("301006072a8648ce3d020106052b81040022036200")
LEAF_NAMES: Final[dict[Architecture, str]] = {
    "HOPPER": "GH100 A01 GSP FMC LF",
    "BLACKWELL": "GB100 A01 GSP FMC LF",
    "LS10": "LS_10 A01 FSP FMC LF",
}


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """A name, a key, and the certificate that goes with them.

    Args:
        key: P-384.
        certificate: issued by the authority above, or by itself.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()})"

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)


def derived_key(seed: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    """A P-384 key that is a function of ``seed`` and ``name``. For a mock only."""
    wide = b"".join(hashlib.sha384(bytes([part]) + seed + name.encode()).digest() for part in (0, 1))
    order = (1 << _ORDER_BITS) - (1 << 190)  # below the curve's order: any value under it is a key
    return ec.derive_private_key(int.from_bytes(wide, "big") % (order - 1) + 1, _CURVE)


def authority(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: Authority | None, *, issued_at: datetime
) -> Authority:
    """A certificate authority under ``issuer``, or a root."""
    builder = _builder(name, key.public_key(), issuer, issued_at=issued_at)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    return Authority(key, _signed(builder, issuer.key if issuer else key))


def signer(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: Authority, *, issued_at: datetime
) -> Authority:
    """The signer of golden values."""
    builder = _builder(name, key.public_key(), issuer, issued_at=issued_at)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    return Authority(key, _signed(builder, issuer.key))


def leaf(
    arch: Architecture,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority,
    *,
    fwid: bytes,
    issued_at: datetime,
    common_name: str = "",
) -> Authority:
    """A device's own certificate, with the DICE extension of its architecture."""
    builder = _builder(common_name or LEAF_NAMES[arch], key.public_key(), issuer, issued_at=issued_at)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    builder = builder.add_extension(_dice(arch, key.public_key(), fwid), critical=False)
    return Authority(key, _signed(builder, issuer.key))


def ocsp_answer(
    about: x509.Certificate,
    issuer: Authority,
    *,
    issued_at: datetime,
    status: Literal["good", "revoked", "unknown"] = "good",
    responder_key: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """A DER response of a responder that ``issuer`` appoints for it."""
    key = responder_key or ec.generate_private_key(_CURVE)
    builder = _builder("Sealgate MOCK OCSP responder", key.public_key(), issuer, issued_at=issued_at)
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    builder = builder.add_extension(_usage(authority=False), critical=True)
    responder = _signed(builder.add_extension(purpose, critical=True), issuer.key)
    revoked = status == "revoked"
    statuses = {
        "good": ocsp.OCSPCertStatus.GOOD,
        "revoked": ocsp.OCSPCertStatus.REVOKED,
        "unknown": ocsp.OCSPCertStatus.UNKNOWN,
    }
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=about,
            issuer=issuer.certificate,
            algorithm=hashes.SHA384(),
            cert_status=statuses[status],
            this_update=issued_at - timedelta(minutes=5),
            next_update=issued_at - timedelta(minutes=5) + OCSP_LIFETIME,
            revocation_time=issued_at - BACKDATE if revoked else None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
        .certificates([responder])
    )
    return response.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, issuer: Authority | None, *, issued_at: datetime
) -> x509.CertificateBuilder:
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    serial = int.from_bytes(hashlib.sha256(name.encode() + public).digest()[:16], "big") | 1
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.certificate.subject if issuer else _name(name))
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(issued_at - BACKDATE)
        .not_valid_after(issued_at - BACKDATE + LIFETIME)
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Deterministic, so that a vendor made again from its seed has the very same root."""
    return builder.sign(key, hashes.SHA384(), ecdsa_deterministic=True)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _dice(arch: Architecture, key: ec.EllipticCurvePublicKey, fwid: bytes) -> x509.UnrecognizedExtension:
    digest = _FWID_HEAD + fwid
    if arch == "BLACKWELL":
        fwids = _tlv(0xA6, digest + _FWID_HEAD + bytes(48))
        value, oid = _tlv(0x30, _tlv(0x80, b"NVIDIA") + _tlv(0x81, b"GB100") + fwids), DICE_TCB_INFO_OID
    else:
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        value = _tlv(0x30, _tlv(0x02, b"\x01") + _tlv(0x30, _UNCOMPRESSED_P384 + point) + digest)
        oid = DICE_FWID_OID
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag, size] if size < 128 else [tag, 0x81, size]) + content  # noqa: PLR2004  X.690 8.1.3

"""The little of X.509 that attestation chains use, checked strictly (RFC 5280, RFC 4055).

Vendor chains are not Web PKI: no names to match, no path to build, one algorithm. So each step is written
out: exact issuer, exact algorithm, signature, validity at the caller's time, revocation. Addresses inside
certificates (AIA, CRL distribution points) are never followed.
"""

from __future__ import annotations

import warnings
from datetime import datetime
from itertools import product
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attest.refusal import Malformed, Refused

MAX_CERTIFICATE_BYTES: Final = 8 * 1024  # AMD's are below 1.7 kB
MAX_CRL_BYTES: Final = 256 * 1024

# The library warns where it tolerates: AMD's key service numbers every VCEK and VLEK 0, and an attacker may
# write anything. What is tolerated is judged by the checks below, and a log line per forgery is a gift.
warnings.filterwarnings("ignore", module=r"attest\.verify\.x509\Z")

_RSA_BITS: Final = 4096
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
)


def _spellings_of_pss() -> tuple[bytes, ...]:
    """Every DER spelling of RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt of 48 bytes.

    RFC 4055 section 2.1 lets a hash's NULL parameters be left out, and AMD writes the trailer field although
    it is the default. A signer's choice among these is signed; nothing else is the algorithm.
    """

    def sequence(tag: int, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return bytes([tag, len(body)]) + body

    oid_sha384 = bytes.fromhex("0609608648016503040202")
    oid_mgf1 = bytes.fromhex("06092a864886f70d010108")
    oid_pss = bytes.fromhex("06092a864886f70d01010a")
    salt = bytes.fromhex("a203020130")
    null = bytes.fromhex("0500")
    trailer = bytes.fromhex("a303020101")
    return tuple(
        sequence(
            0x30,
            oid_pss,
            sequence(
                0x30,
                sequence(0xA0, sequence(0x30, oid_sha384, hash_null)),
                sequence(0xA1, sequence(0x30, oid_mgf1, sequence(0x30, oid_sha384, mask_null))),
                salt,
                end,
            ),
        )
        for hash_null, mask_null, end in product((null, b""), (null, b""), (b"", trailer))
    )


_BIT_STRING_512: Final = bytes.fromhex("0382020100")  # tag, length 513, no unused bits
_SIGNED_TAILS: Final = tuple(spelling + _BIT_STRING_512 for spelling in _spellings_of_pss())


def load_certificate(der: bytes, *, role: str) -> x509.Certificate:
    """Read one DER certificate.

    Args:
        der: the bytes; nothing may follow the certificate.
        role: for the refusal's text, e.g. ``"VCEK"``.

    Raises:
        Malformed: ``certificate-malformed``.
    """
    if not 0 < len(der) <= MAX_CERTIFICATE_BYTES:
        raise Malformed("certificate-malformed", f"{role}: {len(der)} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
    except _UNREADABLE as error:
        raise Malformed("certificate-malformed", role, clause="RFC 5280") from error
    return certificate


def common_name(name: x509.Name, *, role: str) -> str:
    """The one common name of a distinguished name.

    Raises:
        Malformed: ``certificate-malformed`` if there is none, or more than one.
    """
    names = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise Malformed("certificate-malformed", f"{role}: {len(names)} common names")
    return names[0].value


def verify_issued(certificate: x509.Certificate, der: bytes, issuer: x509.Certificate, *, role: str) -> None:
    """Require that ``issuer``, a certificate authority, signed ``certificate``.

    Args:
        certificate: the parsed certificate.
        der: the bytes it was parsed from.
        issuer: already trusted, or to be judged by the caller next.
        role: for the refusal's text.

    Raises:
        Refused: ``certificate-issuer``, ``certificate-authority``, ``certificate-key``,
            ``certificate-algorithm``, ``certificate-signature``, ``certificate-critical-extension``.
    """
    if certificate.issuer != issuer.subject:
        raise Refused(
            "certificate-issuer",
            "RFC 5280 section 6.1.3",
            expected=issuer.subject.rfc4514_string(),
            got=f"{role} issued by {certificate.issuer.rfc4514_string()}",
        )
    _require_authority(issuer)
    _require_known_critical_extensions(certificate.extensions, "certificate-critical-extension", role)
    _verify_pss(
        der, certificate.tbs_certificate_bytes, certificate.signature, issuer, prefix="certificate", role=role
    )


def require_current(certificate: x509.Certificate, now: datetime, *, role: str) -> datetime:
    """Require that the certificate is valid at ``now`` (aware); returns the moment it ends.

    Raises:
        Refused: ``certificate-not-yet-valid`` or ``certificate-expired``.
    """
    _require_window(
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        now,
        prefix="certificate",
        role=role,
    )
    return certificate.not_valid_after_utc


def verify_crl(der: bytes, issuer: x509.Certificate, now: datetime) -> x509.CertificateRevocationList:
    """Read a revocation list and require that ``issuer`` signed it and that it is current at ``now``.

    Raises:
        Malformed: ``crl-malformed``.
        Refused: ``crl-issuer``, ``crl-algorithm``, ``crl-signature``, ``crl-critical-extension``,
            ``crl-not-yet-valid``, ``crl-expired``.
    """
    if not 0 < len(der) <= MAX_CRL_BYTES:
        raise Malformed("crl-malformed", f"{len(der)} bytes")
    try:
        crl = x509.load_der_x509_crl(der)
        extensions, next_update = crl.extensions, crl.next_update_utc
        last_update, crl_issuer = crl.last_update_utc, crl.issuer
    except _UNREADABLE as error:
        raise Malformed("crl-malformed", clause="RFC 5280 section 5") from error
    if next_update is None:
        raise Malformed("crl-malformed", "no nextUpdate: the list would never end", clause="RFC 5280 5.1.2.5")
    if crl_issuer != issuer.subject:
        raise Refused(
            "crl-issuer",
            "AMD 57230: the list is signed by the ARK",
            expected=issuer.subject.rfc4514_string(),
            got=crl_issuer.rfc4514_string(),
        )
    # A critical extension narrows what the list says (a delta, one distribution point): silence in such a
    # list is no proof.
    _require_known_critical_extensions(extensions, "crl-critical-extension", "revocation list", known=())
    _verify_pss(der, crl.tbs_certlist_bytes, crl.signature, issuer, prefix="crl", role="revocation list")
    _require_window(last_update, next_update, now, prefix="crl", role="revocation list")
    return crl


def require_not_revoked(
    certificate: x509.Certificate, crl: x509.CertificateRevocationList, *, role: str
) -> None:
    """Require that the list does not name the certificate's serial number, whoever issued it.

    Stricter than RFC 5280, which would first ask whether the entry speaks of the same issuer: a root that
    lists a number of its family means it.

    Raises:
        Refused: ``certificate-revoked``.
        Malformed: ``crl-malformed`` if an entry cannot be read.
    """
    try:
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    except _UNREADABLE as error:
        raise Malformed("crl-malformed", "unreadable entry") from error
    if entry is not None:
        raise Refused(
            "certificate-revoked",
            "RFC 5280 section 6.3",
            expected="not on the revocation list",
            got=f"{role} with serial number {certificate.serial_number:#x}",
        )


def _require_authority(issuer: x509.Certificate) -> None:
    if not _is_authority(issuer):
        raise Refused(
            "certificate-authority",
            "RFC 5280 sections 4.2.1.3 and 4.2.1.9",
            expected="a certificate authority",
            got=issuer.subject.rfc4514_string(),
        )


def _is_authority(issuer: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def _require_known_critical_extensions(
    extensions: x509.Extensions,
    code: str,
    role: str,
    *,
    known: tuple[x509.ObjectIdentifier, ...] = (x509.OID_BASIC_CONSTRAINTS, x509.OID_KEY_USAGE),
) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in known:
            raise Refused(
                code,
                "RFC 5280 section 4.2",
                expected="no unknown critical extension",
                got=f"{extension.oid.dotted_string} in the {role}",
            )


def _verify_pss(
    der: bytes, signed: bytes, signature: bytes, issuer: x509.Certificate, *, prefix: str, role: str
) -> None:
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != _RSA_BITS:
        raise Refused(
            f"{prefix}-key", "AMD 57230", expected="RSA-4096", got=f"issuer {issuer.subject.rfc4514_string()}"
        )
    if not _tail(der, signed).endswith(signature) or not _is_pss_tail(_tail(der, signed)):
        raise Refused(
            f"{prefix}-algorithm",
            "AMD 57230, RFC 4055",
            expected="RSASSA-PSS, SHA-384, MGF1-SHA-384, salt 48",
            got=f"another algorithm on the {role}",
        )
    try:
        key.verify(signature, signed, _PSS, hashes.SHA384())
    except InvalidSignature as error:
        raise Refused(
            f"{prefix}-signature",
            "RFC 8017 section 8.1.2",
            expected=f"{role} signed by {issuer.subject.rfc4514_string()}",
            got="a signature that does not verify",
        ) from error


def _tail(der: bytes, signed: bytes) -> bytes:
    """What follows the signed part: algorithm and signature."""
    length_bytes = der[1] & 0x7F if der[1] & 0x80 else 0
    return der[2 + length_bytes + len(signed) :]


def _is_pss_tail(tail: bytes) -> bool:
    return any(tail.startswith(start) and len(tail) == len(start) + _RSA_BITS // 8 for start in _SIGNED_TAILS)


def _require_window(start: datetime, end: datetime, now: datetime, *, prefix: str, role: str) -> None:
    if now.tzinfo is None:
        raise ValueError("the time of verification must carry its zone")
    if start <= now <= end:
        return
    raise Refused(
        f"{prefix}-not-yet-valid" if now < start else f"{prefix}-expired",
        "RFC 5280 section 4.1.2.5",
        expected=f"{role} valid {start:%Y-%m-%dT%H:%M:%SZ} to {end:%Y-%m-%dT%H:%M:%SZ}",
        got=now.isoformat(),
    )

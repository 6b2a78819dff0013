"""The little of X.509 that attestation chains use, checked strictly (RFC 5280, RFC 4055).

Vendor chains are not Web PKI: no names to match, no path to build, one algorithm. So each step is written
out: exact issuer, exact algorithm, signature, validity at the caller's time, revocation. Addresses inside
certificates (AIA, CRL distribution points) are never followed.
"""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attest.refusal import Malformed, Refused
from attest.verify.rsa_pss import verify_pss

MAX_CERTIFICATE_BYTES: Final = 8 * 1024  # AMD's are below 1.7 kB
MAX_SHOWN: Final = 200

# The library warns where it tolerates: AMD's key service numbers every VCEK and VLEK 0, and an attacker may
# write anything. What is tolerated is judged by the checks below, and a log line per forgery is a gift.
warnings.filterwarnings("ignore", module=r"attest\.verify\.x509\Z")

# What the library raises on bytes that are no certificate or list.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_KNOWN_CRITICAL: Final = (x509.OID_BASIC_CONSTRAINTS, x509.OID_KEY_USAGE)


class SignatureScheme(Protocol):
    """The one signature algorithm of a vendor's chain: ``verify_pss`` is AMD's, ``verify_p256`` Intel's."""

    def __call__(
        self, der: bytes, signed: bytes, signature: bytes, issuer: x509.Certificate, *, prefix: str, role: str
    ) -> None:
        """Require that ``issuer`` signed; refuses with ``{prefix}-key``, ``-algorithm`` or ``-signature``."""
        ...


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
    except UNREADABLE as error:
        raise Malformed("certificate-malformed", role, clause="RFC 5280") from error
    return certificate


def common_name(name: x509.Name, *, role: str) -> str:
    """The one common name of a distinguished name.

    Raises:
        Malformed: ``certificate-malformed`` if there is none, or more than one, or it is not printable.
    """
    names = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if len(names) != 1:
        raise Malformed("certificate-malformed", f"{role}: {len(names)} common names")
    value = names[0].value
    if not isinstance(value, str) or not value.isprintable():
        raise Malformed("certificate-malformed", f"{role}: a common name that cannot be shown")
    return value


def verify_issued(
    certificate: x509.Certificate,
    der: bytes,
    issuer: x509.Certificate,
    *,
    role: str,
    scheme: SignatureScheme = verify_pss,
    understood: tuple[x509.ObjectIdentifier, ...] = (),
) -> None:
    """Require that ``issuer``, a certificate authority, signed ``certificate``.

    Args:
        certificate: the parsed certificate.
        der: the bytes it was parsed from.
        issuer: already trusted, or to be judged by the caller next.
        role: for the refusal's text.
        scheme: the vendor's signature algorithm.
        understood: extensions that the caller has judged, so that they may be critical.

    Raises:
        Refused: ``certificate-issuer``, ``certificate-authority``, ``certificate-key``,
            ``certificate-algorithm``, ``certificate-signature``, ``certificate-critical-extension``.
    """
    if certificate.issuer != issuer.subject:
        raise Refused(
            "certificate-issuer",
            "RFC 5280 section 6.1.3",
            expected=shown(issuer.subject),
            got=f"{role} issued by {shown(certificate.issuer)}",
        )
    _require_authority(issuer)
    _require_known_critical_extensions(certificate, role, (*_KNOWN_CRITICAL, *understood))
    scheme(
        der, certificate.tbs_certificate_bytes, certificate.signature, issuer, prefix="certificate", role=role
    )


def require_current(certificate: x509.Certificate, now: datetime, *, role: str) -> datetime:
    """Require that the certificate is valid at ``now`` (aware); returns the moment it ends.

    Raises:
        Refused: ``certificate-not-yet-valid`` or ``certificate-expired``.
    """
    require_window(
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        now,
        prefix="certificate",
        role=role,
    )
    return certificate.not_valid_after_utc


def require_window(start: datetime, end: datetime, now: datetime, *, prefix: str, role: str) -> None:
    """Require ``start <= now <= end``; all aware.

    Raises:
        Refused: ``{prefix}-not-yet-valid`` or ``{prefix}-expired``.
        ValueError: ``now`` has no zone.
    """
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


def shown(name: x509.Name) -> str:
    """A distinguished name for a person's terminal: bounded, and printable whatever an attacker wrote."""
    text = name.rfc4514_string()[:MAX_SHOWN]
    return "".join(character if character.isprintable() else "?" for character in text)


def _require_authority(issuer: x509.Certificate) -> None:
    if not _is_authority(issuer):
        raise Refused(
            "certificate-authority",
            "RFC 5280 sections 4.2.1.3 and 4.2.1.9",
            expected="a certificate authority",
            got=shown(issuer.subject),
        )


def _is_authority(issuer: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def _require_known_critical_extensions(
    certificate: x509.Certificate, role: str, known: tuple[x509.ObjectIdentifier, ...]
) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in known:
            raise Refused(
                "certificate-critical-extension",
                "RFC 5280 section 4.2",
                expected="no unknown critical extension",
                got=f"{extension.oid.dotted_string} in the {role}",
            )

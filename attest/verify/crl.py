"""Revocation lists (RFC 5280 section 5) as the vendors' authorities sign them."""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import Final

from cryptography import x509

from attest.refusal import Malformed, Refused
from attest.verify.rsa_pss import verify_pss
from attest.verify.x509 import UNREADABLE, SignatureScheme, require_window, shown

MAX_CRL_BYTES: Final = 256 * 1024

warnings.filterwarnings("ignore", module=r"attest\.verify\.crl\Z")  # as in attest.verify.x509


def verify_crl(
    der: bytes, issuer: x509.Certificate, now: datetime, *, scheme: SignatureScheme = verify_pss
) -> x509.CertificateRevocationList:
    """Read a revocation list and require that ``issuer`` signed it and that it is current at ``now``.

    Args:
        der: the bytes.
        issuer: the authority whose list it must be.
        now: time of verification, aware.
        scheme: the vendor's signature algorithm.

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
    except UNREADABLE as error:
        raise Malformed("crl-malformed", clause="RFC 5280 section 5") from error
    if next_update is None:
        raise Malformed("crl-malformed", "no nextUpdate: the list would never end", clause="RFC 5280 5.1.2.5")
    if crl_issuer != issuer.subject:
        raise Refused(
            "crl-issuer",
            "RFC 5280 section 6.3.3: the list is the issuer's own",
            expected=shown(issuer.subject),
            got=shown(crl_issuer),
        )
    _require_whole(extensions)
    scheme(der, crl.tbs_certlist_bytes, crl.signature, issuer, prefix="crl", role="revocation list")
    require_window(last_update, next_update, now, prefix="crl", role="revocation list")
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
    except UNREADABLE as error:
        raise Malformed("crl-malformed", "unreadable entry") from error
    if entry is not None:
        raise Refused(
            "certificate-revoked",
            "RFC 5280 section 6.3",
            expected="not on the revocation list",
            got=f"{role} with serial number {certificate.serial_number:#x}",
        )


def _require_whole(extensions: x509.Extensions) -> None:
    """Silence in a list that is narrowed (a delta, one distribution point) is no proof."""
    for extension in extensions:
        if extension.critical:
            raise Refused(
                "crl-critical-extension",
                "RFC 5280 section 5.2",
                expected="no critical extension",
                got=extension.oid.dotted_string,
            )

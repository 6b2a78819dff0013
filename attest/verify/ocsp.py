"""Revocation answers (RFC 6960) as NVIDIA's responders give them: one certificate each, good for a day.

An answer is signed by a responder that the certificate's own issuer appointed. Answers are data that came
along; nobody is asked here, and addresses in certificates are never followed.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from attest.evidence.gpu import MAX_OCSP_BYTES
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.p384 import key_of, require_der_signature, verify_p384
from attest.verify.x509 import (
    UNREADABLE,
    load_certificate,
    require_current,
    require_window,
    shown,
    verify_issued,
)

_CLAUSE: Final = "RFC 6960 section 4.2"
_HASHES: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha384": hashlib.sha384}

warnings.filterwarnings("ignore", module=r"attest\.verify\.ocsp\Z")  # as in attest.verify.x509


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and the one that signed it, both proved already.

    Args:
        certificate: whose revocation is in question.
        issuer: whose responder may answer.
        role: for a person.
    """

    certificate: x509.Certificate
    issuer: x509.Certificate
    role: str


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """One response, read and not verified yet.

    Args:
        der: the bytes.
        response: as the library reads it.
        responder: DER of the one certificate in it.
    """

    der: bytes
    response: ocsp.OCSPResponse
    responder: bytes

    @classmethod
    def parse(cls, der: bytes) -> OcspAnswer:
        """Read a response with one answer and one responder's certificate.

        Raises:
            Malformed: ``ocsp-malformed``.
            Unsupported: ``ocsp-unsuccessful``.
        """
        return _parsed(der)

    def speaks_of(self, issued: Issued) -> bool:
        """Whether the answer is about a certificate: same serial number, and same issuer by name and key."""
        algorithm = _HASHES.get(self.response.hash_algorithm.name)
        if algorithm is None or self.response.serial_number != issued.certificate.serial_number:
            return False
        name = algorithm(issued.issuer.subject.public_bytes()).digest()
        key = algorithm(_key_bits(issued.issuer)).digest()
        return (self.response.issuer_name_hash, self.response.issuer_key_hash) == (name, key)


# A pure function of the bytes: the devices of a board share their authorities' answers.
@lru_cache(maxsize=128)
def _parsed(der: bytes) -> OcspAnswer:
    if not 0 < len(der) <= MAX_OCSP_BYTES:
        raise Malformed("ocsp-malformed", f"{len(der)} bytes", clause=_CLAUSE)
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Unsupported(
                "ocsp-unsuccessful", _CLAUSE, expected="an answer", got=response.response_status.name
            )
        _ = response.serial_number, response.hash_algorithm, response.next_update_utc, response.extensions
        _ = response.certificate_status, response.single_extensions, response.signature_algorithm_oid
        responders = [each.public_bytes(Encoding.DER) for each in response.certificates]
    except UNREADABLE as error:
        raise Malformed("ocsp-malformed", clause=_CLAUSE) from error
    if len(responders) != 1:
        raise Malformed("ocsp-malformed", f"{len(responders)} certificates", clause=_CLAUSE)
    return OcspAnswer(der, response, responders[0])


def require_good(answer: OcspAnswer, issued: Issued, now: datetime) -> datetime:
    """Require that an answer about ``issued`` is genuine, current and "good"; returns when it ends.

    Raises:
        Refused: ``ocsp-responder``, ``ocsp-algorithm``, ``ocsp-signature``, ``ocsp-not-yet-valid``,
            ``ocsp-expired``, ``ocsp-critical-extension``, ``ocsp-unknown``, ``certificate-*``.
        Malformed: ``ocsp-malformed``.
    """
    response, role = answer.response, f"OCSP responder for the {issued.role}"
    responder = _proved_responder(answer.der, issued.issuer.public_bytes(Encoding.DER), role)
    responder_end = require_current(responder, now, role=role)
    if response.next_update_utc is None:
        raise Malformed("ocsp-malformed", "no nextUpdate: the answer would never end", clause=_CLAUSE)
    require_window(
        response.this_update_utc,
        response.next_update_utc,
        now,
        prefix="ocsp",
        role=f"answer on {issued.role}",
    )
    _require_status(response, issued)
    return min(response.next_update_utc, responder_end)


# Successes only are kept, and the result is a pure function of the bytes: the devices of a board share most
# answers. Dates and status are judged at every use. Bounded, since the bytes may be an attacker's.
@lru_cache(maxsize=256)
def _proved_responder(der: bytes, issuer_der: bytes, role: str) -> x509.Certificate:
    """The responder's certificate, if ``issuer_der`` appointed it and it signed the answer."""
    answer = OcspAnswer.parse(der)
    responder = load_certificate(answer.responder, role=role)
    _require_purpose(responder)
    verify_issued(
        responder,
        answer.responder,
        load_certificate(issuer_der, role="issuer"),
        role=role,
        scheme=verify_p384,
        understood=(x509.OID_EXTENDED_KEY_USAGE,),
    )
    _verify_signature(answer.response, responder, role)
    _require_no_critical_extension(answer.response)
    return responder


def _require_purpose(responder: x509.Certificate) -> None:
    """The certificate is for this purpose (RFC 6960 section 4.2.2.2)."""
    try:
        usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        appointed = ExtendedKeyUsageOID.OCSP_SIGNING in usage
    except x509.ExtensionNotFound:
        appointed = False
    if not appointed:
        raise Refused(
            "ocsp-responder", "RFC 6960 section 4.2.2.2", expected="OCSPSigning", got=shown(responder.subject)
        )


def _verify_signature(response: ocsp.OCSPResponse, responder: x509.Certificate, role: str) -> None:
    if response.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        raise Refused("ocsp-algorithm", "NVIDIA PKI", expected="ECDSA with SHA-384", got="another algorithm")
    key = key_of(responder, role=role)
    require_der_signature(
        key, response.signature, response.tbs_response_bytes, "ocsp-signature", what="OCSP response"
    )


def _require_no_critical_extension(response: ocsp.OCSPResponse) -> None:
    for extension in (*response.extensions, *response.single_extensions):
        if extension.critical:
            raise Refused(
                "ocsp-critical-extension",
                "RFC 6960 section 4.4",
                expected="no critical extension",
                got=extension.oid.dotted_string,
            )


def _require_status(response: ocsp.OCSPResponse, issued: Issued) -> None:
    if response.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return
    revoked = response.certificate_status is ocsp.OCSPCertStatus.REVOKED
    raise Refused(
        "certificate-revoked" if revoked else "ocsp-unknown",
        "RFC 6960 section 2.2",
        expected="good",
        got=f"{issued.role} is {response.certificate_status.name.lower()}",
    )


def _key_bits(certificate: x509.Certificate) -> bytes:
    """The key's BIT STRING without its header, which is what a CertID digests."""
    key = key_of(certificate, role="issuer")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

"""Who signed a TDX quote (Intel DCAP Quoting Library API, "ECDSA 256-bit Quote Signature Data").

The attestation key signs the quote, a quoting enclave (QE) vouches for that key in an SGX report, and the
platform's PCK certificate signs that report.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from attest.evidence.reader import Reader
from attest.refusal import Malformed, Unsupported

QE_REPORT_SIZE: Final = 384
QE_AUTHENTICATION_SIZE: Final = 32
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

CLAUSE: Final = "Intel DCAP Quoting Library API, ECDSA quote signature data"
_QE_REPORT_CERTIFICATION: Final = 6
_PCK_CHAIN: Final = 5
_MAX_PEM_BYTES: Final = 12 * 1024
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----[\r\n]*")


@dataclass(frozen=True, slots=True)
class QeReport:
    """The quoting enclave's SGX report, 384 bytes.

    Args:
        cpusvn: 16 bytes.
        miscselect: 4 bytes.
        attributes: 16 bytes.
        mrenclave: 32 bytes.
        mrsigner: 32 bytes.
        isvprodid: product of its signer.
        isvsvn: security version.
        report_data: 64 bytes, which name the attestation key.
    """

    cpusvn: bytes
    miscselect: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> QeReport:
        """Read the report. Its reserved fields are signed and have no meaning here."""
        reader = Reader(data, "tdx-quote")
        cpusvn, miscselect = reader.take(16), reader.take(4)
        reader.take(28)
        attributes, mrenclave = reader.take(16), reader.take(32)
        reader.take(32)
        mrsigner = reader.take(32)
        reader.take(96)
        isvprodid, isvsvn = reader.uint_le(2), reader.uint_le(2)
        reader.take(60)
        report_data = reader.take(64)
        reader.end()
        return cls(cpusvn, miscselect, attributes, mrenclave, mrsigner, isvprodid, isvsvn, report_data)


@dataclass(frozen=True, slots=True)
class QuoteSignature:
    """Signatures, keys and certificates at the end of a quote.

    Args:
        quote_signature: 64 bytes, r and s big endian, by the attestation key.
        attestation_key: 64 bytes, x and y.
        qe_report: the QE's report.
        qe_report_signed: the 384 bytes of it.
        qe_report_signature: 64 bytes, by the PCK leaf.
        qe_authentication: 32 bytes that the QE hashed with the key.
        pck_chain: DER certificates, leaf first.
    """

    quote_signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report: QeReport
    qe_report_signed: bytes = field(repr=False)
    qe_report_signature: bytes = field(repr=False)
    qe_authentication: bytes = field(repr=False)
    pck_chain: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> QuoteSignature:
        """Read the signature data; the lengths inside must fill it exactly.

        Raises:
            Unsupported: ``tdx-certification-data``, ``tdx-qe-authentication``.
            Malformed: ``tdx-quote-truncated``, ``tdx-quote-length``, ``tdx-signature-range``,
                ``tdx-pck-pem``.
        """
        reader = Reader(data, "tdx-quote")
        quote_signature = _signature(reader, "quote")
        attestation_key = reader.take(64)
        _certification(reader, _QE_REPORT_CERTIFICATION)
        qe_report_signed = reader.take(QE_REPORT_SIZE)
        qe_report_signature = _signature(reader, "QE report")
        size = reader.uint_le(2)
        if size != QE_AUTHENTICATION_SIZE:
            raise Unsupported(
                "tdx-qe-authentication", CLAUSE, expected=f"{QE_AUTHENTICATION_SIZE} bytes", got=str(size)
            )
        qe_authentication = reader.take(size)
        _certification(reader, _PCK_CHAIN)
        chain = pem_certificates(reader.take(reader.remaining))
        return cls(
            quote_signature=quote_signature,
            attestation_key=attestation_key,
            qe_report=QeReport.parse(qe_report_signed),
            qe_report_signed=qe_report_signed,
            qe_report_signature=qe_report_signature,
            qe_authentication=qe_authentication,
            pck_chain=chain,
        )


def pem_certificates(pem: bytes) -> tuple[bytes, ...]:
    """DER certificates of a PEM chain, in its order; one NUL may end it, as Intel's library writes.

    Raises:
        Malformed: ``tdx-pck-pem`` for anything between or besides certificates.
    """
    if len(pem) > _MAX_PEM_BYTES:
        raise Malformed("tdx-pck-pem", f"{len(pem)} bytes, at most {_MAX_PEM_BYTES}", clause=CLAUSE)
    text = pem.removesuffix(b"\x00")
    certificates = []
    position = 0
    while position < len(text):
        found = _PEM.match(text, position)
        if found is None:
            raise Malformed("tdx-pck-pem", "not a chain of certificates", offset=position, clause=CLAUSE)
        certificates.append(_der(found[1]))
        position = found.end()
    return tuple(certificates)


def _der(body: bytes) -> bytes:
    """One body has one meaning: wherever the lines break, padding and its bits must be canonical."""
    text = body.replace(b"\r", b"").replace(b"\n", b"")
    try:
        der = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("tdx-pck-pem", "not base64", clause=CLAUSE) from error
    if base64.b64encode(der) != text:
        raise Malformed("tdx-pck-pem", "base64 that is not canonical", clause=CLAUSE)
    return der


def _certification(reader: Reader, expected: int) -> None:
    """Type and size of certification data, which must reach to the end."""
    kind, size = reader.uint_le(2), reader.uint_le(4)
    if kind != expected:
        raise Unsupported("tdx-certification-data", CLAUSE, expected=f"type {expected}", got=f"type {kind}")
    if size != reader.remaining:
        raise Malformed(
            "tdx-quote-length",
            f"{size} bytes stated, {reader.remaining} there",
            offset=reader.position,
            clause=CLAUSE,
        )


def _signature(reader: Reader, what: str) -> bytes:
    offset = reader.position
    raw = reader.take(64)
    if not all(0 < int.from_bytes(half, "big") < P256_ORDER for half in (raw[:32], raw[32:])):
        raise Malformed("tdx-signature-range", what, offset=offset, clause="FIPS 186-5 section 6.4.2")
    return raw

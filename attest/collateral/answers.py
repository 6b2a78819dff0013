"""From a service's answer to the bytes that are kept: only what has the form of what was asked for.

This is no verification, which is the verifier's with signatures and dates. It keeps out what a verifier would
refuse for as long as the cache called it fresh: a page of a portal, the certificate of another chip, the "try
later" of a responder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509 import ocsp

from attest import strict_json
from attest.collateral.tdx import signed_text
from attest.evidence.gpu import MAX_RIM_BYTES
from attest.evidence.snp_leaf import SnpLeaf
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.evidence.tdx_evidence import MAX_DOCUMENT_BYTES
from attest.refusal import Malformed

Headers = Mapping[str, str]
Keep = Callable[[Headers, bytes], bytes]

_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_PCS: Final = "Intel PCS API v4"
_RIM: Final = "NVIDIA RIM service"


def as_is(_headers: Headers, body: bytes) -> bytes:
    """The body, whatever it is."""
    return body


def chip_certificate(product: Product, hwid: bytes, tcb: TcbVersion) -> Keep:
    """A VCEK of this chip at this firmware version."""

    def keep(_headers: Headers, body: bytes) -> bytes:
        try:
            leaf = SnpLeaf.parse(x509.load_der_x509_certificate(body), kind="vcek", product=product)
        except (ValueError, x509.InvalidVersion, x509.DuplicateExtension) as error:
            raise _other("not a certificate", "AMD 57230") from error
        if (leaf.hwid, leaf.tcb) != (hwid, tcb):
            raise _other("the certificate of another chip or firmware", "AMD 57230")
        return body

    return keep


def revocation_list(_headers: Headers, body: bytes) -> bytes:
    """A revocation list, DER."""
    _require_list(body)
    return body


def revocation_list_or_hex(_headers: Headers, body: bytes) -> bytes:
    """A revocation list, DER, or in hex as a PCCS writes its root's."""
    der = bytes.fromhex(body.decode("ascii")) if _HEX.fullmatch(body) else body
    _require_list(der)
    return der


def word_on(serial: int) -> Keep:
    """An OCSP answer on the certificate of this serial number; not that there is none now."""

    def keep(_headers: Headers, body: bytes) -> bytes:
        try:
            answer = ocsp.load_der_ocsp_response(body)
            succeeded = answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
            is_about_it = succeeded and answer.serial_number == serial
        except ValueError as error:
            raise _other("not an answer on one certificate", "RFC 6960") from error
        if not is_about_it:
            raise _other("no word on the certificate that was asked about", "RFC 6960")
        return body

    return keep


def key_set(_headers: Headers, body: bytes) -> bytes:
    """A JWK set."""
    value = strict_json.loads(body, name="collateral", max_bytes=len(body))
    if not isinstance(value, dict) or not isinstance(value.get("keys"), list):
        raise _other("not a set of keys", "RFC 7517 section 5")
    return body


def golden_values(_headers: Headers, body: bytes) -> bytes:
    """The document in NVIDIA's JSON answer, which says the digest of it too."""
    value: Any = strict_json.loads(body, name="collateral", max_bytes=2 * MAX_RIM_BYTES)
    if not isinstance(value, dict):
        raise _other("not an object", _RIM)
    try:
        document = base64.b64decode(value.get("rim", ""), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _other("rim is not base64", _RIM) from error
    said = value.get("sha256")
    if not document or (said is not None and said != hashlib.sha256(document).hexdigest()):
        raise _other("rim is not the one of its sha256", _RIM)
    return document


def intels_list(header: str) -> Keep:
    """A revocation list, and its issuer chain from ``header``."""

    def keep(headers: Headers, body: bytes) -> bytes:
        _require_list(body)
        return _with_chain(headers, header, body)

    return keep


def intels_document(header: str, member: str, *, about: str = "") -> Keep:
    """A signed document, and its issuer chain from ``header``.

    Args:
        header: in lower case.
        member: the document's name in the answer.
        about: what must stand in it, e.g. the family of platforms, in any case.
    """

    def keep(headers: Headers, body: bytes) -> bytes:
        text, _ = signed_text(body, member)
        if about.lower() not in text.lower():
            raise _other("the document of another family of platforms", _PCS)
        return _with_chain(headers, header, body)

    return keep


def _with_chain(headers: Headers, header: str, body: bytes) -> bytes:
    chain = headers.get(header)
    if chain is None or len(chain) > MAX_DOCUMENT_BYTES:
        raise _other(f"no {header} came along", _PCS)
    text = unquote(chain, errors="replace")
    return strict_json.canonical({"body": strict_json.b64encode(body), "issuer_chain": text})


def _require_list(body: bytes) -> None:
    try:
        x509.load_der_x509_crl(body)
    except ValueError as error:
        raise _other("not a revocation list", "RFC 5280 section 5") from error


def _other(detail: str, clause: str) -> Malformed:
    return Malformed("collateral-answer", detail, clause=clause)

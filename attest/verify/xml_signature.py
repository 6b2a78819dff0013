"""One form of XML signature, the one that NVIDIA's RIMs have (W3C XMLDSig 1.1), and no other.

XMLDSig lets the signer say what is signed and how; attacks live in that freedom (wrapping, transforms, key
names). Here nothing is looked up: the form is required element by element, and what the caller gets is a
new tree, parsed from the very bytes that were digested.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from lxml import etree

from attest.evidence.rim import DSIG, parse_xml
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.p384 import SIGNATURE_SIZE, key_of, require_signed

_CLAUSE: Final = "W3C XMLDSig 1.1 section 3.2"
_C14N11: Final = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED: Final = f"{DSIG}enveloped-signature"
_ECDSA_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_MAX_CERTIFICATES: Final = 6
_MAX_BASE64: Final = 16 * 1024
# Name, the one attribute it must have (or none), its children in order; a child of "*" is text.
_FORM: Final = (
    ("SignedInfo", None, ("CanonicalizationMethod", "SignatureMethod", "Reference")),
    ("SignedInfo/CanonicalizationMethod", ("Algorithm", _C14N11), ()),
    ("SignedInfo/SignatureMethod", ("Algorithm", _ECDSA_SHA384), ()),
    ("SignedInfo/Reference", ("URI", ""), ("Transforms", "DigestMethod", "DigestValue")),
    ("SignedInfo/Reference/Transforms", None, ("Transform", "Transform")),
    ("SignedInfo/Reference/Transforms/Transform[1]", ("Algorithm", _ENVELOPED), ()),
    ("SignedInfo/Reference/Transforms/Transform[2]", ("Algorithm", _C14N11), ()),
    ("SignedInfo/Reference/DigestMethod", ("Algorithm", _SHA384), ()),
    ("SignedInfo/Reference/DigestValue", None, ()),
    ("SignatureValue", None, ()),
    ("KeyInfo", None, ("X509Data",)),
)


@dataclass(frozen=True, slots=True)
class EnvelopedSignature:
    """A signature in its document, taken apart and not verified yet.

    Args:
        certificates: DER, signer first, as they came.
        signed_info: canonical bytes that the signature covers.
        digest: that the signed bytes state for the document.
        value: r and s, 48 bytes each, big endian.
        document: canonical bytes of the document without its signature.
    """

    certificates: tuple[bytes, ...]
    signed_info: bytes
    digest: bytes
    value: bytes
    document: bytes

    @classmethod
    def read(cls, root: etree._Element) -> EnvelopedSignature:
        """Take the signature out of ``root``, which is changed.

        Raises:
            Malformed: ``rim-signature-form``, ``certificate-malformed``.
            Unsupported: ``rim-signature-algorithm``.
        """
        signature = _only_signature(root)
        if [child.tag for child in signature] != [
            _tag(n) for n in ("SignedInfo", "SignatureValue", "KeyInfo")
        ]:
            raise Malformed("rim-signature-form", "other parts than one signature has", clause=_CLAUSE)
        for path, attribute, children in _FORM:
            _require_form(signature, path, attribute, children)
        certificates = embedded_certificates(signature)
        signed_info = _canonical(_at(signature, "SignedInfo"))
        digest = _base64(_at(signature, "SignedInfo/Reference/DigestValue"), hashlib.sha384().digest_size)
        value = _base64(_at(signature, "SignatureValue"), SIGNATURE_SIZE)
        _take_out(signature)
        return cls(certificates, signed_info, digest, value, _canonical(root))

    def verified_tree(self, signer: x509.Certificate) -> etree._Element:
        """The signed document, parsed from the bytes that were digested.

        Raises:
            Refused: ``rim-digest``, ``rim-signature``, ``certificate-key``.
        """
        got = hashlib.sha384(self.document).digest()
        if not hmac.compare_digest(got, self.digest):
            raise Refused(
                "rim-digest",
                "W3C XMLDSig 1.1 section 3.2.1",
                expected=f"SHA-384 {self.digest.hex()}",
                got=got.hex(),
            )
        half = SIGNATURE_SIZE // 2
        r, s = int.from_bytes(self.value[:half], "big"), int.from_bytes(self.value[half:], "big")
        require_signed(key_of(signer, role="RIM signer"), r, s, self.signed_info, "rim-signature", what="RIM")
        return parse_xml(self.document)


def embedded_certificates(signature: etree._Element) -> tuple[bytes, ...]:
    """The certificates in a signature, DER, in order.

    Raises:
        Malformed: ``rim-signature-form``, ``certificate-malformed``.
    """
    data = signature.find(f"{_tag('KeyInfo')}/{_tag('X509Data')}")
    if data is None or not 0 < len(data) <= _MAX_CERTIFICATES:
        raise Malformed("rim-signature-form", "no certificates, or too many", clause=_CLAUSE)
    if any(child.tag != _tag("X509Certificate") or len(child) or child.attrib for child in data):
        raise Malformed("rim-signature-form", "something beside certificates", clause=_CLAUSE)
    return tuple(_certificate(child) for child in data)


def _certificate(element: etree._Element) -> bytes:
    try:
        return base64.b64decode("".join((element.text or "").split())[:_MAX_BASE64], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("certificate-malformed", "not base64, in a RIM", clause=_CLAUSE) from error


def _only_signature(root: etree._Element) -> etree._Element:
    found = list(root.iter(_tag("Signature")))
    if len(found) != 1 or found[0].getparent() is not root:
        raise Malformed(
            "rim-signature-form", f"{len(found)} signatures, not one in the root element", clause=_CLAUSE
        )
    return found[0]


def _require_form(
    signature: etree._Element, path: str, attribute: tuple[str, str] | None, children: tuple[str, ...]
) -> None:
    element = _at(signature, path)
    if [child.tag for child in element] != [_tag(name) for name in children]:
        raise Malformed("rim-signature-form", f"{path} has other parts", clause=_CLAUSE)
    if list(map(str, element.attrib)) != ([attribute[0]] if attribute else []):
        raise Malformed("rim-signature-form", f"{path} has other attributes", clause=_CLAUSE)
    if attribute and element.get(attribute[0]) != attribute[1]:
        raise Unsupported(
            "rim-signature-algorithm", _CLAUSE, expected=f"{path} {attribute[1]!r}", got="another"
        )


def _at(signature: etree._Element, path: str) -> etree._Element:
    element = signature.find("/".join(_tag(name) for name in path.split("/")))
    if element is None:
        raise Malformed("rim-signature-form", f"no {path}", clause=_CLAUSE)
    return element


def _tag(name: str) -> str:
    return f"{{{DSIG}}}{name}"


def _base64(element: etree._Element, size: int) -> bytes:
    try:
        value = base64.b64decode("".join((element.text or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("rim-signature-form", "a value that is not base64", clause=_CLAUSE) from error
    if len(value) != size:
        raise Malformed("rim-signature-form", f"{len(value)} bytes, not {size}", clause=_CLAUSE)
    return value


def _canonical(element: etree._Element) -> bytes:
    """Canonical XML 1.0 without comments; equal to 1.1, as ``parse_xml`` admits no xml: attribute."""
    try:
        return etree.tostring(element, method="c14n", exclusive=False, with_comments=False)
    except etree.LxmlError as error:  # a relative namespace URI has no canonical form (section 1.3)
        raise Malformed("rim-signature-form", "no canonical form", clause="W3C Canonical XML 1.0") from error


def _take_out(signature: etree._Element) -> None:
    """Remove the signature and keep the text behind it, which is signed."""
    parent, before = signature.getparent(), signature.getprevious()
    if parent is None:
        raise Malformed("rim-signature-form", "a signature alone", clause=_CLAUSE)
    if signature.tail and before is not None:
        before.tail = (before.tail or "") + signature.tail
    elif signature.tail:
        parent.text = (parent.text or "") + signature.tail
    parent.remove(signature)

"""NVIDIA's golden values: a SWID tag with measurements (ISO 19770-2, TCG RIM information model).

Parsing trusts nothing and touches nothing outside the bytes: no document type, no entities, no comments, one
encoding. Whether the values are NVIDIA's is said by ``attest.verify.rim``, which reads them from the bytes
that the signature covers and from nowhere else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree

from attest.evidence.gpu import MAX_RIM_BYTES
from attest.refusal import Malformed, Unsupported

MAX_INDEX: Final = 63
MAX_ALTERNATIVES: Final = 64
SWID: Final = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
SHA384: Final = "http://www.w3.org/2001/04/xmlenc#sha384"
DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"

_CLAUSE: Final = "TCG RIM information model, SWID binding"
_NUMBER: Final = re.compile(r"[0-9]{1,4}")
_DIGEST_BYTES: Final = 48
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{96}")
_MAX_TEXT: Final = 64
_VERSION: Final = re.compile(r"[0-9A-Za-z.]{1,64}")
_PRODUCT: Final = re.compile(r"[0-9A-Za-z_ -]{1,64}")
# In NVIDIA's files nothing begins with these; in an attacker's, a document type, an entity, a comment that
# canonicalisation drops, a CDATA section or an instruction does.
_MARKUP: Final = (b"<!", b"<?")
_DECLARATION: Final = re.compile(rb"<\?xml version=['\"]1\.0['\"]( encoding=['\"](UTF|utf)-8['\"])?\?>\s*")


@dataclass(frozen=True, slots=True)
class Golden:
    """The values that one measurement may have.

    Args:
        index: 0 to 63; it is block ``index + 1`` of a report.
        name: NVIDIA's name for it.
        alternatives: one or more digests of 48 bytes.
    """

    index: int
    name: str
    alternatives: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Rim:
    """One reference integrity manifest.

    Args:
        version: of the driver or VBIOS that it is about.
        product: the chip, e.g. ``"GH100"``.
        active: the measurements to be compared, by index.
    """

    version: str
    product: str
    active: dict[int, Golden]

    @classmethod
    def read(cls, root: etree._Element) -> Rim:
        """Read a parsed manifest.

        Raises:
            Malformed: ``rim-structure``, ``rim-meta``, ``rim-payload``, ``rim-resource``,
                ``rim-index-twice``.
            Unsupported: ``rim-size``.
        """
        meta = _only(root, "Meta", "rim-meta")
        version, product = meta.get("colloquialVersion") or "", meta.get("product") or ""
        if not _VERSION.fullmatch(version) or not _PRODUCT.fullmatch(product):
            raise Malformed("rim-meta", "no version or no product that could be one", clause=_CLAUSE)
        return cls(version, product, read_payload(root))


def parse_xml(data: bytes) -> etree._Element:
    """The root element of ``data``.

    Raises:
        Malformed: ``rim-too-large``, ``rim-markup``, ``rim-xml``.
    """
    if len(data) > MAX_RIM_BYTES:
        raise Malformed("rim-too-large", f"{len(data)} bytes")
    declaration = _DECLARATION.match(data)
    body = data[declaration.end() :] if declaration else data
    if any(mark in body for mark in _MARKUP):
        raise Malformed("rim-markup", "a document type, entity, comment, section or instruction")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        recover=False,
        remove_blank_text=False,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Malformed("rim-xml", "not well-formed XML in UTF-8") from error
    # Canonical XML 1.0 and 1.1 differ for xml:id and xml:base only: without xml: they are one algorithm.
    if root.xpath("boolean(//@xml:*)"):
        raise Malformed("rim-markup", "an xml: attribute")
    return root


def rim_certificates(document: bytes) -> tuple[bytes, ...]:
    """The certificates beside the signature, DER, as they came: none is trusted, nor is the document.

    Raises:
        Malformed: ``rim-*``.
    """
    elements = parse_xml(document).iter(f"{{{DSIG}}}X509Certificate")
    try:
        return tuple(base64.b64decode("".join((element.text or "").split())) for element in elements)
    except ValueError as error:
        raise Malformed("rim-structure", "a certificate is not base64", clause=_CLAUSE) from error


def read_payload(root: etree._Element) -> dict[int, Golden]:
    """The active measurements of a manifest.

    Raises:
        Malformed: ``rim-structure``, ``rim-payload``, ``rim-resource``, ``rim-index-twice``.
        Unsupported: ``rim-size``.
    """
    if root.tag != f"{{{SWID}}}SoftwareIdentity":
        raise Malformed("rim-structure", "not a SWID tag", clause=_CLAUSE)
    payload = _only(root, "Payload", "rim-payload")
    measurements = [_measurement(element) for element in payload]
    indices = [_number(each, "index", MAX_INDEX) for each in measurements]
    if len(set(indices)) != len(indices):
        raise Malformed("rim-index-twice", "an index twice", clause=_CLAUSE)
    active: dict[int, Golden] = {}
    for index, measurement in zip(indices, measurements, strict=True):
        golden, is_active = _resource(measurement, index)
        if is_active:
            active[index] = golden
    if not active:
        raise Malformed("rim-payload", "no active measurement", clause=_CLAUSE)
    return active


def _only(root: etree._Element, name: str, code: str) -> etree._Element:
    found = root.findall(f"{{{SWID}}}{name}")
    if len(found) != 1:
        raise Malformed(code, f"{len(found)} {name} elements", clause=_CLAUSE)
    return found[0]


def _measurement(element: etree._Element) -> dict[str, str]:
    """The attributes, out of the tree at once: each look into it costs as much as all of them."""
    if element.tag != f"{{{SWID}}}Resource" or element.get("type") != "Measurement" or len(element):
        raise Malformed("rim-resource", "not a measurement", clause=_CLAUSE)
    return {str(name): str(value) for name, value in element.attrib.items()}


def _resource(measurement: dict[str, str], index: int) -> tuple[Golden, bool]:
    count = _number(measurement, "alternatives", MAX_ALTERNATIVES)
    size = _number(measurement, "size", MAX_ALTERNATIVES)
    activity = measurement.get("active")
    if activity not in {"True", "False"} or not count:
        raise Malformed("rim-resource", f"index {index}: neither active nor inactive", clause=_CLAUSE)
    golden = Golden(index, _name(measurement, index), tuple(_hashes(measurement, index, count)))
    if size != _DIGEST_BYTES:
        raise Unsupported("rim-size", _CLAUSE, expected="48 bytes", got=f"{size} at index {index}")
    return golden, activity == "True"


def _hashes(measurement: dict[str, str], index: int, count: int) -> Iterator[bytes]:
    names = {name for name in measurement if "Hash" in name}
    expected = [f"{{{SHA384}}}Hash{place}" for place in range(count)]
    if names != set(expected):
        raise Malformed("rim-resource", f"index {index}: not {count} SHA-384 values", clause=_CLAUSE)
    for name in expected:
        text = measurement[name]
        if not _DIGEST.fullmatch(text):
            raise Malformed("rim-resource", f"index {index}: a value that is no digest", clause=_CLAUSE)
        yield bytes.fromhex(text)


def _number(measurement: dict[str, str], name: str, limit: int) -> int:
    text = measurement.get(name, "")
    if not _NUMBER.fullmatch(text) or int(text) > limit:
        raise Malformed("rim-resource", f"{name} is not a number up to {limit}", clause=_CLAUSE)
    return int(text)


def _name(measurement: dict[str, str], index: int) -> str:
    name = (measurement.get("name") or f"Measurement_{index}")[:_MAX_TEXT]
    return name if name.isprintable() else f"Measurement_{index}"

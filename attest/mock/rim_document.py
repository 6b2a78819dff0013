"""Write and sign golden values as NVIDIA publishes them: a SWID tag with one enveloped XML signature."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from attest.evidence.rim import DSIG, SHA384, SWID, parse_xml

MEASUREMENTS: Final = 64

_C14N11: Final = "http://www.w3.org/2006/12/xml-c14n11"
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"


def rim_document(version: str, product: str, active: Mapping[int, Sequence[bytes]]) -> str:
    """A manifest without its signature.

    Args:
        version: of the driver or VBIOS.
        product: the chip.
        active: alternatives of each active index.
    """
    resources = "".join(_resource(index, active.get(index)) for index in range(MEASUREMENTS))
    return (
        f'<SoftwareIdentity xmlns="{SWID}" xmlns:ns0="{SWID}" xmlns:ns2="{SHA384}" name="{product}" '
        f'tagId="mock-{product}-{version}" version="1.0" tagVersion="0">\n'
        '    <ns0:Entity name="Sealgate MOCK vendor - not hardware" role="tagCreator"/>\n'
        f'    <ns0:Meta colloquialVersion="{version}" edition="GPU" product="{product}" revision="r1"/>\n'
        f"    <ns0:Payload>{resources}\n    </ns0:Payload>\n</SoftwareIdentity>"
    )


def sign_rim(document: str, certificates: Sequence[bytes], key: ec.EllipticCurvePrivateKey) -> bytes:
    """The manifest with its signature as the last child of the root.

    Args:
        document: as ``rim_document`` makes it.
        certificates: DER, signer first.
        key: the signer's.
    """
    canonical = etree.tostring(parse_xml(document.encode()), method="c14n", exclusive=False)
    digest = base64.b64encode(hashlib.sha384(canonical).digest()).decode()
    signed_info = _signed_info(digest)
    chain = "".join(f"<ds:X509Certificate>{_base64(der)}</ds:X509Certificate>" for der in certificates)

    def enveloped(value: str) -> bytes:
        signature = (
            f'<ds:Signature xmlns:ds="{DSIG}">{signed_info}<ds:SignatureValue>{value}</ds:SignatureValue>'
            f"<ds:KeyInfo><ds:X509Data>{chain}</ds:X509Data></ds:KeyInfo></ds:Signature>"
        )
        return document.replace("</SoftwareIdentity>", f"{signature}</SoftwareIdentity>").encode()

    # Canonical form takes in the namespaces in force where the element stands, so it must stand there.
    unsigned = parse_xml(enveloped(""))
    element = unsigned.find(f"{{{DSIG}}}Signature/{{{DSIG}}}SignedInfo")
    if element is None:
        raise ValueError("the document has no root element to sign in")
    to_sign = etree.tostring(element, method="c14n", exclusive=False)
    r, s = decode_dss_signature(key.sign(to_sign, ec.ECDSA(hashes.SHA384())))
    return enveloped(_base64(r.to_bytes(48, "big") + s.to_bytes(48, "big")))


def _resource(index: int, alternatives: Sequence[bytes] | None) -> str:
    values = alternatives or [bytes(48)]
    hashes_of = " ".join(f'ns2:Hash{place}="{value.hex()}"' for place, value in enumerate(values))
    return (
        f'\n        <ns0:Resource type="Measurement" index="{index}" active="{alternatives is not None}" '
        f'alternatives="{len(values)}" {hashes_of} name="Measurement_{index}" size="48"/>'
    )


def _signed_info(digest: str) -> str:
    return (
        f'<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{_C14N11}"/>'
        f'<ds:SignatureMethod Algorithm="{_MORE}ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{DSIG}enveloped-signature"/><ds:Transform Algorithm="{_C14N11}"/>'
        f'</ds:Transforms><ds:DigestMethod Algorithm="{_MORE}sha384"/>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

"""Certificates in PEM (RFC 7468), read strictly: blocks, and nothing but white space between."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from attest.refusal import Malformed

MAX_PEM_BYTES: Final = 64 * 1024
MAX_CERTIFICATES: Final = 8

_CLAUSE: Final = "RFC 7468 section 5"
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=\s]*")


def read_certificates(pem: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM text, DER, in order.

    Args:
        pem: the text; a NUL at its end, as C libraries leave it, is no part of it.

    Raises:
        Malformed: ``pem-malformed``.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise Malformed("pem-malformed", f"{len(pem)} bytes", clause=_CLAUSE)
    text = pem.decode("ascii", "replace").removesuffix("\x00")
    before, *blocks = text.split(_BEGIN)
    if before.strip() or not 0 < len(blocks) <= MAX_CERTIFICATES:
        raise Malformed("pem-malformed", f"{len(blocks)} certificates", clause=_CLAUSE)
    return tuple(_block(block) for block in blocks)


def _block(text: str) -> bytes:
    content, end, after = text.partition(_END)
    if not end or after.strip() or not _BASE64.fullmatch(content):
        raise Malformed("pem-malformed", "text between or in certificates", clause=_CLAUSE)
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except binascii.Error as error:
        raise Malformed("pem-malformed", "not base64", clause=_CLAUSE) from error

"""Digests as text: ``sha256:`` and 64 lower-case hex digits, one spelling only.

Two spellings of one digest would make two canonical documents of one fact, so upper-case hex, other
algorithms and other lengths are refused.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from attest.refusal import Malformed

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def sha256_digest(data: bytes) -> str:
    """The digest of ``data`` as text."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def checked(value: Any, *, code: str, field: str) -> str:
    """``value`` if it is a digest as text.

    Raises:
        Malformed: ``code``, naming the field.
    """
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise Malformed(code, f"{field} is not sha256: and 64 lower-case hex digits")
    return value


def raw(digest: str) -> bytes:
    """The 32 bytes of a digest as text.

    Raises:
        Malformed: ``digest-form``.
    """
    return bytes.fromhex(checked(digest, code="digest-form", field="digest")[len("sha256:") :])

"""One digest for a model of several files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from attest import strict_json

BASE_MODEL: Final = "base-model"
TOKENIZER: Final = "tokenizer"
EMBEDDING_MODEL: Final = "embedding-model"


def manifest_digest(kind: str, digests: Mapping[str, str]) -> str:
    """``sha256:`` over what the files are for, their names, and their SHA-256.

    Args:
        kind: what they are together; the same files have another digest as another kind.
        digests: hex SHA-256 by name.
    """
    manifest = f"sealgate-{kind}-v1\x00folder\x00".encode() + strict_json.canonical(dict(digests))
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

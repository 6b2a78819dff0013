"""The gateway's own Ed25519 key: what makes it a tenant of a runtime.

Its RFC 7638 thumbprint is the tenant's name inside the runtime. There is no recovery: a new key is a new
tenant.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from attest.refusal import Malformed, Refused

_MAX_PEM_BYTES = 4096


def load_or_create(path: Path) -> Ed25519PrivateKey:
    """The key at ``path``, made on first use with mode 0600 in a folder of mode 0700.

    Raises:
        Refused: ``signing-key-exposed`` if others may read the file.
        Malformed: ``signing-key-malformed`` if it is not one unencrypted Ed25519 PEM.
    """
    try:
        return load(path)
    except FileNotFoundError:
        return _create(path)


def load(path: Path) -> Ed25519PrivateKey:
    """The key at ``path``; raises as ``load_or_create``, and ``FileNotFoundError``."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise Refused("signing-key-exposed", expected="mode 0600", got=f"mode {mode:04o}")
        pem = file.read(_MAX_PEM_BYTES)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Malformed("signing-key-malformed", "not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed("signing-key-malformed", "not an Ed25519 key")
    return key


def _create(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written whole under another name and linked into place: of two first starts, both end with one key.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return load(path)
    finally:
        draft.unlink()
    return key

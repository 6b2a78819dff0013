"""A policy bundle: the schema and the rules as bytes, with one digest, and a signature over it.

This module knows files and hashes but not Cedar: the enclave states the digest of a bundle without carrying
a policy engine. The digest covers file names and exact bytes, and nothing of where or when they were read:

    SHA-256( RFC 8785 JSON of {"format": "sealgate-policies-v1", "schema": hex, "policies": {name: hex}} )

The schema always is this version's own: the code that makes the facts is what it describes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policies.refusal import BundleRefused, MalformedPolicies

FORMAT = "sealgate-policies-v1"
SIGNATURE_FILE = "policies.sig"
MAX_FILES = 256
MAX_FILE_BYTES = 256 * 1024

_HERE = Path(__file__).parent
DEFAULT_FOLDER = _HERE / "defaults"
SCHEMA_FILE = _HERE / "schema.cedarschema"
_SIGNATURE_CONTEXT = b"sealgate-policies-signature-v1\x00"


@dataclass(frozen=True)
class PolicyBundle:
    """Policy files by name, sorted, and the schema they are written against."""

    schema: bytes = field(repr=False)
    policies: tuple[tuple[str, bytes], ...] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and hex: the policy digest that statements, decisions and the log name."""
        files = {name: hashlib.sha256(text).hexdigest() for name, text in self.policies}
        schema = hashlib.sha256(self.schema).hexdigest()
        document = rfc8785.dumps({"format": FORMAT, "schema": schema, "policies": files})
        return f"sha256:{hashlib.sha256(document).hexdigest()}"


def load_bundle(folder: Path | None = None, *, signer: Ed25519PublicKey | None = None) -> PolicyBundle:
    """The ``*.cedar`` files directly in a folder.

    Args:
        folder: where they are; None for the defaults of this version.
        signer: whose signature the folder must carry, in ``policies.sig`` (standard base64, one line).

    Raises:
        MalformedPolicies: ``policies-unreadable``, ``policies-empty``, ``policies-too-large``.
        BundleRefused: ``policies-unsigned`` or ``policies-signature``, if a signer is demanded.
    """
    folder = DEFAULT_FOLDER if folder is None else folder
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".cedar")
        if not paths:
            raise MalformedPolicies("policies-empty", "the folder holds no .cedar file")
        if len(paths) > MAX_FILES or any(path.stat().st_size > MAX_FILE_BYTES for path in paths):
            raise MalformedPolicies(
                "policies-too-large", f"at most {MAX_FILES} files of {MAX_FILE_BYTES} bytes"
            )
        policies = tuple((path.name, path.read_bytes()) for path in paths)
        bundle = PolicyBundle(schema=SCHEMA_FILE.read_bytes(), policies=policies)
    except OSError as error:
        raise MalformedPolicies("policies-unreadable", type(error).__name__) from error
    if signer is not None:
        verify_signature(bundle, _read_signature(folder / SIGNATURE_FILE), signer)
    return bundle


def default_digest() -> str:
    """The digest of the default policies of this version."""
    return load_bundle().digest


def sign(bundle: PolicyBundle, key: Ed25519PrivateKey) -> bytes:
    """The 64-byte Ed25519 signature over the bundle's digest."""
    return key.sign(_SIGNATURE_CONTEXT + bundle.digest.encode())


def verify_signature(bundle: PolicyBundle, signature: bytes, signer: Ed25519PublicKey) -> None:
    """Require that ``signer`` signed this bundle.

    Raises:
        BundleRefused: ``policies-signature`` otherwise.
    """
    try:
        signer.verify(signature, _SIGNATURE_CONTEXT + bundle.digest.encode())
    except InvalidSignature as error:
        raise BundleRefused("policies-signature", "the policies are not what was signed") from error


def _read_signature(path: Path) -> bytes:
    try:
        return base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise BundleRefused("policies-unsigned", f"no readable {SIGNATURE_FILE}") from error
    except binascii.Error as error:
        raise BundleRefused("policies-signature", "not base64") from error

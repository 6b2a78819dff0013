"""What Azure Key Vault answers when it releases a key, and how the enclave opens it.

The answer is a JWS around the key, wrapped to the RSA key that the attestation token named: an AES key under
RSA-OAEP, then the key itself under AES key wrap with padding (RFC 5649). Only that enclave can open it. The
JWS names its own certificates and proves nothing by itself: that Key Vault answered is TLS's word, and that
it answered us is the nonce's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding

from attest import strict_json
from attest.refusal import Malformed, Refused

MAX_ANSWER_BYTES: Final = 256 * 1024
ALGORITHMS: Final = frozenset({"CKM_RSA_AES_KEY_WRAP", "RSA_AES_KEY_WRAP_256", "RSA_AES_KEY_WRAP_384"})
CLAUSE: Final = "Azure Key Vault, release key"

_NAME: Final = "key-release"
_AES_SIZES: Final = frozenset({16, 24, 32})
_RSA_SIZES: Final = range(256, 1025)

Decrypt = Callable[[bytes, str], bytes]
"""RSA-OAEP decryption by the enclave's key: ciphertext and the algorithm asked for, to an AES key."""


@dataclass(frozen=True, slots=True, repr=False)
class ReleasedKey:
    """A key that was released to this enclave.

    Args:
        key_id: its address in the vault, with its version.
        material: the key: PKCS#8 for RSA and EC, raw bytes for symmetric keys.
    """

    key_id: str
    material: bytes

    def __repr__(self) -> str:
        return f"ReleasedKey({self.key_id})"


def open_released_key(
    answer: bytes, *, nonce: str, algorithm: str, modulus_size: int, decrypt: Decrypt
) -> ReleasedKey:
    """Open the answer of a release.

    Args:
        answer: the JWS.
        nonce: that was sent with the request.
        algorithm: that was asked for; one of ``ALGORITHMS``.
        modulus_size: bytes of the enclave's RSA key.
        decrypt: by that key.

    Raises:
        Malformed: ``key-release-*``.
        Refused: ``key-release-nonce``, ``key-release-algorithm``, ``key-release-unwrap``.
    """
    if algorithm not in ALGORITHMS or modulus_size not in _RSA_SIZES:
        raise ValueError("an algorithm or key size that no release has")
    claims = _payload(answer)
    request, key = _member(claims, "request"), _member(claims, "response", "key", "key")
    if _text(request, "nonce") != nonce:
        raise Refused("key-release-nonce", CLAUSE, expected="our nonce", got="another")
    wrapped = strict_json.loads(_decoded(_text(key, "key_hsm")), name=_NAME, max_bytes=MAX_ANSWER_BYTES)
    named = _text(_member(wrapped, "header"), "enc")
    if named != algorithm or _text(request, "enc") != algorithm:
        raise Refused("key-release-algorithm", CLAUSE, expected=algorithm, got="another")
    ciphertext = _decoded(_text(wrapped, "ciphertext"))
    if len(ciphertext) <= modulus_size:
        raise Malformed("key-release-ciphertext", f"{len(ciphertext)} bytes", clause=CLAUSE)
    aes_key = decrypt(ciphertext[:modulus_size], algorithm)
    if len(aes_key) not in _AES_SIZES:
        raise Refused("key-release-unwrap", CLAUSE, expected="an AES key", got=f"{len(aes_key)} bytes")
    try:
        material = aes_key_unwrap_with_padding(aes_key, ciphertext[modulus_size:])
    except (InvalidUnwrap, ValueError) as error:
        raise Refused(
            "key-release-unwrap", "RFC 5649", expected="a key wrapped for us", got="another"
        ) from error
    return ReleasedKey(_text(key, "kid"), material)


def _payload(answer: bytes) -> dict[str, Any]:
    if len(answer) > MAX_ANSWER_BYTES:
        raise Malformed("key-release-too-large", f"{len(answer)} bytes", clause=CLAUSE)
    parts = answer.split(b".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise Malformed("key-release-parts", f"{len(parts)} parts", clause="RFC 7515 section 7.1")
    claims = strict_json.loads(_decoded(parts[1].decode("latin-1")), name=_NAME, max_bytes=MAX_ANSWER_BYTES)
    return _member({"claims": claims}, "claims")


def _member(value: Any, *names: str) -> dict[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise Malformed("key-release-members", f"{'.'.join(names)} is not an object", clause=CLAUSE)
    return value


def _text(value: Any, name: str) -> str:
    text = value.get(name) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise Malformed("key-release-members", f"{name} is not a text", clause=CLAUSE)
    return text


def _decoded(text: str) -> bytes:
    return strict_json.b64url_decode(text, name=_NAME, max_bytes=MAX_ANSWER_BYTES)

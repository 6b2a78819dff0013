"""The key pair that a released key is wrapped to, where the enclave makes it itself."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attest import strict_json
from attest.keyrelease.released_key import CLAUSE
from attest.refusal import Refused

_KEY_BITS: Final = 3072
_EXPONENT: Final = 65537
_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "RSA_AES_KEY_WRAP_256": hashes.SHA256(),
    "RSA_AES_KEY_WRAP_384": hashes.SHA384(),
}


class EnclaveKey:
    """An RSA key pair that never leaves this process: what a released key is wrapped to."""

    def __init__(self) -> None:
        self._private = rsa.generate_private_key(_EXPONENT, _KEY_BITS)

    def __repr__(self) -> str:
        return f"EnclaveKey({_KEY_BITS} bits)"

    @property
    def modulus_size(self) -> int:
        """Bytes of a ciphertext."""
        return self._private.key_size // 8

    @property
    def runtime_data(self) -> bytes:
        """A key set with the public half, as the attestation service puts it into its token."""
        numbers = self._private.public_key().public_numbers()
        size = self.modulus_size
        key = {
            "kty": "RSA",
            "kid": "sealgate-release",
            "key_ops": ["encrypt"],
            "n": strict_json.b64url_encode(numbers.n.to_bytes(size, "big")),
            "e": strict_json.b64url_encode(numbers.e.to_bytes(3, "big")),
        }
        return strict_json.canonical({"keys": [key]})

    def decrypt(self, ciphertext: bytes, algorithm: str) -> bytes:
        """RSA-OAEP as ``algorithm`` says.

        Raises:
            Refused: ``key-release-algorithm`` for ``CKM_RSA_AES_KEY_WRAP``, whose digest is the HSM's choice;
                ``key-release-unwrap``.
        """
        digest = _DIGESTS.get(algorithm)
        if digest is None:
            raise Refused("key-release-algorithm", CLAUSE, expected=", ".join(_DIGESTS), got="another")
        try:
            return self._private.decrypt(ciphertext, padding.OAEP(padding.MGF1(digest), digest, None))
        except ValueError as error:
            raise Refused(
                "key-release-unwrap", "RFC 8017 section 7.1", expected="a key wrapped for us", got="another"
            ) from error

"""Names for cached token blocks, so that equal names mean: same owner, same tokens, from the start.

A block's name is a keyed hash over the name of the block before it and its own tokens; before the first
stands the name of the owner. Two owners' chains start apart, so no block of one ever has the name of a
block of the other, whatever their tokens. The key is random per process: nobody outside can compute a
name, nor choose tokens so that two names meet.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from runtime.engine.schedule.sequence import Owner

DIGEST_BYTES = 32
_MIN_KEY_BYTES = 16
# The two uses of the hash are set apart by BLAKE2's personalisation.
_OWNER = b"sealgate-owner"
_BLOCK = b"sealgate-block"
_WORD = "I"  # four bytes: any token id there is


class PrefixDigest:
    """The keyed chain.

    Args:
        key: 16 to 64 random bytes, new in each process.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes is too short")
        self._owner = blake2b(key=key, person=_OWNER, digest_size=DIGEST_BYTES)
        self._block = blake2b(key=key, person=_BLOCK, digest_size=DIGEST_BYTES)

    def owner(self, owner: Owner) -> bytes:
        """The name that an owner's chains start from."""
        digest = self._owner.copy()
        for part in owner:
            # Length first: no two owners are written alike. None and "" differ in the first byte.
            text = b"" if part is None else part.encode()
            digest.update(b"\0" if part is None else b"\1" + len(text).to_bytes(8, "big"))
            digest.update(text)
        return digest.digest()

    def block(self, parent: bytes, tokens: Sequence[int]) -> bytes:
        """The name of a block after ``parent``. Blocks of one cache are all of one length."""
        digest = self._block.copy()
        digest.update(parent)
        words = array(_WORD, tokens)
        if sys.byteorder == "big":
            words.byteswap()
        digest.update(words)
        return digest.digest()

"""A TPM 2.0 quote: what a vTPM says of how the machine booted (TPM 2.0 Library, part 2; big endian)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from attest.evidence.reader import Reader
from attest.refusal import Malformed, Unsupported

PCR_COUNT: Final = 24
DIGEST_SIZE: Final = 32
MAX_MESSAGE_BYTES: Final = 1024
"""A quote over one bank is about 160 bytes."""

MAX_EXTRA_DATA: Final = 64
CLAUSE: Final = "TPM 2.0 part 2, TPMS_ATTEST"

_GENERATED: Final = 0xFF544347
_QUOTE: Final = 0x8018
_MAX_NAME: Final = 68
_SHA256: Final = 0x000B
_BITMAP_SIZE: Final = 3


@dataclass(frozen=True, slots=True, repr=False)
class TpmQuote:
    """A quote as a guest hands it over.

    Args:
        message: the TPMS_ATTEST that is signed.
        signature: raw RSASSA signature.
        pcrs: SHA-256 values of PCR 0 to 23, 32 bytes each.
    """

    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"TpmQuote({len(self.message)} bytes, {len(self.pcrs)} PCRs)"


@dataclass(frozen=True, slots=True)
class QuoteFacts:
    """The message, parsed and not verified.

    Args:
        qualified_signer: name of the signing key.
        extra_data: what the caller asked the quote to carry: the nonce.
        reset_count: boots of the TPM.
        restart_count: resumes since.
        selected: indexes of the PCRs that the digest covers, ascending.
        pcr_digest: SHA-256 over their values.
    """

    qualified_signer: bytes = field(repr=False)
    extra_data: bytes
    reset_count: int
    restart_count: int
    selected: tuple[int, ...]
    pcr_digest: bytes

    @classmethod
    def parse(cls, message: bytes) -> QuoteFacts:
        """Read a TPMS_ATTEST of a quote over one bank of SHA-256 PCRs.

        Raises:
            Unsupported: ``tpm-quote-bank``: another bank, or several.
            Malformed: ``tpm-quote-too-large``, ``tpm-quote-magic``, ``tpm-quote-type``, ``tpm-quote-size``,
                ``tpm-quote-clock``, ``tpm-quote-truncated``, ``tpm-quote-trailing-bytes``.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise Malformed("tpm-quote-too-large", f"{len(message)} bytes", clause=CLAUSE)
        reader = Reader(message, "tpm-quote")
        if reader.uint_be(4) != _GENERATED:
            # The value that a TPM writes itself and never signs for anybody else (part 1, restricted keys).
            raise Malformed("tpm-quote-magic", "not TPM_GENERATED_VALUE", offset=0, clause=CLAUSE)
        if reader.uint_be(2) != _QUOTE:
            raise Malformed("tpm-quote-type", "not TPM_ST_ATTEST_QUOTE", offset=4, clause=CLAUSE)
        qualified_signer = _sized(reader, _MAX_NAME)
        extra_data = _sized(reader, MAX_EXTRA_DATA)
        reader.take(8)  # clock, milliseconds
        reset_count, restart_count, safe = reader.uint_be(4), reader.uint_be(4), reader.uint_be(1)
        if safe not in {0, 1}:
            raise Malformed("tpm-quote-clock", "safe is no boolean", clause=CLAUSE)
        reader.take(8)  # firmware version
        selected = _selection(reader)
        pcr_digest = _sized(reader, DIGEST_SIZE)
        if len(pcr_digest) != DIGEST_SIZE:
            raise Malformed("tpm-quote-size", f"a digest of {len(pcr_digest)} bytes", clause=CLAUSE)
        reader.end()
        return cls(qualified_signer, extra_data, reset_count, restart_count, selected, pcr_digest)


def _sized(reader: Reader, limit: int) -> bytes:
    offset = reader.position
    size = reader.uint_be(2)
    if size > limit:
        raise Malformed("tpm-quote-size", f"{size} bytes, at most {limit}", offset=offset, clause=CLAUSE)
    return reader.take(size)


def _selection(reader: Reader) -> tuple[int, ...]:
    count, bank, size = reader.uint_be(4), reader.uint_be(2), reader.uint_be(1)
    if (count, bank, size) != (1, _SHA256, _BITMAP_SIZE):
        raise Unsupported(
            "tpm-quote-bank",
            CLAUSE,
            expected="one selection of SHA-256 PCRs",
            got=f"{count} selections, the first of algorithm {bank:#06x}",
        )
    bitmap = reader.uint_le(_BITMAP_SIZE)  # byte by byte, lowest PCR in the lowest bit of the first
    return tuple(index for index in range(PCR_COUNT) if bitmap >> index & 1)

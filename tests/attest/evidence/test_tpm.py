"""A TPM's quote, member by member, and how long each may be."""

from __future__ import annotations

import pytest

from attest.evidence.tpm import QuoteFacts
from attest.refusal import Malformed, Unsupported


def message(
    *,
    signer: bytes = b"\x00\x0b" + bytes(32),
    extra: bytes = b"nonce",
    safe: int = 1,
    selection: str = "00000001000b03910080",
    digest: bytes = bytes(range(32)),
) -> bytes:
    """A TPMS_ATTEST: magic, type, signer, extra data, clock, counters, firmware, PCRs, digest."""
    return (
        bytes.fromhex("ff5443478018")
        + len(signer).to_bytes(2)
        + signer
        + len(extra).to_bytes(2)
        + extra
        + bytes(range(8))
        + (7).to_bytes(4)
        + (9).to_bytes(4)
        + bytes([safe])
        + bytes(8)
        + bytes.fromhex(selection)
        + len(digest).to_bytes(2)
        + digest
    )


@pytest.mark.parametrize("safe", [0, 1])
def test_members(safe: int) -> None:
    """Each fact is where the specification puts it."""
    assert QuoteFacts.parse(message(safe=safe)) == QuoteFacts(
        qualified_signer=b"\x00\x0b" + bytes(32),
        extra_data=b"nonce",
        reset_count=7,
        restart_count=9,
        selected=(0, 4, 7, 23),
        pcr_digest=bytes(range(32)),
    )


@pytest.mark.parametrize(
    ("bitmap", "selected"),
    [("000000", ()), ("ffffff", tuple(range(24))), ("010000", (0,)), ("000080", (23,)), ("000100", (8,))],
)
def test_selections(bitmap: str, selected: tuple[int, ...]) -> None:
    """Byte by byte, the lowest PCR in the lowest bit of the first."""
    assert QuoteFacts.parse(message(selection="00000001000b03" + bitmap)).selected == selected


def test_the_longest_members() -> None:
    """A name of 68 bytes (a SHA-512 name has 66), and 64 of the caller's; not a byte more."""
    facts = QuoteFacts.parse(message(signer=bytes(68), extra=bytes(64)))
    assert (len(facts.qualified_signer), len(facts.extra_data)) == (68, 64)
    for longer, offset in ((message(signer=bytes(69)), 6), (message(extra=bytes(65)), 6 + 2 + 34)):
        with pytest.raises(Malformed) as refusal:
            QuoteFacts.parse(longer)
        assert (refusal.value.code, refusal.value.offset) == ("tpm-quote-size", offset)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (message(safe=2), "tpm-quote-clock"),
        (message(safe=3), "tpm-quote-clock"),
        (message(digest=bytes(31)), "tpm-quote-size"),
        (message(digest=bytes(33)), "tpm-quote-size"),
        (message(digest=b""), "tpm-quote-size"),
        (message() + b"\x00", "tpm-quote-trailing-bytes"),
        (message()[:-1], "tpm-quote-truncated"),
        (bytes(1024), "tpm-quote-magic"),
        (bytes(1025), "tpm-quote-too-large"),
    ],
)
def test_messages_of_another_form(changed: bytes, code: str) -> None:
    """Each by its own code."""
    with pytest.raises(Malformed) as refusal:
        QuoteFacts.parse(changed)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "selection",
    ["00000002000b03910080000b03910080", "00000000", "00000001000403910080", "00000001000c03910080"],
)
def test_other_banks(selection: str) -> None:
    """One bank, of SHA-256."""
    with pytest.raises((Unsupported, Malformed), match="tpm-quote-bank"):
        QuoteFacts.parse(message(selection=selection))

"""Times of tokens at the edges of what a time can be, and keys of another kind than the algorithm's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attest.evidence.tokens import CompactToken
from attest.mock.maa import MockMaa
from attest.mock.nras import MockNras
from attest.refusal import Malformed, Refused
from attest.verify.jwk_set import SigningKey
from attest.verify.jws import Algorithm, require_times, verified_claims

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
DAY = timedelta(days=1)


def times(**changed: Any) -> dict[str, Any]:
    """Claims of a token of one hour."""
    return {"iat": SECONDS, "nbf": SECONDS, "exp": SECONDS + 3600} | changed


def test_honest_times() -> None:
    """They come out as they went in."""
    read = require_times(times(), NOW, name="x", lifetime=DAY)
    assert (read.issued_at, read.expires_at) == (NOW, NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    "value",
    [
        -1,
        2**53,
        2**53 - 1,  # a number that may be written, and no year of any calendar
        253402300800,  # the year 10000
        float(SECONDS),
        str(SECONDS),
        True,
        None,
        [],
    ],
)
@pytest.mark.parametrize("claim", ["iat", "nbf", "exp"])
def test_times_that_are_none(claim: str, value: Any) -> None:
    """Out of range, or no whole number."""
    with pytest.raises(Malformed) as refusal:
        require_times(times(**{claim: value}), NOW, name="x", lifetime=DAY)
    assert refusal.value.code == "x-times"


def test_the_first_second_of_all() -> None:
    """Zero is a time, and long ago."""
    with pytest.raises(Refused) as refusal:
        require_times(times(iat=0, nbf=0, exp=3600), NOW, name="x", lifetime=DAY)
    assert refusal.value.code == "x-expired"


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES384", rsa.generate_private_key(65537, 2048).public_key()),
        ("RS256", ec.generate_private_key(ec.SECP384R1()).public_key()),
    ],
)
def test_a_key_of_another_kind(algorithm: Algorithm, key: Any) -> None:
    """The algorithm of the header never chooses how a key is used (RFC 8725 section 3.1)."""
    if algorithm == "ES384":
        text = MockNras.create().sign(times())
    else:
        text = MockMaa.create().sign(times()).decode()
    token = CompactToken.parse(text, name="x")
    with pytest.raises(Refused) as refusal:
        verified_claims(token, SigningKey("k", key), algorithm, name="x")
    assert refusal.value.code == "x-algorithm"

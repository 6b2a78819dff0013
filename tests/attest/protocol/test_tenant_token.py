"""The request token: what it lets through, and each thing that it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.digest import sha256_digest
from attest.protocol.tenant_token import (
    CLOCK_SKEW,
    LIFETIME,
    MAX_TOKEN_BYTES,
    TYPE,
    RequestSigner,
    TenantClaims,
    sign_request_token,
    thumbprint,
    verify_request_token,
)
from attest.refusal import Malformed, Refused

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = RequestSigner(KEY)
EXPECTED: dict[str, Any] = {
    "audience": sha256_digest(b"keyset"),
    "body_sha256": "ab" * 32,
    "method": "POST",
    "path": "/v1/chat/completions",
}
HONEST: dict[str, Any] = {
    **EXPECTED,
    "statement_digest": sha256_digest(b"statement"),
    "sequence": 7,
    "label_id": sha256_digest(b"label"),
}


def signed(*, signer: RequestSigner = SIGNER, now: datetime = NOW, **claims: Any) -> str:
    return sign_request_token(signer, **{**HONEST, **claims}, now=now)


def verified(token: str, *, now: datetime = NOW, **expected: Any) -> TenantClaims:
    return verify_request_token(token, **{**EXPECTED, **expected}, now=now)


def refusal(token: str, *, now: datetime = NOW, **expected: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        verified(token, now=now, **expected)
    return caught.value


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(strict_json.b64url_decode(part, name="t", max_bytes=4096)))


def resigned(change: Callable[[dict[str, Any]], object], *, header: dict[str, Any] | None = None) -> str:
    """A token over changed claims, properly signed by the tenant: what a malicious tenant can make."""
    claims = claims_of(signed())
    change(claims)
    head = {"alg": "EdDSA", "typ": TYPE, "jwk": json_jwk(), **(header or {})}
    parts = [strict_json.b64url_encode(json.dumps(part).encode()) for part in (head, claims)]
    signature = KEY.sign(".".join(parts).encode())
    return ".".join([*parts, strict_json.b64url_encode(signature)])


def json_jwk() -> dict[str, str]:
    x = strict_json.b64url_encode(KEY.public_key().public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x}


def unchanged(_: dict[str, Any]) -> None:
    """Sign again what was signed."""


def test_what_was_signed_is_what_is_read() -> None:
    claims = verified(signed())
    assert claims == TenantClaims(
        tenant=SIGNER.thumbprint,
        sequence=7,
        label_id=HONEST["label_id"],
        statement_digest=HONEST["statement_digest"],
        body_sha256=HONEST["body_sha256"],
        issued_at=NOW,
        expires_at=NOW + LIFETIME,
    )
    assert verified(resigned(unchanged)) == claims


def test_the_thumbprint_is_that_of_rfc_8037_appendix_a3() -> None:
    public = strict_json.b64url_decode(
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", name="key", max_bytes=32
    )
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_pyjwt_reads_our_tokens_and_we_read_its() -> None:
    claims = jwt.decode(
        signed(), KEY.public_key(), algorithms=["EdDSA"], audience=EXPECTED["audience"],
        options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip
    assert claims["seq"] == 7
    token = jwt.encode(claims_of(signed()), KEY, algorithm="EdDSA", headers={"typ": TYPE, "jwk": json_jwk()})
    assert verified(token).sequence == 7


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        ({"audience": sha256_digest(b"other")}, "token-audience"),
        ({"body_sha256": "cd" * 32}, "token-body"),
        ({"method": "GET"}, "token-method"),
        ({"path": "/v1/completions"}, "token-path"),
    ],
)
def test_a_token_is_for_one_keyset_body_and_route(expected: dict[str, Any], code: str) -> None:
    assert refusal(signed(), **expected).code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c.update(iss="another"), "token-subject"),
        (lambda c: c.update(sub="another"), "token-subject"),
        (lambda c: c.update(exp=c["exp"] + 1), "token-lifetime"),
        (lambda c: c.update(exp=c["iat"]), "token-lifetime"),
        (lambda c: c.update(iat=float(c["iat"])), "token-bad-number"),
        (lambda c: c.update(iat=True), "token-times"),
        (lambda c: c.update(exp=2**53 - 1, iat=2**53 - 2), "token-times"),
        (lambda c: c.update(iat=-1), "token-times"),
        (lambda c: c.update(seq=0), "token-sequence"),
        (lambda c: c.update(seq=True), "token-sequence"),
        (lambda c: c.update(seq="7"), "token-sequence"),
        (lambda c: c.update(seq=2**53), "token-sequence"),
        (lambda c: c.update(label_id="sha256:" + "AB" * 32), "token-label"),
        (lambda c: c.update(statement=None), "token-statement"),
        (lambda c: c.update(admin=True), "token-members"),
        (lambda c: c.pop("seq"), "token-members"),
    ],
)
def test_a_tenant_cannot_sign_itself_more(change: Callable[[dict[str, Any]], object], code: str) -> None:
    assert refusal(resigned(change)).code == code


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none"}, "token-algorithm"),
        ({"alg": "HS256"}, "token-algorithm"),
        ({"typ": "JWT"}, "token-type"),
        ({"jwk": {**json_jwk(), "kty": "EC"}}, "token-algorithm"),
        ({"jwk": {**json_jwk(), "crv": "X25519"}}, "token-algorithm"),
        ({"jwk": {**json_jwk(), "d": "AA"}}, "token-members"),
        ({"jwk": {**json_jwk(), "x": "AAAA"}}, "token-key"),
        ({"jwk": {**json_jwk(), "x": strict_json.b64url_encode(bytes(33))}}, "token-too-large"),
        ({"kid": "1"}, "token-members"),
    ],
)
def test_there_is_one_algorithm_and_one_kind_of_key(header: dict[str, Any], code: str) -> None:
    assert refusal(resigned(unchanged, header=header)).code == code


def test_a_token_lives_for_a_minute_and_clocks_may_differ_by_half_of_one() -> None:
    token = signed()
    last = NOW + LIFETIME + CLOCK_SKEW - timedelta(microseconds=1)
    assert verified(token, now=last).sequence == 7
    assert refusal(token, now=last + timedelta(microseconds=1)).code == "token-expired"
    first = NOW - CLOCK_SKEW
    assert verified(token, now=first).sequence == 7
    assert refusal(token, now=first - timedelta(microseconds=1)).code == "token-not-yet-valid"


def test_a_signature_by_another_key() -> None:
    forged = signed(signer=RequestSigner(Ed25519PrivateKey.generate())).split(".")[2]
    head, claims, _ = signed().split(".")
    assert refusal(f"{head}.{claims}.{forged}").code == "token-signature"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "token-parts"),
        ("a.b", "token-parts"),
        ("a.b.c.d", "token-parts"),
        ("!.b.c", "token-base64"),
        ("é.b.c", "token-base64"),
        (SIGNER.sign({}).replace(".", ".é", 1), "token-base64"),  # behind a header that can be read
        ("x" * (MAX_TOKEN_BYTES + 1), "token-too-large"),
        ("bm90IGpzb24.b.c", "token-not-json"),
    ],
)
def test_what_is_no_token(token: str, code: str) -> None:
    caught = refusal(token)
    assert isinstance(caught, Malformed)
    assert caught.code == code


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(signed()) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_other_spelling_of_a_token_is_accepted(place: int, character: str) -> None:
    token = signed()
    changed = token[:place] + character + token[place + 1 :]
    if changed != token:
        refusal(changed)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: f"{data.hex()}.{data.hex()}.AA"))
def test_only_refusals_leave_the_parser(token: str) -> None:
    refusal(token)


def test_refusals_and_reprs_tell_no_claims() -> None:
    text = str(refusal(signed(), audience="other")) + repr(SIGNER)
    assert EXPECTED["audience"] not in text
    assert KEY.private_bytes_raw().hex() not in text

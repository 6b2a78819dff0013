"""Key sets: which entry is read, which keys are used, and what is refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.evidence.tokens import JwkSetCollateral
from attest.mock.maa import MockMaa
from attest.mock.nras import MockNras
from attest.refusal import Refused
from attest.verify.jwk_set import MAX_CHAIN, MAX_JWKS_BYTES, MAX_KEYS, require_usable, signing_key

EC_ENTRY: dict[str, Any] = json.loads(MockNras.create().keys.jwks)["keys"][0] | {"kid": "k"}
OTHER_EC: dict[str, Any] = json.loads(MockNras.create().keys.jwks)["keys"][0]
RSA_ENTRY: dict[str, Any] = json.loads(MockMaa.create().keys.jwks)["keys"][0] | {"kid": "k"}


def jwks(*entries: Any) -> bytes:
    """A key set."""
    return json.dumps({"keys": list(entries)}).encode()


def code(document: bytes, key_id: str = "k") -> str:
    """How looking up a key refuses."""
    with pytest.raises(Refused) as caught:
        signing_key(document, key_id)
    return caught.value.code


def rsa_entry(bits: int, exponent: int) -> dict[str, Any]:
    """An entry of any size and exponent; the modulus is a number like any other."""
    size = (bits + 7) // 8
    return {
        "kty": "RSA",
        "kid": "k",
        "n": strict_json.b64url_encode(((1 << (bits - 1)) | 1).to_bytes(size)),
        "e": strict_json.b64url_encode(exponent.to_bytes(3).lstrip(b"\x00")),
    }


def moved(entry: dict[str, Any], by: int) -> dict[str, Any]:
    """A key's coordinates cut at another place: side by side they are the same 96 bytes."""
    both = b"".join(strict_json.b64url_decode(entry[name], name="jwks", max_bytes=48) for name in ("x", "y"))
    return {
        name: strict_json.b64url_encode(part)
        for name, part in (("x", both[: 48 + by]), ("y", both[48 + by :]))
    }


def test_keys_of_both_kinds() -> None:
    """An EC key by its coordinates, an RSA key by its certificate or its numbers."""
    assert isinstance(signing_key(jwks(EC_ENTRY), "k").public_key, ec.EllipticCurvePublicKey)
    key = signing_key(jwks(EC_ENTRY, RSA_ENTRY | {"kid": "r"}), "r")
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    assert len(key.certificates) == len(key.chain) == 1
    assert signing_key(jwks(EC_ENTRY | {"use": "sig"}), "k").chain == ()
    assert signing_key(jwks(EC_ENTRY | {"alg": "ES384", "key_ops": ["sign", "verify"]}), "k").chain == ()
    assert (
        signing_key(jwks(rsa_entry(2048, 65537) | {"alg": "RS256", "key_ops": ["verify"]}), "k").chain == ()
    )
    numbers = rsa_entry(2048, 65537)
    assert isinstance(signing_key(jwks(numbers), "k").public_key, rsa.RSAPublicKey)


def test_an_entry_that_is_not_asked_for_may_be_of_any_kind() -> None:
    """A key of tomorrow's kind does not take the others with it."""
    signing_key(jwks({"kty": "AKP", "kid": "new", "pub": "?"}, EC_ENTRY), "k")


@pytest.mark.parametrize("member", ["n", "e"])
def test_half_a_key_beside_a_certificate(member: str) -> None:
    """A stated key must be whole: half of one is not passed over for the certificate's."""
    numbers = rsa_entry(2048, 65537)
    assert signing_key(jwks(RSA_ENTRY), "k").certificates
    assert code(jwks(RSA_ENTRY | {member: numbers[member]})) == "jwks-base64"


def certified(curve: ec.EllipticCurve) -> list[str]:
    """An ``x5c`` of one self-signed certificate over a key of that curve."""
    key, name = ec.generate_private_key(curve), x509.Name([])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=900))
    der = builder.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)
    return [base64.b64encode(der).decode()]


def test_an_elliptic_key_by_its_certificate() -> None:
    """P-384 only there too, and nothing of another key beside it."""
    entry = {"kty": "EC", "kid": "k", "x5c": certified(ec.SECP384R1())}
    assert isinstance(signing_key(jwks(entry), "k").public_key, ec.EllipticCurvePublicKey)
    assert code(jwks(entry | {"x5c": certified(ec.SECP256R1())})) == "jwks-key-kind"
    assert code(jwks(entry | {"crv": "P-384"})) == "jwks-base64"
    assert code(jwks(entry | {"x": EC_ENTRY["x"]})) == "jwks-key-kind"
    assert code(jwks(entry | {"y": EC_ENTRY["y"]})) == "jwks-key-kind"


def test_bounds_are_inclusive() -> None:
    """As many keys and certificates as are allowed are read; so is a set at its last moment."""
    others = ({"kid": str(number)} for number in range(MAX_KEYS - 1))
    assert signing_key(jwks(EC_ENTRY, *others), "k").key_id == "k"
    assert len(signing_key(jwks(RSA_ENTRY | {"x5c": RSA_ENTRY["x5c"] * MAX_CHAIN}), "k").chain) == MAX_CHAIN
    end = datetime(2026, 6, 1, tzinfo=UTC)
    require_usable(JwkSetCollateral(jwks(EC_ENTRY)), end)
    keys = JwkSetCollateral(jwks(EC_ENTRY), end)
    require_usable(keys, end)
    with pytest.raises(Refused) as caught:
        require_usable(keys, end + timedelta(microseconds=1))
    assert caught.value.code == "jwks-expired"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "jwks-not-json"),
        (b"[]", "jwks-form"),
        (b"{}", "jwks-form"),
        (b'{"keys":{}}', "jwks-form"),
        (jwks(), "jwks-form"),
        (jwks(5), "jwks-form"),
        (jwks({"kty": "EC"}), "jwks-form"),
        (jwks({"kid": 5}), "jwks-form"),
        (jwks(*({"kid": str(n)} for n in range(MAX_KEYS + 1))), "jwks-form"),
        (b" " * (MAX_JWKS_BYTES + 1), "jwks-too-large"),
        (jwks(EC_ENTRY, EC_ENTRY), "jwks-duplicate-key"),
        (jwks(OTHER_EC), "jwks-key-unknown"),
        (jwks(EC_ENTRY | {"use": "enc"}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"key_ops": ["sign"]}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"key_ops": "verify"}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"alg": "RS256"}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"alg": None}), "jwks-key-kind"),
        (jwks(rsa_entry(2048, 65537) | {"alg": "PS256"}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"kty": "oct"}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"kty": None}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"crv": "P-256"}), "jwks-key-kind"),
        (jwks({"kty": "EC", "kid": "k"}), "jwks-key-kind"),
        (jwks({"kty": "RSA", "kid": "k"}), "jwks-key-kind"),
        (jwks(EC_ENTRY | {"x5c": RSA_ENTRY["x5c"]}), "jwks-certificate-mismatch"),
        (jwks({"kty": "EC", "kid": "k", "x5c": RSA_ENTRY["x5c"]}), "jwks-key-kind"),
        (jwks(rsa_entry(2048, 65537) | {"x5c": RSA_ENTRY["x5c"]}), "jwks-certificate-mismatch"),
        (jwks(EC_ENTRY | {"x": 5}), "jwks-base64"),
        (jwks(EC_ENTRY | {"x": EC_ENTRY["x"][:-1] + "="}), "jwks-base64"),
        (jwks(EC_ENTRY | {"x": EC_ENTRY["x"][:-4]}), "jwks-coordinate"),
        (jwks(EC_ENTRY | {"x": OTHER_EC["x"]}), "jwks-coordinate"),
        (jwks({name: EC_ENTRY[name] for name in ("kty", "kid", "crv", "x")}), "jwks-base64"),
        (jwks(EC_ENTRY | {"x5c": "MII"}), "jwks-form"),
        (jwks(RSA_ENTRY | {"x5c": RSA_ENTRY["x5c"] * 9}), "jwks-form"),
        (jwks(EC_ENTRY | {"x5c": ["AA=="]}), "jwks-certificate"),
        (jwks(EC_ENTRY | {"x5c": [base64.b64encode(bytes(32 * 1024)).decode()]}), "jwks-certificate"),
        (jwks(EC_ENTRY | {"x5c": [base64.b64encode(bytes(32 * 1024 + 2)).decode()]}), "jwks-too-large"),
        (jwks(EC_ENTRY | moved(EC_ENTRY, 1)), "jwks-too-large"),
        (jwks(EC_ENTRY | moved(EC_ENTRY, -1)), "jwks-too-large"),
        (jwks(rsa_entry(2047, 65537)), "jwks-key-kind"),
        (jwks(rsa_entry(8193, 65537)), "jwks-too-large"),
        (jwks(rsa_entry(2048, 3)), "jwks-key-kind"),
        (jwks(rsa_entry(2048, 65537) | {"n": ""}), "jwks-key-kind"),
        (jwks(rsa_entry(2048, 65537) | {"e": None}), "jwks-base64"),
        (
            jwks(rsa_entry(2048, 65537) | {"n": strict_json.b64url_encode(b"\x80" + bytes(255))}),
            "jwks-modulus",
        ),
    ],
)
def test_what_is_refused(document: bytes, expected: str) -> None:
    """Each with its own code."""
    assert code(document) == expected


def test_a_small_key_behind_a_certificate_is_refused_as_well() -> None:
    """The rules for keys hold whichever way a key is stated."""
    from attest.mock.maa import _self_signed  # noqa: PLC0415 - needed here only

    small = _self_signed(rsa.generate_private_key(65537, 1024))  # noqa: S505 - refused is what it is for
    entry = {"kty": "RSA", "kid": "k", "x5c": [base64.b64encode(small).decode()]}
    assert code(jwks(entry)) == "jwks-key-kind"
    odd = _self_signed(rsa.generate_private_key(3, 2048))
    assert code(jwks(entry | {"x5c": [base64.b64encode(odd).decode()]})) == "jwks-key-kind"


@settings(max_examples=80, deadline=None)
@given(
    changed=st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "x5c", "use", "alg", "key_ops", "kid"]),
        st.recursive(
            st.none() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=2), max_leaves=3
        ),
        min_size=2,
    )
)
def test_any_entry_only_refuses(changed: dict[str, Any]) -> None:
    """No entry raises anything else than a refusal."""
    document = jwks(EC_ENTRY | changed)
    try:
        signing_key(document, "k")
    except Refused:
        return
    assert {"x", "y", "crv", "kty", "kid", "use"}.isdisjoint(changed) or changed.get("use") == "sig"

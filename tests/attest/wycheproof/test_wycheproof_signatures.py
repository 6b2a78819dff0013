"""Wycheproof against the signatures that verdicts rest on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attest.evidence.tokens import CompactToken
from attest.refusal import Malformed, Refused
from attest.verify.jwk_set import signing_key
from attest.verify.jws import Algorithm, verified_claims
from attest.verify.p256 import require_p256_signature
from attest.verify.p384 import SIGNATURE_SIZE, require_der_signature, require_signed
from attest.verify.rsa_pss import _SIGNED_TAILS, verify_pss
from tests.attest.wycheproof.wycheproof import cases, unhex


def _key(group: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _holds(case: str, valid: bool, check: Any) -> None:
    if valid:
        check()
        return
    with pytest.raises(Refused) as refusal:
        check()
    assert refusal.value.code == "code", case


def test_p256_as_intel_writes_it(wycheproof: Path) -> None:
    """R and s of 32 bytes each."""
    for group, test in cases(wycheproof, "ecdsa_secp256r1_sha256_p1363"):
        message, signature = unhex(test, "msg", "sig")
        key = _key(group)
        _holds(
            f"{test['tcId']}: {test['comment']}",
            test["result"] == "valid",
            lambda key=key, signature=signature, message=message: require_p256_signature(
                key, signature, message, "code", clause="", what=""
            ),
        )


def test_p384_as_nvidias_devices_write_it(wycheproof: Path) -> None:
    """R and s of 48 bytes each; another length never comes out of the reader of reports."""
    for group, test in cases(wycheproof, "ecdsa_secp384r1_sha384_p1363"):
        message, signature = unhex(test, "msg", "sig")
        if len(signature) != SIGNATURE_SIZE:
            assert test["result"] == "invalid"
            continue
        half = SIGNATURE_SIZE // 2
        r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        key = _key(group)
        _holds(
            f"{test['tcId']}: {test['comment']}",
            test["result"] == "valid",
            lambda key=key, r=r, s=s, message=message: require_signed(key, r, s, message, "code", what=""),
        )


def test_p384_in_der(wycheproof: Path) -> None:
    """As certificates, manifests and answers carry it: one encoding of one signature."""
    for group, test in cases(wycheproof, "ecdsa_secp384r1_sha384"):
        message, signature = unhex(test, "msg", "sig")
        key = _key(group)
        _holds(
            f"{test['tcId']}: {test['comment']}",
            test["result"] == "valid",
            lambda key=key, signature=signature, message=message: require_der_signature(
                key, signature, message, "code", what=""
            ),
        )


class _Issuer:
    """As much of a certificate as is asked for."""

    def __init__(self, group: dict[str, Any]) -> None:
        self.key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))

    def public_key(self) -> object:
        """The key."""
        return self.key


def test_rsa_pss_as_amd_writes_it(wycheproof: Path) -> None:
    """The message stands where the signed part of a certificate does."""
    seen: Counter[str] = Counter()
    for group, test in cases(wycheproof, "rsa_pss_4096_sha384_mgf1_48"):
        message, signature = unhex(test, "msg", "sig")
        issuer = cast("x509.Certificate", _Issuer(group))
        der = b"\x30\x82\x00\x00" + message + _SIGNED_TAILS[0] + signature
        seen[test["result"]] += 1
        if test["result"] != "invalid":
            verify_pss(der, message, signature, issuer, prefix="certificate", role="leaf")
            continue
        with pytest.raises(Refused, match=r"certificate-(signature|algorithm)"):
            verify_pss(der, message, signature, issuer, prefix="certificate", role="leaf")
    assert min(seen["valid"], seen["invalid"]) > 30


OURS: frozenset[str] = frozenset({"RS256", "ES384"})
ROCA = "rejectsKeyWithRocaVulnerability"
"""A key that its own issuer made badly: whose keys count is settled before, by whose set they are in."""


@pytest.mark.parametrize("name", ["json_web_signature", "json_web_key"])
def test_tokens(wycheproof: Path, name: str) -> None:
    """Only the two algorithms that services use, and of them exactly what is valid."""
    seen: Counter[str] = Counter()
    for group, test in cases(wycheproof, name):
        key = group.get("public", group["private"])
        keys = key if "keys" in key else {"keys": [key]}
        holds = _token_holds(test["jws"], json.dumps(keys).encode())
        ours = test["result"] == "valid" and _algorithm(test["jws"]) in OURS
        if test["comment"] != ROCA:
            assert holds is ours, f"{test['tcId']}: {test['comment']}"
        seen["holds" if holds else "refused"] += 1
    assert min(seen.values()) > (5 if name == "json_web_signature" else 0)


def _algorithm(token: Any) -> str:
    try:
        return CompactToken.parse(token, name="token").algorithm
    except Malformed:
        return ""


def _token_holds(token: Any, keys: bytes) -> bool:
    """Whether the signature is taken; what is signed there is seldom JSON, which is looked at afterwards."""
    try:
        parsed = CompactToken.parse(token, name="token")
        key = signing_key(keys, parsed.key_id)
    except Refused:
        return False
    try:
        verified_claims(parsed, key, cast("Algorithm", parsed.algorithm), name="claims")
    except Malformed as error:
        return error.code.startswith("claims-")
    except Refused:
        return False
    return True

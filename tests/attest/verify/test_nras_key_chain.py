"""From a signing key of the GPU verdict service to a pinned intermediate: each link of the chain cut."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attest.checks import CheckList
from attest.collateral.tokens import NRAS_ISSUER, JwkSetCollateral, NrasRoots
from attest.mock.nras import KEY_ID, MockDevice, MockNras
from attest.refusal import Refused
from attest.verify.nras import VerifiedNras, verify_nras

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(range(32))
LEAF_KEY = ec.generate_private_key(ec.SECP384R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())
IssuerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def name(text: str) -> x509.Name:
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    issuer: str,
    key: IssuerKey,
    issuer_key: IssuerKey,
    *,
    days: int = 2,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
) -> bytes:
    """A certificate from a day ago, DER."""
    start = NOW - timedelta(days=1)
    builder = x509.CertificateBuilder(
        name(issuer), name(subject), key.public_key(), 1, start, start + timedelta(days=days)
    )
    return builder.sign(issuer_key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def judge(
    leaf: bytes, intermediate: bytes, *, now: datetime = NOW, not_after: datetime | None = None
) -> VerifiedNras:
    """A whole verdict under a key set of this chain, with this intermediate pinned."""
    service = MockNras(LEAF_KEY)
    answer = service.answer(
        NONCE, (MockDevice("GPU-0", {"iss": NRAS_ISSUER}),), now=NOW, changed={"iss": NRAS_ISSUER}
    )
    chain = [base64.b64encode(der).decode() for der in (leaf, intermediate)]
    keys = json.dumps({"keys": [{"kty": "EC", "kid": KEY_ID, "x5c": chain}]}).encode()
    roots = NrasRoots(nvidia=True, intermediates=frozenset({hashlib.sha256(intermediate).hexdigest()}))
    collateral = JwkSetCollateral(keys, not_after)
    return verify_nras(answer, collateral, roots, nonce=NONCE, now=now, checks=CheckList())


INTERMEDIATE = certificate("intermediate", "root", RSA_KEY, OTHER_RSA_KEY, days=900)


def test_a_chain_that_holds() -> None:
    """The verdict ends with the token, or with the certificate that ends first."""
    assert judge(certificate("leaf", "intermediate", LEAF_KEY, RSA_KEY), INTERMEDIATE).vendor == "nvidia"
    start = NOW - timedelta(days=1)
    builder = x509.CertificateBuilder(
        name("intermediate"), name("leaf"), LEAF_KEY.public_key(), 1, start, NOW + timedelta(minutes=1)
    )
    short = builder.sign(RSA_KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    assert judge(short, INTERMEDIATE).not_after == NOW + timedelta(minutes=1)
    for minutes, end in ((2, 1), (1, 1), (0, 0)):  # of the key set
        verified = judge(short, INTERMEDIATE, not_after=NOW + timedelta(minutes=minutes))
        assert verified.not_after == NOW + timedelta(minutes=end)
    ending = certificate("intermediate", "root", RSA_KEY, OTHER_RSA_KEY, days=1)
    assert judge(certificate("leaf", "intermediate", LEAF_KEY, RSA_KEY), ending).not_after == NOW


@pytest.mark.parametrize(
    ("leaf", "intermediate"),
    [
        (certificate("leaf", "another", LEAF_KEY, RSA_KEY), INTERMEDIATE),
        (certificate("leaf", "intermediate", LEAF_KEY, OTHER_RSA_KEY), INTERMEDIATE),
        (certificate("leaf", "intermediate", LEAF_KEY, RSA_KEY, digest=hashes.SHA384()), INTERMEDIATE),
        (
            certificate("leaf", "intermediate", LEAF_KEY, EC_KEY),
            certificate("intermediate", "root", EC_KEY, OTHER_RSA_KEY),
        ),
    ],
)
def test_a_chain_that_does_not_hold(leaf: bytes, intermediate: bytes) -> None:
    """Another issuer's name, key, hash or kind of key is no link to the pin."""
    with pytest.raises(Refused) as caught:
        judge(leaf, intermediate)
    assert caught.value.code == "nras-key-chain"


def test_an_intermediate_that_has_ended() -> None:
    """A pin does not outlive its certificate."""
    ended = certificate("intermediate", "root", RSA_KEY, OTHER_RSA_KEY, days=1)
    with pytest.raises(Refused) as caught:
        judge(certificate("leaf", "intermediate", LEAF_KEY, RSA_KEY), ended, now=NOW + timedelta(seconds=1))
    assert caught.value.code == "certificate-expired"

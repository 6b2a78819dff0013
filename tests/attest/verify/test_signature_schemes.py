"""The one algorithm of each vendor: how it may be spelled, and whose key it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attest.mock.snp_certificates import name
from attest.mock.vendor import MockKeys
from attest.refusal import Refused
from attest.verify.p256 import verify_p256
from attest.verify.p384 import verify_p384
from attest.verify.rsa_pss import verify_pss
from attest.verify.x509 import SignatureScheme
from tests.simulators.snp_world import NOW

RSA_2048 = rsa.generate_private_key(65537, 2048)
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())

# RFC 4055 section 2.1, each whole: with and without the NULL of either hash, with and without the trailer.
SPELLINGS = [
    (
        "304106092a864886f70d01010a3034"
        "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500"
        "a203020130"
    ),
    (
        "304606092a864886f70d01010a3039"
        "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500"
        "a203020130a303020101"
    ),
    (
        "303f06092a864886f70d01010a3032"
        "a00f300d06096086480165030402020500a11a301806092a864886f70d010108300b0609608648016503040202"
        "a203020130"
    ),
    (
        "304406092a864886f70d01010a3037"
        "a00f300d06096086480165030402020500a11a301806092a864886f70d010108300b0609608648016503040202"
        "a203020130a303020101"
    ),
    (
        "303f06092a864886f70d01010a3032"
        "a00d300b0609608648016503040202a11c301a06092a864886f70d010108300d06096086480165030402020500"
        "a203020130"
    ),
    (
        "304406092a864886f70d01010a3037"
        "a00d300b0609608648016503040202a11c301a06092a864886f70d010108300d06096086480165030402020500"
        "a203020130a303020101"
    ),
    (
        "303d06092a864886f70d01010a3030"
        "a00d300b0609608648016503040202a11a301806092a864886f70d010108300b0609608648016503040202"
        "a203020130"
    ),
    (
        "304206092a864886f70d01010a3035"
        "a00d300b0609608648016503040202a11a301806092a864886f70d010108300b0609608648016503040202"
        "a203020130a303020101"
    ),
]


def issued(key: Any, signer: Any, algorithm: hashes.HashAlgorithm) -> x509.Certificate:
    """A certificate over a key, in whatever algorithm."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("issuer"))
        .issuer_name(name("issuer"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    return builder.sign(signer, algorithm)


def code_of(verify: SignatureScheme, leaf: x509.Certificate, issuer: x509.Certificate) -> str | None:
    """The code with which a scheme refuses the certificate, if it does."""
    der = leaf.public_bytes(Encoding.DER)
    try:
        verify(der, leaf.tbs_certificate_bytes, leaf.signature, issuer, prefix="x", role="leaf")
    except Refused as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_pss(spelling: str, mock_keys: MockKeys) -> None:
    """Each of the eight is the algorithm, with 512 bytes of signature after it and nothing else."""
    issuer = issued(mock_keys.ark, mock_keys.ark, hashes.SHA384())
    signed, algorithm = b"signed part", bytes.fromhex(spelling)
    signature = mock_keys.ark.sign(signed, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    bits = bytes.fromhex("0382020100") + signature
    size = (len(signed) + len(algorithm) + len(bits)).to_bytes(2, "big")

    def verify(tail: bytes) -> None:
        der = b"\x30\x82" + size + signed + tail
        verify_pss(der, signed, signature, issuer, prefix="x", role="leaf")

    verify(algorithm + bits)
    for tail in (algorithm + bits + b"\x00", algorithm + bits[:-1], algorithm + bits[1:], b"\x00" + bits):
        with pytest.raises(Refused, match="x-algorithm"):
            verify(tail)


def test_keys_without_a_size(mock_keys: MockKeys) -> None:
    """A key of a kind that has none is another key, not an error."""
    edwards = ed25519.Ed25519PrivateKey.generate()
    issuer = issued(edwards, mock_keys.ark, hashes.SHA384())
    leaf = issued(mock_keys.chip, mock_keys.ark, hashes.SHA384())
    for verify in (verify_pss, verify_p256, verify_p384):
        assert code_of(verify, leaf, issuer) == "x-key"


@pytest.mark.parametrize(
    ("verify", "curve", "other", "algorithm", "others"),
    [
        (verify_p256, P256, P384, hashes.SHA256(), (hashes.SHA384(), hashes.SHA224())),
        (verify_p384, P384, P256, hashes.SHA384(), (hashes.SHA256(), hashes.SHA512())),
    ],
)
def test_the_one_algorithm_of_a_curve(
    verify: SignatureScheme,
    curve: ec.EllipticCurvePrivateKey,
    other: ec.EllipticCurvePrivateKey,
    algorithm: hashes.HashAlgorithm,
    others: tuple[hashes.HashAlgorithm, ...],
) -> None:
    """One curve, one digest; the key of the issuer and what the certificate states must both be it."""
    issuer = issued(curve, curve, algorithm)
    assert code_of(verify, issuer, issuer) is None
    for each in others:
        assert code_of(verify, issued(curve, curve, each), issuer) == "x-algorithm"
    for key in (other, RSA_2048):
        strange = issued(key, key, algorithm)
        assert code_of(verify, issuer, strange) == "x-key"
    another = issued(curve, ec.generate_private_key(curve.curve), algorithm)
    assert code_of(verify, another, issuer) == "x-signature"


@pytest.mark.parametrize("bits", [2048, 1024 + 8])
@pytest.mark.parametrize(("verify", "curve"), [(verify_p256, P256), (verify_p384, P384)])
def test_a_signature_longer_than_any_of_the_curve(
    verify: SignatureScheme, curve: ec.EllipticCurvePrivateKey, bits: int
) -> None:
    """A certificate of another algorithm is refused, however long its signature is."""
    signer = rsa.generate_private_key(65537, bits)
    leaf = issued(curve, signer, hashes.SHA256())
    assert code_of(verify, leaf, issued(curve, curve, hashes.SHA256())) == "x-algorithm"

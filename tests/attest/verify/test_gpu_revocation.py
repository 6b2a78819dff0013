"""Revocation answers of every kind, on every certificate that can be revoked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from attest.checks import CheckList, Outcome
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_certificates import Authority, ocsp_answer
from attest.mock.nvidia_report import MockGpu
from attest.refusal import Malformed, Refused
from attest.verify.ocsp import Issued, OcspAnswer
from tests.simulators.gpu_world import NOW, GpuWorld

Pair = tuple[x509.Certificate, Authority]


def pairs(vendor: MockGpuVendor) -> dict[str, Pair]:
    """Every certificate that can be revoked, with its issuer."""
    chip = vendor.device(MockGpu())[1]
    return {
        "chip": (chip.certificate, vendor.provisioner),
        "provisioner": (vendor.provisioner.certificate, vendor.identity),
        "identity": (vendor.identity.certificate, vendor.device_root),
        "rim signer": (vendor.rim_signer.certificate, vendor.rim_intermediate),
        "rim intermediate": (vendor.rim_intermediate.certificate, vendor.rim_ca),
        "rim ca": (vendor.rim_ca.certificate, vendor.rim_root),
    }


NAMES = ("chip", "provisioner", "identity", "rim signer", "rim intermediate", "rim ca")


def code_of(world: GpuWorld, *answers: bytes, days: int = 0) -> str:
    """The code with which these answers, added to the good ones, refuse."""
    good = world.collateral()
    collateral = replace(good, ocsp=(*good.ocsp, *answers))
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        world.verify(collateral=collateral, now=NOW + timedelta(days=days), checks=checks)
    assert checks.rows[-1].name == "GPU revocation"
    assert checks.rows[-1].outcome is Outcome.REFUSED
    return refusal.value.code


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("status", "code"), [("revoked", "certificate-revoked"), ("unknown", "ocsp-unknown")]
)
def test_a_bad_answer_beside_a_good_one(
    name: str, status: Literal["revoked", "unknown"], code: str, gpu_world: GpuWorld
) -> None:
    """Whatever else came along, one bad answer refuses."""
    about, issuer = pairs(gpu_world.vendor)[name]
    assert code_of(gpu_world, ocsp_answer(about, issuer, issued_at=NOW, status=status)) == code


@pytest.mark.parametrize("place", range(6))
def test_each_missing_answer_is_noted(place: int, gpu_world: GpuWorld) -> None:
    """Five of six answers are not all: it is said which certificate has none."""
    good = gpu_world.collateral()
    answers = tuple(answer for number, answer in enumerate(good.ocsp) if number != place)
    checks = CheckList()
    verified = gpu_world.verify(collateral=replace(good, ocsp=answers), checks=checks)
    assert not verified.revocation_checked
    row = checks.rows[-1]
    assert (row.name, row.outcome) == ("GPU revocation", Outcome.NOTED)
    roles = ["device authority 1", "device authority 2", "device authority 3"]
    roles += ["RIM signer", "RIM authority 1", "RIM authority 2"]
    assert row.got == f"none on {roles[place]}"
    assert gpu_world.verify(collateral=replace(good, ocsp=()), checks=CheckList()).revocation_checked is False


def test_answers_end(gpu_world: GpuWorld) -> None:
    """An answer lives for a day; the verdict ends with the first of them."""
    verified = gpu_world.verify()
    assert verified.not_after == NOW - timedelta(minutes=5) + timedelta(days=1)
    good = gpu_world.collateral()
    about, issuer = pairs(gpu_world.vendor)["chip"]
    older = ocsp_answer(about, issuer, issued_at=NOW - timedelta(hours=20))
    both = replace(good, ocsp=(older, *good.ocsp))
    assert gpu_world.verify(collateral=both).not_after == verified.not_after - timedelta(hours=20)
    stale = ocsp_answer(about, issuer, issued_at=NOW - timedelta(days=2))
    assert code_of(gpu_world, stale) == "ocsp-expired"
    future = ocsp_answer(about, issuer, issued_at=NOW + timedelta(hours=1))
    assert code_of(gpu_world, future) == "ocsp-not-yet-valid"


def test_answers_about_others_are_left_alone(gpu_world: GpuWorld) -> None:
    """Answers for another device of the board are no answers for this one, and do no harm."""
    vendor, good = gpu_world.vendor, gpu_world.collateral()
    other = vendor.device(MockGpu(index=1))[1]
    foreign = ocsp_answer(other.certificate, vendor.provisioner, issued_at=NOW, status="revoked")
    assert gpu_world.verify(collateral=replace(good, ocsp=(*good.ocsp, foreign))).revocation_checked
    assert not gpu_world.verify(collateral=replace(good, ocsp=(*good.ocsp[1:], foreign))).revocation_checked
    # Same serial number under another issuer: not about this certificate.
    about, _ = pairs(vendor)["chip"]
    namesake = ocsp_answer(about, vendor.identity, issued_at=NOW)
    assert not gpu_world.verify(collateral=replace(good, ocsp=(namesake, *good.ocsp[1:]))).revocation_checked


Change = Callable[[ocsp.OCSPResponseBuilder], ocsp.OCSPResponseBuilder]


def answer(
    pair: Pair,
    *,
    responder_issuer: Authority | None = None,
    purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.OCSP_SIGNING,
    key: ec.EllipticCurvePrivateKey | None = None,
    algorithm: hashes.HashAlgorithm | None = None,
    next_update: bool = True,
    certificates: int = 1,
    change: Change = lambda builder: builder,
    lifetime: timedelta = timedelta(days=2),
) -> bytes:
    """An answer in which one thing is other than it should be."""
    about, issuer = pair
    key = key or ec.generate_private_key(ec.SECP384R1())
    appointing = responder_issuer or issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")]))
        .issuer_name(appointing.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW - timedelta(days=1) + lifetime)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    responder = builder.sign(appointing.key, hashes.SHA384())
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=about,
            issuer=issuer.certificate,
            algorithm=hashes.SHA384(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=NOW - timedelta(minutes=1),
            next_update=NOW + timedelta(hours=1) if next_update else None,
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder)
    )
    if certificates:
        response = response.certificates([responder] * certificates)
    signed = change(response).sign(key, algorithm or hashes.SHA384())
    return signed.public_bytes(Encoding.DER)


def critical(builder: ocsp.OCSPResponseBuilder) -> ocsp.OCSPResponseBuilder:
    """With an extension that must be understood."""
    oid = x509.ObjectIdentifier("1.2.3.4")
    return builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=True)


def test_responders(gpu_world: GpuWorld) -> None:
    """A responder is appointed by the certificate's own issuer, for this, and signs itself."""
    vendor = gpu_world.vendor
    pair = pairs(vendor)["chip"]
    plain = ec.generate_private_key(ec.SECP384R1())
    assert code_of(gpu_world, answer(pair, lifetime=timedelta(hours=23))) == "certificate-expired"
    assert code_of(gpu_world, answer(pair, purpose=None)) == "ocsp-responder"
    assert code_of(gpu_world, answer(pair, purpose=ExtendedKeyUsageOID.SERVER_AUTH)) == "ocsp-responder"
    assert code_of(gpu_world, answer(pair, responder_issuer=vendor.identity)) == "certificate-issuer"
    impostor = Authority(plain, vendor.provisioner.certificate)
    assert code_of(gpu_world, answer(pair, responder_issuer=impostor)) == "certificate-signature"
    good = answer(pair)
    signature = ocsp.load_der_ocsp_response(good).signature
    altered = signature[:-1] + bytes([signature[-1] ^ 1])
    assert code_of(gpu_world, good.replace(signature, altered)) == "ocsp-signature"
    assert code_of(gpu_world, answer(pair, algorithm=hashes.SHA256())) == "ocsp-algorithm"
    small = ec.generate_private_key(ec.SECP256R1())
    assert code_of(gpu_world, answer(pair, key=small)) == "certificate-key"
    assert code_of(gpu_world, answer(pair, change=critical)) == "ocsp-critical-extension"


def test_forms(gpu_world: GpuWorld) -> None:
    """What is no answer at all is malformed, even if it would be about nobody."""
    pair = pairs(gpu_world.vendor)["chip"]
    good = answer(pair)
    for broken in (b"", b"x", good[:-1], good + b"x", good + b" " * 8192):
        assert code_of(gpu_world, broken) == "ocsp-malformed"
    assert code_of(gpu_world, answer(pair, next_update=False)) == "ocsp-malformed"
    assert code_of(gpu_world, answer(pair, certificates=0)) == "ocsp-malformed"
    assert code_of(gpu_world, answer(pair, certificates=2)) == "ocsp-malformed"
    later = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    assert code_of(gpu_world, later.public_bytes(Encoding.DER)) == "ocsp-unsuccessful"
    assert code_of(gpu_world, *[good] * 123) == "ocsp-too-many"  # six are there already
    most = replace(gpu_world.collateral(), ocsp=(*gpu_world.collateral().ocsp, *[good] * 122))
    assert gpu_world.verify(collateral=most).revocation_checked


def _of_size(pair: Pair, size: int) -> bytes:
    """A good answer that is exactly so long: an extension fills it up. Signatures vary in length."""
    oid, filling = x509.ObjectIdentifier("1.2.3.4"), size - 1500
    while True:
        extension = x509.UnrecognizedExtension(oid, bytes(filling))
        made = answer(pair, change=lambda builder: builder.add_extension(extension, critical=False))  # noqa: B023 - called at once
        if len(made) == size:
            return made
        filling += size - len(made)


def test_the_longest_answer(gpu_world: GpuWorld) -> None:
    """8 KiB are read, and one byte more is not, well formed though it is."""
    pair = pairs(gpu_world.vendor)["chip"]
    assert len(OcspAnswer.parse(_of_size(pair, 8192)).der) == 8192
    with pytest.raises(Malformed) as refusal:
        OcspAnswer.parse(_of_size(pair, 8193))
    assert refusal.value.code == "ocsp-malformed"


@pytest.mark.parametrize(
    ("algorithm", "known"),
    [(hashes.SHA1(), True), (hashes.SHA256(), True), (hashes.SHA384(), True), (hashes.SHA512(), False)],  # noqa: S303 - as RFC 6960 allows; it names, it protects nothing
    ids=lambda value: getattr(value, "name", value),
)
def test_how_an_answer_names_its_certificate(
    algorithm: hashes.HashAlgorithm, known: bool, gpu_world: GpuWorld
) -> None:
    """Issuer and serial number both, by a digest that is known (RFC 6960 section 4.1.1)."""
    about, issuer = pairs(gpu_world.vendor)["chip"]
    other, its_issuer = pairs(gpu_world.vendor)["provisioner"]
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=about,
        issuer=issuer.certificate,
        algorithm=algorithm,
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=NOW,
        next_update=NOW + timedelta(days=1),
        revocation_time=None,
        revocation_reason=None,
    )
    named = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
    signed = named.certificates([issuer.certificate]).sign(issuer.key, hashes.SHA384())
    answer = OcspAnswer.parse(signed.public_bytes(Encoding.DER))
    assert answer.speaks_of(Issued(about, issuer.certificate, "chip")) is known
    assert answer.speaks_of(Issued(other, issuer.certificate, "another serial number")) is False
    assert answer.speaks_of(Issued(about, its_issuer.certificate, "another issuer")) is False

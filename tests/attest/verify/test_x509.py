"""The X.509 steps alone: each refuses what no longer chain test reaches."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.mock.snp_certificates import name
from attest.mock.vendor import MockKeys
from attest.refusal import Malformed, Refused
from attest.verify.crl import MAX_CRL_BYTES, require_not_revoked, verify_crl
from attest.verify.x509 import (
    MAX_CERTIFICATE_BYTES,
    MAX_SHOWN,
    common_name,
    load_certificate,
    require_window,
    shown,
    verify_issued,
)
from tests.simulators.snp_world import NOW, SnpWorld

PSS_48 = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def usage(*, sign: bool = True) -> x509.KeyUsage:
    """KeyUsage with only keyCertSign."""
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def certificate(
    subject_key: Any, issuer_key: Any, *extensions: tuple[x509.ExtensionType, bool], **signing: Any
) -> x509.Certificate:
    """A certificate "leaf" by "issuer"."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("leaf"))
        .issuer_name(name("issuer"))
        .public_key(subject_key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    options = {"algorithm": hashes.SHA384(), "rsa_padding": PSS_48} | signing
    return builder.sign(issuer_key, options.pop("algorithm"), **options)


def issuer_certificate(
    key: Any, *extensions: tuple[x509.ExtensionType, bool], signer: Any = None
) -> x509.Certificate:
    """A certificate "issuer" over a key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("issuer"))
        .issuer_name(name("issuer"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer or key, hashes.SHA384())


CA = ((x509.BasicConstraints(ca=True, path_length=0), True), (usage(), True))


@pytest.fixture(scope="module")
def issuer(mock_keys: MockKeys) -> x509.Certificate:
    """An authority over the mock's root key."""
    return issuer_certificate(mock_keys.ark, *CA)


def refuse(code: str, leaf: x509.Certificate, issuer: x509.Certificate) -> None:
    """Require that the leaf is not taken as issued by the issuer."""
    with pytest.raises(Refused) as refusal:
        verify_issued(leaf, leaf.public_bytes(Encoding.DER), issuer, role="leaf")
    assert refusal.value.code == code


def test_the_one_algorithm(mock_keys: MockKeys, issuer: x509.Certificate) -> None:
    """RSASSA-PSS with SHA-384, MGF1-SHA-384 and salt 48; every other choice of the issuer is refused."""
    good = certificate(mock_keys.chip, mock_keys.ark)
    verify_issued(good, good.public_bytes(Encoding.DER), issuer, role="leaf")
    for signing in (
        {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA384()), 32)},
        {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA256()), 48)},
        {"algorithm": hashes.SHA256()},
        {"algorithm": hashes.SHA512()},
        {"rsa_padding": padding.PKCS1v15()},
    ):
        refuse("certificate-algorithm", certificate(mock_keys.chip, mock_keys.ark, **signing), issuer)


def test_issuer_key_is_rsa_4096(mock_keys: MockKeys) -> None:
    """A shorter RSA key, or a key of another kind, is not AMD's."""
    short = rsa.generate_private_key(65537, 2048)
    refuse("certificate-key", certificate(mock_keys.chip, short), issuer_certificate(short, *CA))
    curve = ec.generate_private_key(ec.SECP384R1())
    refuse(
        "certificate-key",
        certificate(mock_keys.chip, curve, rsa_padding=None),
        issuer_certificate(curve, *CA),
    )


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        ((x509.BasicConstraints(ca=True, path_length=0), True),),
        ((usage(), True),),
        ((x509.BasicConstraints(ca=False, path_length=None), True), (usage(), True)),
        ((x509.BasicConstraints(ca=True, path_length=0), True), (usage(sign=False), True)),
    ],
)
def test_issuer_must_be_an_authority(
    extensions: tuple[tuple[x509.ExtensionType, bool], ...], mock_keys: MockKeys
) -> None:
    """A leaf must not issue leaves."""
    leaf = certificate(mock_keys.chip, mock_keys.ark)
    refuse("certificate-authority", leaf, issuer_certificate(mock_keys.ark, *extensions))


def test_unknown_critical_extension(mock_keys: MockKeys, issuer: x509.Certificate) -> None:
    """What is critical must be understood; what is not may be passed over."""
    refuse(
        "certificate-critical-extension", certificate(mock_keys.chip, mock_keys.ark, (STRANGE, True)), issuer
    )
    tolerated = certificate(mock_keys.chip, mock_keys.ark, (STRANGE, False))
    verify_issued(tolerated, tolerated.public_bytes(Encoding.DER), issuer, role="leaf")


def test_issuer_name(world: SnpWorld, issuer: x509.Certificate) -> None:
    """Signed by the right key, under another name."""
    refuse("certificate-issuer", world.ask, issuer)


@pytest.mark.parametrize("count", [0, 2])
def test_one_common_name(count: int) -> None:
    """Two common names are two readings."""
    names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"n{i}") for i in range(count)])
    with pytest.raises(Malformed, match=r"^certificate-malformed: leaf: \d common names"):
        common_name(names, role="leaf")


def test_a_common_name_that_cannot_be_shown() -> None:
    """A name that would move the cursor names nobody."""
    names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b[2J")])
    with pytest.raises(Malformed, match=r"^certificate-malformed: leaf: a common name that cannot be shown"):
        common_name(names, role="leaf")


@pytest.mark.parametrize("value", ["3004a5028000", "3004a3028000"])
def test_names_of_kinds_that_the_library_does_not_know(value: str) -> None:
    """An ediPartyName or x400Address in an extension is no way to another exception."""
    key = ec.generate_private_key(ec.SECP384R1())
    alternative = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex(value))
    signing = {"algorithm": hashes.SHA384(), "rsa_padding": None}
    der = certificate(key, key, (alternative, False), **signing).public_bytes(Encoding.DER)
    with pytest.raises(Malformed, match="certificate-malformed"):
        load_certificate(der, role="leaf")


def test_certificate_bytes(world: SnpWorld) -> None:
    """Exactly one certificate, of bounded size."""
    der = world.leaf()
    assert load_certificate(der, role="leaf").public_bytes(Encoding.DER) == der
    for junk in (
        b"",
        der[:-1],
        der + b"\x00",
        bytes(MAX_CERTIFICATE_BYTES + 1),
        b"-----BEGIN CERTIFICATE-----",
    ):
        with pytest.raises(Malformed, match="certificate-malformed"):
            load_certificate(junk, role="leaf")


def test_size_is_bounded_before_parsing(world: SnpWorld) -> None:
    """A well-formed certificate beyond the bound is not even read."""
    large = world.leaf(world.extensions() | {"77": bytes(MAX_CERTIFICATE_BYTES)})
    with pytest.raises(Malformed, match=r"\d+ bytes"):
        load_certificate(large, role="leaf")
    for size in (0, MAX_CRL_BYTES + 1):
        with pytest.raises(Malformed, match=f"crl-malformed: {size} bytes"):
            verify_crl(bytes(size), world.ark, NOW)


def crl_of(world: SnpWorld, *extensions: tuple[x509.ExtensionType, bool], **signing: Any) -> bytes:
    """A list of the root with extensions, DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(world.ark_issuer.common_name))
        .last_update(NOW - timedelta(days=1))
        .next_update(NOW + timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    options = {"algorithm": hashes.SHA384(), "rsa_padding": PSS_48} | signing
    return builder.sign(world.keys.ark, options.pop("algorithm"), **options).public_bytes(Encoding.DER)


def test_list_with_a_critical_extension(world: SnpWorld) -> None:
    """A delta or partial list is silent about the rest: its silence proves nothing."""
    assert verify_crl(crl_of(world, (x509.CRLNumber(1), False)), world.ark, NOW) is not None
    for partial in (x509.DeltaCRLIndicator(1), STRANGE):
        with pytest.raises(Refused, match="crl-critical-extension"):
            verify_crl(crl_of(world, (partial, True)), world.ark, NOW)


def padded(world: SnpWorld, size: int) -> bytes:
    """A list of exactly ``size`` bytes."""
    short = size - len(crl_of(world, (x509.UnrecognizedExtension(STRANGE.oid, bytes(size // 2)), False)))
    padding = x509.UnrecognizedExtension(STRANGE.oid, bytes(size // 2 + short))
    return crl_of(world, (padding, False))


def test_the_largest_that_are_read(world: SnpWorld) -> None:
    """Bounds are inclusive."""
    largest = padded(world, MAX_CRL_BYTES)
    assert len(largest) == MAX_CRL_BYTES
    assert verify_crl(largest, world.ark, NOW) is not None
    with pytest.raises(Malformed) as refusal:
        verify_crl(padded(world, MAX_CRL_BYTES + 1), world.ark, NOW)
    assert refusal.value.code == "crl-malformed"
    for size in (MAX_CERTIFICATE_BYTES, MAX_CERTIFICATE_BYTES + 1):
        short = size - len(world.leaf(world.extensions() | {"77": bytes(size // 2)}))
        der = world.leaf(world.extensions() | {"77": bytes(size // 2 + short)})
        assert len(der) == size
        if size == MAX_CERTIFICATE_BYTES:
            assert load_certificate(der, role="leaf").public_bytes(Encoding.DER) == der
        else:
            with pytest.raises(Malformed) as refusal:
                load_certificate(der, role="leaf")
            assert refusal.value.code == "certificate-malformed"


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        (NOW - timedelta(seconds=1), "x-not-yet-valid"),
        (NOW, ""),
        (NOW + timedelta(hours=1), ""),
        (NOW + timedelta(hours=1, microseconds=1), "x-expired"),
    ],
)
def test_windows_to_the_second(moment: datetime, code: str) -> None:
    """The first and the last moment belong to a window (RFC 5280 section 4.1.2.5)."""
    got = ""
    try:
        require_window(NOW, NOW + timedelta(hours=1), moment, prefix="x", role="x")
    except Refused as refusal:
        got = refusal.code
    assert got == code


def test_list_by_another_algorithm(world: SnpWorld) -> None:
    """The same one algorithm as for certificates."""
    with pytest.raises(Refused, match="crl-algorithm"):
        verify_crl(crl_of(world, algorithm=hashes.SHA256()), world.ark, NOW)


def test_list_by_a_key_of_another_kind(world: SnpWorld) -> None:
    """A root whose key is not RSA-4096 signs no list either."""
    short = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateRevocationListBuilder().issuer_name(name("issuer"))
    crl = builder.last_update(NOW).next_update(NOW + timedelta(days=1)).sign(short, hashes.SHA384())
    with pytest.raises(Refused, match="crl-key"):
        verify_crl(crl.public_bytes(Encoding.DER), issuer_certificate(short, *CA), NOW)


def test_list_without_end(world: SnpWorld) -> None:
    """A list that never ends would hide every later revocation."""
    crl = world.crl()
    last, following = (text.encode() for text in ("260531000000Z", "260630000000Z"))
    both = b"\x17\x0d" + last + b"\x17\x0d" + following
    assert crl.count(both) == 1
    endless = bytearray(crl.replace(both, b"\x17\x0d" + last))
    assert (endless[1], endless[5]) == (0x82, 0x81)  # how the two outer lengths are written
    endless[2:4] = (int.from_bytes(endless[2:4], "big") - 15).to_bytes(2, "big")
    endless[6] -= 15
    with pytest.raises(Malformed, match=r"^crl-malformed: no nextUpdate"):
        verify_crl(bytes(endless), world.ark, NOW)


def test_revocation_names_the_certificate(world: SnpWorld) -> None:
    """The refusal says which serial number."""
    crl = verify_crl(world.crl(world.ask.serial_number), world.ark, NOW)
    with pytest.raises(Refused) as refusal:
        require_not_revoked(world.ask, crl, role="ASK")
    assert f"{world.ask.serial_number:#x}" in refusal.value.got
    require_not_revoked(world.ark, crl, role="ARK")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_junk(data: st.DataObject, world: SnpWorld) -> None:
    """Whatever is spliced into a certificate or a list: a parsed thing or a refusal, never another error."""
    crl = data.draw(st.booleans())
    good = world.crl(5, 6) if crl else world.leaf()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 30)))
    changed = good[:start] + data.draw(st.binary(max_size=30)) + good[end:]
    try:
        if crl:
            require_not_revoked(world.ask, verify_crl(changed, world.ark, NOW), role="ASK")
        else:
            certificate = load_certificate(changed, role="leaf")
            verify_issued(certificate, changed, world.ask, role="leaf")
    except Refused:
        assert changed != good
    else:
        assert changed == good


def test_names_are_safe_to_show() -> None:
    """An attacker's names reach a terminal only as bounded, printable text."""
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b[2Jb\nc" + "d" * 40) for _ in range(9)]
    text = shown(x509.Name(attributes))
    assert text.isprintable()
    assert len(text) <= MAX_SHOWN
    with pytest.raises(Malformed, match="cannot be shown"):
        common_name(x509.Name(attributes[:1]), role="leaf")

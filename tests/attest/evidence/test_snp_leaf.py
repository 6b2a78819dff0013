"""AMD's certificate extensions: one DER form each, the set that fits the leaf's kind, both hwID encodings."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attest.evidence.snp_leaf import SnpLeaf
from attest.evidence.snp_tcb import TcbVersion
from attest.mock.snp_certificates import ia5_string, integer
from attest.mock.vendor import MockKeys
from attest.refusal import Malformed, Refused
from tests.simulators.snp_world import PROVIDER, SnpWorld


def parse(world: SnpWorld, extensions: dict[str, bytes]) -> SnpLeaf:
    """Read a leaf with these extensions as the world's kind and product."""
    return SnpLeaf.parse(world.leaf_certificate(extensions), kind=world.kind, product=world.product)


def test_reads_what_was_written(world: SnpWorld) -> None:
    """Every fact comes out."""
    leaf = parse(world, world.extensions())
    assert leaf == SnpLeaf("vcek", "Genoa", world.launch.tcb, world.chip_id, None)


@pytest.mark.parametrize("missing", ["1", "2", "3.1", "3.2", "3.3", "3.8", "4"])
def test_a_missing_extension(missing: str, world: SnpWorld) -> None:
    """No default stands in for a fact that the certificate does not state."""
    extensions = world.extensions()
    del extensions[missing]
    with pytest.raises(Malformed, match="snp-leaf-extension"):
        parse(world, extensions)


def test_optional_reserved_components(world: SnpWorld) -> None:
    """Turin leaves .3.4 out; what is there must be zero."""
    extensions = world.extensions()
    del extensions["3.4"]
    parse(world, extensions)
    for suffix in ("3.4", "3.5", "3.6", "3.7"):
        with pytest.raises(Malformed, match="reserved"):
            parse(world, world.extensions() | {suffix: integer(1)})


@pytest.mark.parametrize(
    "der",
    [
        "",
        "02",
        "0200",
        "0301ff",
        "020180",  # minus 128
        "02020001",  # a leading zero too many
        "02020100",  # 256
        "0202ffff",
        "02010100",  # trailing byte
        "02810101",  # long form of length
        "0203000001",
    ],
)
def test_integers_have_one_form(der: str, world: SnpWorld) -> None:
    """X.690: minimal, not negative, at most 255, nothing behind it."""
    with pytest.raises(Malformed, match="snp-leaf-extension"):
        parse(world, world.extensions() | {"3.3": bytes.fromhex(der)})


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255])
def test_integers_to_255(value: int, world: SnpWorld) -> None:
    """From 128 on the DER body is two bytes."""
    assert parse(world, world.extensions() | {"3.8": integer(value)}).tcb.microcode == value


@pytest.mark.parametrize(
    "text",
    ["", "1600", "160548656e6f", "0c0547656e6f61", "160547656e6f61ff", "160447656e00", "1680" + "41" * 128],
)
def test_strings_have_one_form(text: str, world: SnpWorld) -> None:
    """IA5String, short form, printable."""
    with pytest.raises(Malformed, match="snp-leaf-extension"):
        parse(world, world.extensions() | {"2": bytes.fromhex(text)})


def test_strings_at_their_bounds(world: SnpWorld) -> None:
    """One character to 127, from the space to the tilde."""
    for text in ("~", " ", "x" * 127):
        der = b"\x16" + bytes([len(text)]) + text.encode()
        assert parse(world, world.extensions() | {"2": der}).product_name == text
    for byte in (0x1F, 0x7F, 0x80):
        with pytest.raises(Malformed, match="printable"):
            parse(world, world.extensions() | {"2": bytes([0x16, 1, byte])})


@pytest.mark.parametrize("size", [0, 8, 10, 63, 65, 67])
def test_other_lengths_of_hwid(size: int, world: SnpWorld) -> None:
    """64 raw or 66 wrapped; Turin's lengths do not pass for Genoa."""
    with pytest.raises(Malformed, match="hwID"):
        parse(world, world.extensions() | {"4": bytes(size)})


def test_a_wrapped_hwid(world: SnpWorld) -> None:
    """Newer certificates wrap it; in either form it is the same identity."""
    wrapped = b"\x04\x40" + world.chip_id
    assert parse(world, world.extensions() | {"4": wrapped}).hwid == world.chip_id
    for other in (wrapped[:-1], wrapped + b"\x00"):
        with pytest.raises(Malformed, match="hwID"):
            parse(world, world.extensions() | {"4": other})


def test_extensions_of_others(world: SnpWorld) -> None:
    """Those of every certificate, and of nobody known, say nothing of the chip."""
    signed = world.leaf_certificate(world.extensions())
    key = ec.generate_private_key(ec.SECP384R1())
    builder = x509.CertificateBuilder(
        signed.issuer,
        signed.subject,
        key.public_key(),
        signed.serial_number,
        signed.not_valid_before_utc,
        signed.not_valid_after_utc,
    )
    for extension in signed.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"anything")
    certificate = builder.add_extension(unknown, critical=False).sign(key, hashes.SHA384())
    leaf = SnpLeaf.parse(certificate, kind=world.kind, product=world.product)
    assert leaf == parse(world, world.extensions())


@pytest.mark.parametrize("header", ["0000", "043f", "0340", "0441"])
def test_wrapped_hwid_must_be_an_octet_string(header: str, world: SnpWorld) -> None:
    """66 bytes with another header are not a wrapped identity."""
    with pytest.raises(Malformed, match="hwID"):
        parse(world, world.extensions() | {"4": bytes.fromhex(header) + bytes(64)})


def test_struct_version_and_fmc_are_the_products(mock_keys: MockKeys) -> None:
    """Structure 1 and an FMC number are Turin's, and Turin's only."""
    genoa = SnpWorld(mock_keys)
    turin = SnpWorld(mock_keys, "Turin", tcb=TcbVersion(1, 1, 4, 81, fmc=7))
    assert parse(turin, turin.extensions()).tcb.fmc == 7
    for world, version in ((genoa, 1), (turin, 0), (genoa, 2)):
        with pytest.raises(Malformed, match="structVersion"):
            parse(world, world.extensions() | {"1": integer(version)})
    with pytest.raises(Malformed, match="fmcSPL"):
        parse(genoa, genoa.extensions() | {"3.9": integer(0)})
    without = turin.extensions()
    del without["3.9"]
    with pytest.raises(Malformed, match="fmcSPL"):
        parse(turin, without)


def test_chip_or_provider_never_both(mock_keys: MockKeys) -> None:
    """A VCEK names a chip, a VLEK a provider."""
    vcek, vlek = SnpWorld(mock_keys), SnpWorld(mock_keys, kind="vlek")
    assert parse(vlek, vlek.extensions()).csp_id == PROVIDER
    with pytest.raises(Malformed, match="cspID"):
        parse(vcek, vcek.extensions() | {"5": ia5_string(PROVIDER)})
    with pytest.raises(Malformed, match="hwID"):
        parse(vlek, vlek.extensions() | {"4": bytes(64)})
    without = vlek.extensions()
    del without["5"]
    with pytest.raises(Malformed, match="cspID"):
        parse(vlek, without)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["1", "2", "3.1", "3.3", "3.4", "3.8", "3.9", "4", "5"]),
    value=st.binary(max_size=80),
)
def test_junk_in_an_extension(suffix: str, value: bytes, world: SnpWorld) -> None:
    """Only facts or refusals come out."""
    try:
        leaf = parse(world, world.extensions() | {suffix: value})
    except Refused:
        return
    assert leaf.kind == "vcek"
    assert leaf.hwid is not None
    assert len(leaf.hwid) == 64

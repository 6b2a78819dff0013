"""Attacks on the signature of golden values: wrapping, transforms, entities, comments, parts missing."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import MAX_RIM_BYTES
from attest.evidence.rim import Rim, parse_xml
from attest.mock import nvidia_report
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_certificates import Authority, authority, derived_key, signer
from attest.mock.nvidia_report import MockGpu, golden
from attest.mock.rim_document import rim_document, sign_rim
from attest.refusal import Refused
from attest.verify.rim import verify_rim
from tests.simulators.gpu_world import NOW, GpuWorld

SIGNATURE = re.compile(rb"<ds:Signature .*</ds:Signature>", re.DOTALL)
OTHER = '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/>'


@pytest.fixture(scope="module")
def good(gpu_world: GpuWorld) -> bytes:
    """A driver's manifest."""
    gpu = MockGpu()
    return gpu_world.vendor.rim(gpu, nvidia_report.DRIVER_INDICES, gpu.driver_version)


def code_of(document: bytes, roots: NvidiaRoots) -> str:
    """The code with which a manifest refuses."""
    with pytest.raises(Refused) as refusal:
        verify_rim(document, roots)
    return refusal.value.code


def test_the_good_one(good: bytes, gpu_world: GpuWorld) -> None:
    """Version, product and active values come from what was signed."""
    verified = verify_rim(good, gpu_world.roots)
    assert (verified.rim.version, verified.rim.product) == ("550.90.07", "GH100")
    assert tuple(verified.rim.active) == nvidia_report.DRIVER_INDICES
    assert verified.rim.active[7].alternatives == (golden("HOPPER", 7),)
    assert verify_rim(good, gpu_world.roots) is verified  # proved once


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        # What is signed
        (b'active="True"', b'active="False"', "rim-digest"),
        (b'colloquialVersion="550.90.07"', b'colloquialVersion="550.90.08"', "rim-digest"),
        (b"</ns0:Payload>", b"</ns0:Payload> ", "rim-digest"),
        (b"</ds:Signature>", b"</ds:Signature> ", "rim-digest"),
        # How it is signed
        (b'URI=""', b'URI="#x"', "rim-signature-algorithm"),
        (b'URI=""', b"", "rim-signature-form"),
        (b'URI=""', b'URI="" Id="x"', "rim-signature-form"),
        (b"xmldsig-more#ecdsa-sha384", b"xmldsig-more#hmac-sha384", "rim-signature-algorithm"),
        (b"xmldsig-more#sha384", b"xmldsig-more#sha224", "rim-signature-algorithm"),
        (b"2006/12/xml-c14n11", b"2001/10/xml-exc-c14n#", "rim-signature-algorithm"),
        (b"xmldsig#enveloped-signature", b"xmldsig#base64", "rim-signature-algorithm"),
        (b"</ds:Transforms>", OTHER.encode() + b"</ds:Transforms>", "rim-signature-form"),
        (b"<ds:Transforms>", b"<ds:Transforms><ds:Transform/>", "rim-signature-form"),
        (b"</ds:Reference>", b'</ds:Reference><ds:Reference URI=""/>', "rim-signature-form"),
        (b"<ds:DigestMethod", b"<ds:X/><ds:DigestMethod", "rim-signature-form"),
        (b"</ds:KeyInfo>", b"<ds:KeyName>x</ds:KeyName></ds:KeyInfo>", "rim-signature-form"),
        (b"</ds:X509Data>", b"<ds:X509CRL/></ds:X509Data>", "rim-signature-form"),
        (b"<ds:X509Certificate>", b"<ds:X509Certificate x='1'>", "rim-signature-form"),
        (b"</ds:Signature>", b"<ds:Object/></ds:Signature>", "rim-signature-form"),
        (b"<ds:DigestValue>", b"<ds:DigestValue>!", "rim-signature-form"),
        (b"<ds:DigestValue>", b"<ds:DigestValue>AAAA", "rim-signature-form"),
        (b"<ds:SignatureValue>", b"<ds:SignatureValue>AAAA", "rim-signature-form"),
        (b"<ds:X509Certificate>", b"<ds:X509Certificate>!", "certificate-malformed"),
        (b"<ds:X509Certificate>", b"<ds:X509Certificate>AAAA", "certificate-malformed"),
        # What may hide beside it
        (b"<SoftwareIdentity", b"<!DOCTYPE x [<!ENTITY a 'b'>]><SoftwareIdentity", "rim-markup"),
        (b"<ns0:Entity", b"<!-- hidden --><ns0:Entity", "rim-markup"),
        (b"<ns0:Entity", b"<?php x?><ns0:Entity", "rim-markup"),
        (b"<ns0:Entity", b"<![CDATA[x]]><ns0:Entity", "rim-markup"),
        (b"<SoftwareIdentity", b"<SoftwareIdentity xml:base='x'", "rim-markup"),
        (b"<ns0:Entity", b"<ns0:Entity xml:id='x'", "rim-markup"),
        (b"<SoftwareIdentity", b"<SoftwareIdentity xmlns:q='x/y'", "rim-signature-form"),  # no canonical form
        (b"<ns0:Entity", b"&unknown;<ns0:Entity", "rim-xml"),
        (b"<ns0:Entity", b"\xff<ns0:Entity", "rim-xml"),
        (b"</SoftwareIdentity>", b"", "rim-xml"),
    ],
)
def test_one_change(old: bytes, new: bytes, code: str, good: bytes, gpu_world: GpuWorld) -> None:
    """Every liberty that XML signatures give is taken away."""
    assert old in good
    assert code_of(good.replace(old, new, 1), gpu_world.roots) == code


@pytest.mark.parametrize(
    "name", ["SignedInfo", "SignatureValue", "KeyInfo", "X509Data", "Reference", "DigestValue"]
)
def test_a_part_missing(name: str, good: bytes, gpu_world: GpuWorld) -> None:
    """No part may be left out."""
    part = re.compile(f"<ds:{name}[ >].*</ds:{name}>".encode(), re.DOTALL)
    assert code_of(part.sub(b"", good, count=1), gpu_world.roots) == "rim-signature-form"


def test_no_certificates_or_too_many(good: bytes, gpu_world: GpuWorld) -> None:
    """One to six certificates; a root alone is no chain."""
    certificate = re.compile(rb"<ds:X509Certificate>.*?</ds:X509Certificate>", re.DOTALL)
    every = certificate.findall(good)
    data = re.compile(rb"<ds:X509Data>.*</ds:X509Data>", re.DOTALL)

    def with_chain(*chain: bytes) -> bytes:
        return data.sub(lambda _: b"<ds:X509Data>" + b"".join(chain) + b"</ds:X509Data>", good)

    assert code_of(with_chain(), gpu_world.roots) == "rim-signature-form"
    assert code_of(with_chain(*every, *every), gpu_world.roots) == "rim-signature-form"
    seven = (every * 2)[:7]
    assert code_of(with_chain(*seven), gpu_world.roots) == "rim-signature-form"
    assert code_of(with_chain(*seven[:6]), gpu_world.roots) == "rim-root-not-trusted"  # six are read
    assert code_of(with_chain(every[0].replace(b"</ds", b"<ds:X/></ds", 1)), gpu_world.roots) == (
        "rim-signature-form"
    )
    assert code_of(with_chain(every[-1]), gpu_world.roots) == "rim-chain-length"
    assert code_of(with_chain(every[0]), gpu_world.roots) == "rim-root-not-trusted"
    assert code_of(with_chain(every[0], every[-1]), gpu_world.roots) == "certificate-issuer"
    assert code_of(with_chain(*every[1:]), gpu_world.roots) == "certificate-usage"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("DigestValue", "rim-signature-form"),
        ("SignatureValue", "rim-signature-form"),
        ("X509Certificate", "certificate-malformed"),
    ],
)
def test_an_empty_value(name: str, code: str, good: bytes, gpu_world: GpuWorld) -> None:
    """An element without any text is no way to another exception."""
    value = re.compile(f"<ds:{name}>.*?</ds:{name}>".encode(), re.DOTALL)
    assert code_of(value.sub(f"<ds:{name}/>".encode(), good, count=1), gpu_world.roots) == code


def test_values_over_several_lines(gpu_world: GpuWorld) -> None:
    """Base64 may be broken by white space (RFC 4648 as XML Schema has it), and is the same value then."""
    vendor = gpu_world.vendor
    document = rim_document("1", "GH100", {7: (golden("HOPPER", 7),)})
    signed = sign_rim(document, vendor.rim_certificates, vendor.rim_signer.key)
    for name in (b"SignatureValue", b"X509Certificate"):
        signed = re.sub(b"(<ds:" + name + b">)([^<]{9})", rb"\1 \n\2\n\t", signed)
    assert verify_rim(signed, gpu_world.roots).rim.version == "1"


def test_wrapping(good: bytes, gpu_world: GpuWorld) -> None:
    """A signed manifest inside another, two signatures, or one that is not in the root element, refuse."""
    signature = SIGNATURE.findall(good)[0]
    evil = good.replace(b"550.90.07", b"666.66.66").replace(signature, b"")
    opening = evil.index(b">") + 1
    for forged in (
        evil[:opening] + good + evil[opening:],
        good.replace(signature, signature * 2),
        good.replace(signature, b"<ns0:X>" + signature + b"</ns0:X>"),
        good.replace(b"<ns0:Payload>", b"<ns0:Payload>" + signature, 1),
        evil,
        signature,
    ):
        assert code_of(forged, gpu_world.roots) == "rim-signature-form"


def test_signature_by_another_key(good: bytes, gpu_world: GpuWorld) -> None:
    """The value must be the signer's, over this very SignedInfo."""
    value = re.compile(rb"<ds:SignatureValue>(.*?)<", re.DOTALL)
    other = gpu_world.vendor.rim(MockGpu(), nvidia_report.DRIVER_INDICES, "550.90.08")
    swapped = value.sub(lambda _: b"<ds:SignatureValue>" + value.findall(other)[0] + b"<", good)
    assert code_of(swapped, gpu_world.roots) == "rim-signature"
    zero = base64.b64encode(bytes(96))
    assert code_of(value.sub(b"<ds:SignatureValue>" + zero + b"<", good), gpu_world.roots) == "rim-signature"
    prefix = good.replace(b"<ds:SignedInfo>", b'<ds:SignedInfo xmlns:evil="urn:x">', 1)
    assert code_of(prefix, gpu_world.roots) == "rim-signature"


def test_text_behind_the_signature_is_signed(gpu_world: GpuWorld) -> None:
    """What stands behind the signature stays in the digest, wherever the signature stands."""
    vendor = gpu_world.vendor
    values = {7: (golden("HOPPER", 7),)}
    document = sign_rim(rim_document("1", "GH100", values), vendor.rim_certificates, vendor.rim_signer.key)
    verify_rim(document, gpu_world.roots)
    signature = SIGNATURE.findall(document)[0]
    bare = document.replace(signature, b"")
    first = bare.index(b">") + 1
    for moved in (
        bare[:first] + signature + bare[first:],
        bare.replace(b"<ns0:Meta", signature + b"<ns0:Meta", 1),
    ):
        assert verify_rim(moved, gpu_world.roots).rim.version == "1"  # an enveloped signature is anywhere
        assert code_of(moved.replace(signature, signature + b"x"), gpu_world.roots) == "rim-digest"
    plain = rim_document("1", "GH100", values)
    root = plain[: plain.index(">") + 1]
    for before, after in ((f"{root}", "\n \t"), ("\n \t", "<ns0:Meta")):
        place = root if before == root else "<ns0:Meta"
        spaced = plain.replace(place, before + after, 1)
        resigned = sign_rim(spaced, vendor.rim_certificates, vendor.rim_signer.key)
        inner = SIGNATURE.findall(resigned)[0]
        without = resigned.replace(inner, b"")
        assert without.count(b"\n \t") == 1
        nearer = without.replace(b"\n \t", b"\n" + inner + b" \t")
        assert verify_rim(nearer, gpu_world.roots).rim.version == "1"  # text on both sides is one text
        assert code_of(without.replace(b"\n \t", b"\n" + inner), gpu_world.roots) == "rim-digest"
        assert code_of(without.replace(b"\n \t", inner + b" \t"), gpu_world.roots) == "rim-digest"


def test_text_only_behind_the_signature(gpu_world: GpuWorld) -> None:
    """Where nothing stands between an element and the signature, what follows becomes that element's."""
    vendor = gpu_world.vendor
    compact = re.sub(r">\s+<", "><", rim_document("1", "GH100", {7: (golden("HOPPER", 7),)}))
    spaced = compact.replace("<ns0:Meta", " \t<ns0:Meta", 1)
    signed = sign_rim(spaced, vendor.rim_certificates, vendor.rim_signer.key)
    inner = SIGNATURE.findall(signed)[0]
    moved = signed.replace(inner, b"").replace(b" \t<ns0:Meta", inner + b" \t<ns0:Meta", 1)
    assert verify_rim(moved, gpu_world.roots).rim.version == "1"


def test_size_and_declaration(good: bytes, gpu_world: GpuWorld) -> None:
    """An XML declaration of UTF-8 is allowed, another encoding or length is not."""
    declared = b'<?xml version="1.0" encoding="UTF-8"?>\n' + good
    assert verify_rim(declared, gpu_world.roots).rim.version == "550.90.07"
    other = b'<?xml version="1.0" encoding="UTF-16"?>\n' + good
    assert code_of(other, gpu_world.roots) == "rim-markup"
    assert code_of(good + b" " * MAX_RIM_BYTES, gpu_world.roots) == "rim-too-large"
    assert code_of(b"", gpu_world.roots) == "rim-xml"
    deep = b"<a>" * 5000
    assert code_of(deep, gpu_world.roots) == "rim-xml"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('colloquialVersion="1"', 'colloquialVersion=""', "rim-meta"),
        ('colloquialVersion="1"', 'colloquialVersion="../x"', "rim-meta"),
        ('product="GH100" revision', 'product="" revision', "rim-meta"),
        ("<ns0:Meta", '<ns0:Meta colloquialVersion="2" product="x"/><ns0:Meta', "rim-meta"),
        ("<SoftwareIdentity xmlns=", "<SoftwareIdentity xmlns='urn:x' xmlns:y=", "rim-structure"),
        ("<ns0:Payload>", "<ns0:Payload/><ns0:Payload>", "rim-payload"),
        ('active="True"', 'active="False"', "rim-payload"),
        ('active="True"', 'active="true"', "rim-resource"),
        ('index="8"', 'index="7"', "rim-index-twice"),
        ('index="8"', 'index="64"', "rim-resource"),
        ('index="8"', 'index="-1"', "rim-resource"),
        ('type="Measurement" index="8"', 'type="Other" index="8"', "rim-resource"),
        ('alternatives="1"', 'alternatives="0"', "rim-resource"),
        ('alternatives="1"', 'alternatives="2"', "rim-resource"),
        ('ns2:Hash0="', 'ns2:Hash1="', "rim-resource"),
        ('ns2:Hash0="', f'ns2:Hash1="{"0" * 96}" ns2:Hash0="', "rim-resource"),
        ('ns2:Hash0="', 'ns2:Hash0="zz', "rim-resource"),
        ('size="48"', 'size="32"', "rim-size"),
    ],
)
def test_a_signed_manifest_of_another_form(old: str, new: str, code: str, gpu_world: GpuWorld) -> None:
    """A signature does not excuse a form that could be read in two ways."""
    vendor = gpu_world.vendor
    document = rim_document("1", "GH100", {7: (golden("HOPPER", 7),)})
    assert old in document
    changed = document.replace(old, new, 1)
    forged = sign_rim(changed, vendor.rim_certificates, vendor.rim_signer.key)
    assert code_of(forged, gpu_world.roots) == code


def test_names_for_a_persons_terminal() -> None:
    """A name that cannot be shown is replaced; a missing one made up."""
    document = rim_document("1", "GH100", {7: (bytes(48),), 8: (bytes(48),)})
    document = document.replace('name="Measurement_7"', 'name="a&#x9b;b"').replace('name="Measurement_8"', "")
    rim = Rim.read(parse_xml(document.encode()))
    assert (rim.active[7].name, rim.active[8].name) == ("Measurement_7", "Measurement_8")


def test_paths_longer_than_an_authority_allows(gpu_world: GpuWorld) -> None:
    """An authority that may have none beneath it has none (here: a chain with one too many)."""
    vendor = gpu_world.vendor
    root, key = vendor.rim_root, derived_key(b"x", "narrow")
    wide = authority("narrow", key, root, issued_at=NOW).certificate
    builder = x509.CertificateBuilder(
        wide.issuer,
        wide.subject,
        wide.public_key(),
        wide.serial_number,
        wide.not_valid_before_utc,
        wide.not_valid_after_utc,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = wide.extensions.get_extension_for_class(x509.KeyUsage).value
    narrow = Authority(key, builder.add_extension(usage, critical=True).sign(root.key, hashes.SHA384()))
    below = authority("below", derived_key(b"x", "below"), narrow, issued_at=NOW)
    document = rim_document("1", "GH100", {7: (bytes(48),)})
    direct = signer("signer", derived_key(b"x", "signer"), narrow, issued_at=NOW)
    verify_rim(sign_rim(document, [direct.der, narrow.der, root.der], direct.key), gpu_world.roots)
    deeper = signer("signer", derived_key(b"x", "signer"), below, issued_at=NOW)
    chain = [deeper.der, below.der, narrow.der, root.der]
    assert code_of(sign_rim(document, chain, deeper.key), gpu_world.roots) == "certificate-path-length"


def test_successes_are_kept_for_their_roots_only(good: bytes, gpu_world: GpuWorld) -> None:
    """What was proved under one set of roots is not proved under another."""
    verify_rim(good, gpu_world.roots)
    other = GpuWorld(MockGpuVendor.create(now=NOW))
    assert code_of(good, other.roots) == "rim-root-not-trusted"
    assert code_of(good, NvidiaRoots(nvidia=True)) == "rim-root-not-trusted"

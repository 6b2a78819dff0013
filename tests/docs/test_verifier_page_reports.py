"""Every step of the SEV-SNP verifier, wrong in one thing: both verifiers refuse with one code."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attest.collateral.snp import AMD_ARK_SHA256, SnpRoots, amd_ark, amd_intermediate
from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp_tcb import TcbVersion
from attest.mock.snp_certificates import ARK_SERIAL, ASK_SERIAL, Issuer, authority, ia5_string, integer, name
from attest.mock.vendor import MockKeys
from tests.simulators.snp_world import NOW as SNP_NOW
from tests.simulators.snp_world import SnpWorld
from tests.simulators.two_verifiers import (
    HOLDS,
    Case,
    flips,
    judge_reports,
    page_verdict,
)
from tests.simulators.verifier_page import VerifierPage

REPORT_EDITS: dict[str, dict[int, bytes]] = {
    "version 4": {0x00: b"\x04"},
    "version 1": {0x00: b"\x01"},
    "policy 26": {0x0B: b"\x04"},
    "policy 17": {0x0A: b"\x01"},
    "vmpl 4": {0x30: b"\x04"},
    "algorithm 2": {0x34: b"\x02"},
    "flags": {0x48: b"\x20"},
    "signing key 2": {0x48: b"\x08"},
    "unsigned": {0x48: bytes([7 << 2])},
    "vlek flag": {0x48: b"\x04"},
    "reserved 4C": {0x4C: b"\x01"},
    "product": {0x188: b"\x1b"},
    "model": {0x189: b"\x20"},
    "Milan": {0x189: b"\x01"},
    "Turin": {0x188: b"\x1a\x02"},
    "reserved 18B": {0x18B: b"\x01"},
    "chip": {0x1A0: b"\xff"},
    "firmware reserved": {0x1EB: b"\x01"},
    "reserved 208": {0x208: b"\x01"},
    "committed": {0x1E0: bytes(8)},
    "current": {0x38: bytes(8)},
    "reported reserved": {0x182: b"\x01"},
    "launch reserved": {0x1F2: b"\x01"},
    "committed reserved": {0x1E3: b"\x01"},
    "current reserved": {0x3C: b"\x01"},
    "reported": {0x180: b"\x00"},
    "data": {0x50: b"other"},
    "host vmpl": {0x30: b"\xff" * 4},
}
LEAF_EDITS: dict[str, dict[str, bytes]] = {
    "struct version": {"1": integer(1)},
    "milan name": {"2": ia5_string("Milan-B0")},
    "long name": {"2": ia5_string("Genoa2")},
    "stepping": {"2": ia5_string("Genoa-B1")},
    "newline": {"2": ia5_string("Genoa-B1\n")},
    "no text": {"2": b"\x16\x00"},
    "control": {"2": b"\x16\x05Geno\x07"},
    "UTF-8": {"2": b"\x0c\x05Genoa"},
    "boot loader": {"3.1": integer(9)},
    "tee": {"3.2": integer(1)},
    "snp": {"3.3": integer(28)},
    "microcode": {"3.8": integer(83)},
    "fmc": {"3.9": integer(0)},
    "reserved": {"3.5": integer(1)},
    "reserved 4": {"3.4": b"\x02\x01"},
    "256": {"3.8": b"\x02\x02\x01\x00"},
    "negative": {"3.8": b"\x02\x01\xac"},
    "long form": {"3.8": b"\x02\x81\x01\x54"},
    "padded": {"3.8": b"\x02\x02\x00\x54"},
    "empty": {"3.8": b"\x02\x00"},
    "trailing": {"3.8": b"\x02\x01\x54\x00"},
    "hwid short": {"4": bytes(63)},
    "hwid wrapped": {"4": b"\x04\x40" + bytes(range(64))},
    "hwid other": {"4": bytes(64)},
    "hwid long": {"4": bytes(66)},
    "provider": {"5": ia5_string("CN=x")},
    "another of AMD's": {"9": b"\x05\x00"},
}


def leaf_cases(world: SnpWorld) -> dict[str, Case]:
    """Leaves that are not what a VCEK is."""
    report, extensions = world.report(), world.extensions()
    leaves = {f"leaf {case}": world.leaf(extensions | edit) for case, edit in LEAF_EDITS.items()}
    for missing in extensions:
        fewer = {suffix: value for suffix, value in extensions.items() if suffix != missing}
        leaves[f"leaf without {missing}"] = world.leaf(fewer)
    for issuer in ("SEV-Venice", "ARK-Genoa", "SEV-VLEK-Genoa", "SEV-Milan", "SEV-Turin", "SEV-Genoa\n"):
        leaves[f"issuer {issuer}"] = world.leaf(issuer=Issuer(issuer, world.keys.ask))
    leaves["subject"] = world.leaf(common_name="SEV-VLEK")
    leaves["by the root"] = world.leaf(issuer=Issuer(world.ask_issuer.common_name, world.keys.ark))
    leaves["P-256"] = world.leaf(key=ec.generate_private_key(ec.SECP256R1()))
    leaves["Ed25519"] = world.leaf(key=ed25519.Ed25519PrivateKey.generate())  # type: ignore[arg-type]  # the wrong kind is the point
    leaves["other key"] = world.leaf(key=ec.generate_private_key(ec.SECP384R1()))
    leaves["trailing byte"] = world.leaf() + b"\x00"
    leaves["cut"] = world.leaf()[:-1]
    leaves["long length"] = with_long_length(world.leaf())
    leaves["one element more"] = with_body(world.leaf()[4:] + b"\x05\x00")
    leaves["none"] = b""
    leaves["8 kB"] = bytes(8193)
    return {case: (report, replace(world.collateral(), leaf=leaf)) for case, leaf in leaves.items()}


def with_long_length(der: bytes) -> bytes:
    """The certificate with the length of its (unsigned) algorithm written in two bytes where one does."""
    at = der.rindex(bytes.fromhex("06092a864886f70d01010a")) - 2
    return with_body(der[4:at] + bytes([0x30, 0x81, der[at + 1]]) + der[at + 2 :])


def with_body(body: bytes) -> bytes:
    """A DER sequence of 256 bytes or more."""
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def odd_authority(
    world: SnpWorld, *extensions: tuple[x509.ExtensionType, bool], key: Any = None, pss: Any = None
) -> bytes:
    """An intermediate signed by the root, with just these extensions."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(world.ask_issuer.common_name))
        .issuer_name(name(world.ark_issuer.common_name))
        .public_key((key or world.keys.ask).public_key())
        .serial_number(ASK_SERIAL)
        .not_valid_before(SNP_NOW - timedelta(days=1))
        .not_valid_after(SNP_NOW + timedelta(days=9000))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), 48) if pss is None else pss
    return builder.sign(world.keys.ark, hashes.SHA384(), rsa_padding=scheme).public_bytes(Encoding.DER)


def chain_cases(world: SnpWorld, other: SnpWorld) -> dict[str, Case]:
    """Chains that do not hold."""
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    no_sign = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    ca, no_ca = x509.BasicConstraints(True, 0), x509.BasicConstraints(False, None)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    milan = Issuer("SEV-Milan", world.keys.ask)
    authorities = {
        "no authority": odd_authority(world, (no_ca, True), (usage, True)),
        "no usage": odd_authority(world, (ca, True)),
        "no constraints": odd_authority(world, (usage, True)),
        "may not sign": odd_authority(world, (ca, True), (no_sign, True)),
        "unknown critical": odd_authority(world, (ca, True), (usage, True), (unknown, True)),
        "unknown": odd_authority(world, (ca, True), (usage, True), (unknown, False)),
        "RSA-2048": odd_authority(
            world, (ca, True), (usage, True), key=rsa.generate_private_key(65537, 2048)
        ),
        "P-384": odd_authority(world, (ca, True), (usage, True), key=ec.generate_private_key(ec.SECP384R1())),
        "salt 32": odd_authority(
            world, (ca, True), (usage, True), pss=padding.PSS(padding.MGF1(hashes.SHA384()), 32)
        ),
        "MGF1 of SHA-256": odd_authority(
            world, (ca, True), (usage, True), pss=padding.PSS(padding.MGF1(hashes.SHA256()), 48)
        ),
        "PKCS #1 v1.5": odd_authority(world, (ca, True), (usage, True), pss=padding.PKCS1v15()),
        "other root's": other.ask_der,
        "leaf as authority": world.leaf(),
        "root as authority": world.ark_der,
        "product": authority(
            milan, world.ark_issuer, serial=ASK_SERIAL, issued_at=SNP_NOW, path_length=0
        ).public_bytes(Encoding.DER),
        "expired": SnpWorld(world.keys, issued_at=SNP_NOW - timedelta(days=26 * 365)).ask_der,
        "future": SnpWorld(world.keys, issued_at=SNP_NOW + timedelta(days=30)).ask_der,
        "junk": b"\x30\x00",
    }
    cases = {
        f"authority: {case}": (world.report(), world.collateral(ask=ask)) for case, ask in authorities.items()
    }
    cases["chain incomplete"] = (world.report(), replace(world.collateral(), intermediate=None))
    cases["other leaf"] = (world.report(), world.collateral(other.leaf()))
    cases["other world"] = (other.report(), other.collateral())
    cases["no root"] = (world.report(), replace(world.collateral(), ark=None))
    cases["no leaf"] = (world.report(), replace(world.collateral(), leaf=None))
    return cases


def test_each_step_of_the_report(browser_page: VerifierPage, keys: MockKeys) -> None:
    """Reports, leaves and chains wrong in one thing: the same outcome and code."""
    world, other = SnpWorld(keys), SnpWorld(MockKeys.generate())
    cases: dict[str, Case] = {
        case: (world.report(edits=edit), world.collateral()) for case, edit in REPORT_EDITS.items()
    }
    report = world.report()
    for case, changed in {
        "short": report[:-1],
        "long": report + b"\x00",
        "tail": report[:-1] + b"\x01",
        "empty": b"",
        "r = 0": report[:0x2A0] + bytes(48) + report[0x2D0:],
        "s = order": report[:0x2E8] + b"\xff" * 48 + report[0x318:],
        "r upper": report[:0x2D0] + b"\x01" + report[0x2D1:],
        "moved": world.report(edits={0x50: b"x"})[:0x2A0] + report[0x2A0:],
    }.items():
        cases[case] = (changed, world.collateral())
    cases |= leaf_cases(world) | chain_cases(world, other)
    cases["honest"] = (report, world.collateral())
    verdicts = judge_reports(browser_page, cases, world.roots, SNP_NOW)
    assert {case: pair for case, pair in verdicts.items() if pair[0] != pair[1]} == {}
    assert verdicts["honest"][1] == HOLDS
    codes = {page[1] for _, page in verdicts.values()}
    assert len(verdicts) > 90
    assert len(codes) > 30, codes


@pytest.mark.parametrize("roots", [SnpRoots(amd=False), SnpRoots(amd=True)], ids=["no root", "AMD only"])
def test_mock_under_other_roots(roots: SnpRoots, browser_page: VerifierPage, keys: MockKeys) -> None:
    """A root is not trusted because it came along, and AMD's is never a mock's."""
    world = SnpWorld(keys)
    cases = {
        "with root": (world.report(), world.collateral()),
        "without": (world.report(), replace(world.collateral(), ark=None)),
        "leaf only": (world.report(), SnpCollateral(world.leaf())),
    }
    verdicts = judge_reports(browser_page, cases, roots, SNP_NOW)
    assert [pair for pair in verdicts.values() if pair[0] != pair[1] or pair[1] == HOLDS] == []


def test_root_that_did_not_sign_itself(browser_page: VerifierPage, keys: MockKeys) -> None:
    """Named, and yet somebody's intermediate."""
    world = SnpWorld(keys)
    impostor = Issuer(world.ark_issuer.common_name, keys.ask)
    ark = authority(world.ark_issuer, impostor, serial=ARK_SERIAL, issued_at=SNP_NOW, path_length=None)
    der = ark.public_bytes(Encoding.DER)
    roots = SnpRoots(amd=False, mock_ark_sha256=sha256(der).hexdigest())
    cases = {"impostor": (world.report(), replace(world.collateral(), ark=der))}
    verdicts = judge_reports(browser_page, cases, roots, SNP_NOW)
    assert verdicts["impostor"] == (("refused", "certificate-signature"),) * 2


def test_root_that_has_ended(browser_page: VerifierPage, keys: MockKeys) -> None:
    """Under it everything else is fresh."""
    world, old = SnpWorld(keys), SnpWorld(keys, issued_at=SNP_NOW - timedelta(days=26 * 365))
    cases = {"ended": (world.report(), replace(world.collateral(), ark=old.ark_der))}
    verdicts = judge_reports(browser_page, cases, old.roots, SNP_NOW)
    assert verdicts["ended"] == (("refused", "certificate-expired"),) * 2


def test_amds_root_is_never_a_mock(browser_page: VerifierPage, keys: MockKeys) -> None:
    """Typed as a mock's, AMD's root would show hardware as MOCK, or blur the two."""
    world = SnpWorld(keys)
    collateral = SnpCollateral(world.leaf(), amd_intermediate("Genoa", "vcek"), amd_ark("Genoa"))
    roots = SnpRoots(amd=True, mock_ark_sha256=AMD_ARK_SHA256["Genoa"])
    verdicts = judge_reports(browser_page, {"AMD's": (world.report(), collateral)}, roots, SNP_NOW)
    assert verdicts["AMD's"] == (("refused", "snp-root-not-trusted"),) * 2


def test_an_altered_pin_refuses(page: VerifierPage, keys: MockKeys) -> None:
    """A page in which certificate and digest differ trusts neither."""
    world = SnpWorld(keys)
    page.driver.execute_script("PINNED['Genoa ARK'].sha256 = '0'.repeat(64)")
    case = (world.report(), SnpCollateral(world.leaf()))
    (result,) = page.verify_reports([case], {"amd": True, "mockArkSha256": None}, now=SNP_NOW)
    page.open()  # for the tests that share it
    assert page_verdict(result) == ("refused", "pinned-root-altered")


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("kind", ["vcek", "vlek"])
def test_every_product_and_key(product: Any, kind: Any, browser_page: VerifierPage, keys: MockKeys) -> None:
    """Layouts, names and extensions of each, at the edges of validity and with a bit of each flipped."""
    tcb = TcbVersion(fmc=3, boot_loader=2, tee=1, snp=200, microcode=129) if product == "Turin" else None
    world = SnpWorld(keys, product, kind, tcb=tcb)
    report = world.report()
    cases = {"honest": (report, world.collateral()), "VCEK's": (report, SnpWorld(keys, product).collateral())}
    cases |= {f"TCB {at}": (world.report(edits={0x180 + at: b"\x01"}), world.collateral()) for at in range(8)}
    cases |= {
        f"chip {at}": (world.report(edits={0x1A0 + at: b"\xee"}), world.collateral()) for at in (0, 7, 8, 63)
    }
    for index, each in enumerate(flips(report, 60)):
        cases[f"flip {index}"] = (each, world.collateral())
    leaf = world.leaf_certificate()
    second = timedelta(seconds=1)
    edges = (
        leaf.not_valid_before_utc - second,
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        leaf.not_valid_after_utc + second,
    )
    for now in (SNP_NOW, *edges):
        verdicts = judge_reports(
            browser_page, cases if now is SNP_NOW else {"honest": cases["honest"]}, world.roots, now
        )
        assert {case: pair for case, pair in verdicts.items() if pair[0] != pair[1]} == {}
        assert (verdicts["honest"][1] == HOLDS) == (now in (SNP_NOW, *edges[1:3]))

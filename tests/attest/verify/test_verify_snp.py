"""Each step of the SEV-SNP verifier refuses what it is there for, in a world whose root is trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attest.checks import CheckList, Outcome
from attest.collateral.snp import AMD_ARK_SHA256, SnpCollateral, SnpRoots, amd_ark, amd_intermediate
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.mock import snp_certificates
from attest.mock.snp_certificates import ASK_SERIAL, VCEK_SERIAL, Issuer, ia5_string, integer
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.snp import verify_snp
from tests.simulators.snp_world import NOW, PROVIDER, REPORT_DATA, SnpWorld

TURIN_TCB = TcbVersion(fmc=3, boot_loader=2, tee=1, snp=200, microcode=129)


def refuse(
    world: SnpWorld,
    code: str,
    report: bytes | None = None,
    collateral: SnpCollateral | None = None,
    now: datetime = NOW,
) -> Refused:
    """Verify, and require this code and a last row that says so."""
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        world.verify(report, collateral, now=now, checks=checks)
    assert refusal.value.code == code
    assert checks.rows[-1].outcome is Outcome.REFUSED
    assert [row.outcome for row in checks].count(Outcome.REFUSED) == 1
    return refusal.value


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("kind", ["vcek", "vlek"])
def test_every_product_and_key_kind_verifies(
    product: Product, kind: Literal["vcek", "vlek"], mock_keys: MockKeys
) -> None:
    """The mock can be each product, and the verifier says which, and by whose root."""
    tcb = TURIN_TCB if product == "Turin" else TcbVersion(boot_loader=1, tee=2, snp=128, microcode=255)
    world = SnpWorld(mock_keys, product, kind, tcb=tcb)
    checks = CheckList()
    verified = world.verify(checks=checks)
    assert (verified.vendor, verified.product, verified.signing_key) == ("mock", product, kind)
    assert verified.reported_tcb == verified.launch_tcb == tcb
    assert verified.csp_id == (PROVIDER if kind == "vlek" else None)
    assert verified.report.report_data == REPORT_DATA
    assert verified.not_after == world.leaf_certificate().not_valid_after_utc
    assert [row.outcome for row in checks].count(Outcome.PASSED) == len(checks) - 1
    assert "none supplied" in [row.got for row in checks if row.outcome is Outcome.NOTED]


def test_every_step_has_its_row(world: SnpWorld) -> None:
    """Who reads the verdict sees each check once, and until when it holds."""
    checks = CheckList()
    verified = world.verify(collateral=world.collateral(crl=world.crl()), checks=checks)
    assert [row.name for row in checks] == [
        "SNP report format",
        "SNP root",
        "SNP certificate chain",
        "SNP revocation",
        "SNP leaf matches report",
        "SNP report signature",
        "SNP firmware order",
    ]
    ends = {row.name: row.expires for row in checks if row.expires is not None}
    list_end = x509.load_der_x509_crl(world.crl()).next_update_utc
    assert ends == {
        "SNP certificate chain": world.leaf_certificate().not_valid_after_utc,
        "SNP revocation": list_end,
    }
    assert verified.not_after == list_end < world.leaf_certificate().not_valid_after_utc


def test_no_leaf(world: SnpWorld) -> None:
    """Without the chip's certificate nothing is proved; collateral may be completed before, never here."""
    refuse(world, "snp-leaf-missing", collateral=replace(world.collateral(), leaf=None))


@pytest.mark.parametrize("version", [2, 3, 5])
def test_every_report_version_verifies(version: int, mock_keys: MockKeys) -> None:
    """Version 2 has no CPUID; there the chain alone names the product."""
    world = SnpWorld(mock_keys, "Milan")
    verified = world.verify(world.report(replace(world.launch, version=version)))
    assert (verified.report.version, verified.product) == (version, "Milan")


# Roots --------------------------------------------------------------------------------------------------


def test_mock_evidence_under_amds_root_only(world: SnpWorld) -> None:
    """A root that came with the evidence is not trusted because it came (P8)."""
    with pytest.raises(Refused, match="snp-root-not-trusted"):
        verify_snp(world.report(), world.collateral(), SnpRoots(amd=True), now=NOW, checks=CheckList())


def test_mock_evidence_that_claims_amds_root(world: SnpWorld) -> None:
    """Leaving the mock root out sends the chain to AMD's, where its signatures do not verify."""
    for intermediate in (world.ask_der, None):
        with pytest.raises(Refused) as refusal:
            verify_snp(
                world.report(),
                SnpCollateral(world.leaf(), intermediate),
                SnpRoots(amd=True),
                now=NOW,
                checks=CheckList(),
            )
        assert refusal.value.code == "certificate-issuer"


def test_mock_chain_with_amds_names(mock_keys: MockKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with AMD's own distinguished names, only AMD's key makes a signature under AMD's root."""
    template = x509.load_der_x509_certificate(amd_ark("Genoa")).subject

    def amd_name(common_name: str) -> x509.Name:
        cn = x509.NameOID.COMMON_NAME
        return x509.Name([x509.NameAttribute(a.oid, common_name) if a.oid == cn else a for a in template])

    monkeypatch.setattr(snp_certificates, "name", amd_name)
    forged = SnpWorld(mock_keys)
    for intermediate in (forged.ask_der, None):
        with pytest.raises(Refused) as refusal:
            verify_snp(
                forged.report(),
                SnpCollateral(forged.leaf(), intermediate),
                SnpRoots(amd=True),
                now=NOW,
                checks=CheckList(),
            )
        assert refusal.value.code == "certificate-signature"


def test_another_mock_root(world: SnpWorld, other_keys: MockKeys) -> None:
    """A second mock vendor is not the one that was named."""
    other = SnpWorld(other_keys)
    refusal = refuse(world, "snp-root-not-trusted", other.report(), other.collateral())
    assert refusal.expected == world.roots.mock_ark_sha256


def test_no_root_trusts_nothing(world: SnpWorld) -> None:
    """No root named: nothing is accepted, neither with nor without a root in the evidence."""
    for collateral in (world.collateral(), replace(world.collateral(), ark=None)):
        with pytest.raises(Refused, match="snp-root-not-trusted"):
            verify_snp(world.report(), collateral, SnpRoots(amd=False), now=NOW, checks=CheckList())


def test_amds_root_is_never_a_mock(world: SnpWorld) -> None:
    """Naming AMD's root as a mock's would show hardware as MOCK, or blur the two."""
    roots = SnpRoots(amd=False, mock_ark_sha256=AMD_ARK_SHA256["Genoa"])
    collateral = SnpCollateral(world.leaf(), amd_intermediate("Genoa", "vcek"), amd_ark("Genoa"))
    with pytest.raises(Refused, match="snp-root-not-trusted"):
        verify_snp(world.report(), collateral, roots, now=NOW, checks=CheckList())


def test_mock_root_without_intermediate(world: SnpWorld) -> None:
    """A mock has no pinned intermediate to fall back on."""
    refuse(world, "snp-chain-incomplete", collateral=replace(world.collateral(), intermediate=None))


# Chain --------------------------------------------------------------------------------------------------


def test_intermediate_of_another_root(world: SnpWorld, other_keys: MockKeys) -> None:
    """Same names, other keys."""
    other = SnpWorld(other_keys)
    refuse(world, "certificate-signature", collateral=world.collateral(ask=other.ask_der))


def test_leaf_of_another_intermediate(world: SnpWorld, other_keys: MockKeys) -> None:
    """Same names, other keys."""
    other = SnpWorld(other_keys)
    refuse(world, "certificate-signature", collateral=world.collateral(other.leaf()))


def test_root_that_did_not_sign_itself(world: SnpWorld, other_keys: MockKeys) -> None:
    """A pinned root is a root: a certificate that another key vouches for is somebody's intermediate."""
    impostor = Issuer(world.ark_issuer.common_name, other_keys.ark)
    ark = snp_certificates.authority(
        world.ark_issuer, impostor, serial=ASK_SERIAL, issued_at=NOW, path_length=None
    ).public_bytes(Encoding.DER)
    roots = SnpRoots(amd=False, mock_ark_sha256=sha256(ark).hexdigest())
    with pytest.raises(Refused, match="certificate-signature"):
        verify_snp(world.report(), replace(world.collateral(), ark=ark), roots, now=NOW, checks=CheckList())


def test_leaf_signed_by_the_root_itself(world: SnpWorld) -> None:
    """The intermediate's name on a certificate that another key signed."""
    forged = Issuer(world.ask_issuer.common_name, world.keys.ark)
    refuse(world, "certificate-signature", collateral=world.collateral(world.leaf(issuer=forged)))


def test_leaf_as_issuer(world: SnpWorld) -> None:
    """A leaf in the intermediate's place is not an authority of the right name."""
    refuse(world, "snp-chain-product", collateral=world.collateral(ask=world.leaf()))


@pytest.mark.parametrize(
    ("issuer", "code"),
    [
        ("SEV-Venice", "snp-leaf-issuer"),
        ("ARK-Genoa", "snp-leaf-issuer"),
        ("SEV-VLEK-Genoa", "snp-leaf-kind"),
        ("SEV-Milan", "snp-product-mismatch"),
        ("SEV-Turin", "snp-product-mismatch"),
    ],
)
def test_leaf_issuer_must_fit_the_report(issuer: str, code: str, world: SnpWorld) -> None:
    """The issuer's name says product and kind, and must say the report's."""
    leaf = world.leaf(issuer=Issuer(issuer, world.keys.ask))
    refuse(world, code, collateral=world.collateral(leaf))


def test_leaf_subject_must_fit_the_report(world: SnpWorld) -> None:
    """A VLEK name under the VCEK's issuer."""
    refuse(world, "snp-leaf-kind", collateral=world.collateral(world.leaf(common_name="SEV-VLEK")))


def test_vcek_and_vlek_are_not_interchangeable(world: SnpWorld, mock_keys: MockKeys) -> None:
    """The report's own flag decides which key it must be."""
    vlek = SnpWorld(mock_keys, kind="vlek")
    refuse(world, "snp-leaf-kind", vlek.report(), world.collateral())
    refuse(vlek, "snp-leaf-kind", world.report(), vlek.collateral())


def test_leaf_key_must_be_p384(world: SnpWorld) -> None:
    """A leaf with a key on another curve cannot have signed the report."""
    for key in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        leaf = world.leaf(key=key)  # type: ignore[arg-type]  # the wrong kind of key is the point
        refuse(world, "snp-leaf-key", collateral=world.collateral(leaf))


# Time ---------------------------------------------------------------------------------------------------


def test_validity_is_judged_at_the_given_time(world: SnpWorld) -> None:
    """Every certificate's window counts, to the second, at the caller's time."""
    start = world.leaf_certificate().not_valid_before_utc
    end = world.leaf_certificate().not_valid_after_utc
    ask_end = world.ask.not_valid_after_utc
    assert world.verify(now=start).not_after == world.verify(now=end).not_after == end < ask_end
    refuse(world, "certificate-not-yet-valid", now=start - timedelta(seconds=1))
    refuse(world, "certificate-expired", now=end + timedelta(seconds=1))
    assert "ARK" in refuse(world, "certificate-expired", now=ask_end + timedelta(seconds=1)).expected


def test_expired_intermediate(mock_keys: MockKeys) -> None:
    """A fresh leaf under an intermediate that has ended."""
    old = SnpWorld(mock_keys, issued_at=NOW - timedelta(days=26 * 365))
    fresh = SnpWorld(mock_keys)
    collateral = fresh.collateral(ask=old.ask_der)
    assert "ASK" in refuse(fresh, "certificate-expired", collateral=collateral).expected


def test_time_without_zone_is_an_error_of_the_caller(world: SnpWorld) -> None:
    """A naive time would be read in the machine's own zone."""
    with pytest.raises(ValueError, match="zone"):
        world.verify(now=NOW.replace(tzinfo=None))


# Revocation ---------------------------------------------------------------------------------------------


def test_current_list_that_lists_others(world: SnpWorld) -> None:
    """A current list is checked, and bounds how long the verdict may last."""
    verified = world.verify(collateral=world.collateral(crl=world.crl(1, 2, 3)))
    assert verified.revocation_checked
    assert verified.not_after == NOW + timedelta(days=29)


@pytest.mark.parametrize("serial", [ASK_SERIAL, VCEK_SERIAL])
def test_revoked(serial: int, world: SnpWorld) -> None:
    """The list names the intermediate, or the leaf."""
    refuse(world, "certificate-revoked", collateral=world.collateral(crl=world.crl(7, serial)))


def test_list_windows(world: SnpWorld) -> None:
    """An old list hides what happened since; one from the future is nobody's."""
    old = world.crl(issued_at=NOW - timedelta(days=40))
    refuse(world, "crl-expired", collateral=world.collateral(crl=old))
    early = world.crl(issued_at=NOW + timedelta(days=2))
    refuse(world, "crl-not-yet-valid", collateral=world.collateral(crl=early))


def test_list_of_another_issuer(world: SnpWorld, other_keys: MockKeys) -> None:
    """Neither the intermediate nor another root speaks for this root."""
    by_ask = world.crl(issuer=world.ask_issuer)
    refuse(world, "crl-issuer", collateral=world.collateral(crl=by_ask))
    by_other = world.crl(issuer=Issuer("ARK-Genoa", other_keys.ark))
    refuse(world, "crl-signature", collateral=world.collateral(crl=by_other))


def test_list_that_is_none(world: SnpWorld) -> None:
    """Junk is not a list, and empty bytes are not 'no list'."""
    for junk in (b"", b"\x30\x00", world.ask_der, world.crl() + b"\x00"):
        refuse(world, "crl-malformed", collateral=world.collateral(crl=junk))


# Leaf against report ------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["3.1", "3.2", "3.3", "3.8"])
@pytest.mark.parametrize("step", [1, -1])
def test_leaf_of_another_tcb(component: str, step: int, mock_keys: MockKeys) -> None:
    """Each component alone, one up or one down: the key of another firmware version."""
    world = SnpWorld(mock_keys, tcb=TcbVersion(boot_loader=9, tee=9, snp=9, microcode=9))
    extensions = world.extensions() | {component: integer(9 + step)}
    refuse(world, "snp-leaf-tcb", collateral=world.collateral(world.leaf(extensions)))


def test_leaf_of_another_fmc(mock_keys: MockKeys) -> None:
    """Turin's additional component counts too."""
    world = SnpWorld(mock_keys, "Turin", tcb=TURIN_TCB)
    extensions = world.extensions() | {"3.9": integer(4)}
    refuse(world, "snp-leaf-tcb", collateral=world.collateral(world.leaf(extensions)))


def test_leaf_of_another_product(world: SnpWorld) -> None:
    """The leaf's own product name must agree with its issuer."""
    for name in ("Milan-B0", "Genoa2", "Genoa-", "Genoa-B0x", "genoa", "Gen", "Turin"):
        extensions = world.extensions() | {"2": ia5_string(name)}
        refuse(world, "snp-leaf-product", collateral=world.collateral(world.leaf(extensions)))


@pytest.mark.parametrize(("product", "size"), [("Milan", 64), ("Genoa", 64), ("Turin", 8)])
def test_both_encodings_of_the_chip(product: Product, size: int, mock_keys: MockKeys) -> None:
    """Raw or wrapped as OCTET STRING, and a raw one that begins like a wrapped one."""
    for chip_id in (bytes(range(size)), bytes([0x04, size - 2]) + bytes(range(size - 2))):
        world = SnpWorld(mock_keys, product, tcb=TURIN_TCB if product == "Turin" else None)
        world.chip_id = chip_id
        wrapped = world.extensions() | {"4": bytes([0x04, size]) + chip_id}
        for leaf in (world.leaf(), world.leaf(wrapped)):
            assert world.verify(collateral=world.collateral(leaf)).report.chip_id == chip_id.ljust(
                64, b"\x00"
            )


def test_another_chip(world: SnpWorld) -> None:
    """A genuine leaf of another chip, and a report whose chip is masked."""
    extensions = world.extensions() | {"4": bytes(64)}
    refuse(world, "snp-chip-id", collateral=world.collateral(world.leaf(extensions)))
    refuse(world, "snp-chip-id", world.report(edits={0x1A0: bytes(64)}))


def test_turin_chip_id_is_eight_bytes(mock_keys: MockKeys) -> None:
    """What stands after Turin's eight bytes must be zero."""
    world = SnpWorld(mock_keys, "Turin", tcb=TURIN_TCB)
    refuse(world, "snp-chip-id", world.report(edits={0x1A0 + 8: b"\x01"}))


# Signature and report -----------------------------------------------------------------------------------


def test_report_signed_by_another_key(world: SnpWorld) -> None:
    """A chip that is not the leaf's."""
    refuse(world, "snp-report-signature", world.report(key=ec.generate_private_key(ec.SECP384R1())))


def test_signature_of_another_report(world: SnpWorld) -> None:
    """A genuine signature, moved."""
    first, second = world.report(), world.report(edits={0x50: b"other"})
    refuse(world, "snp-report-signature", second[:0x2A0] + first[0x2A0:])


def test_unsigned_report(world: SnpWorld) -> None:
    """The host may have the firmware not sign (SIGNING_KEY 7)."""
    refuse(world, "snp-report-unsigned", world.report(edits={0x48: bytes([7 << 2])}))


def tcb_bytes(**changed: int) -> bytes:
    """The mock's TCB with components replaced."""
    return replace(MockLaunch().tcb, **changed).serialise("Genoa")


@pytest.mark.parametrize("component", ["boot_loader", "snp", "microcode"])
def test_firmware_order(component: str, world: SnpWorld) -> None:
    """Reported beyond committed, or committed beyond current, in any one component."""
    lower = tcb_bytes(**{component: getattr(MockLaunch().tcb, component) - 1})
    refuse(world, "snp-tcb-order", world.report(edits={0x1E0: lower}))
    refuse(world, "snp-tcb-order", world.report(edits={0x38: lower}))
    higher = tcb_bytes(**{component: getattr(MockLaunch().tcb, component) + 1})
    world.verify(world.report(edits={0x38: higher}))
    world.verify(world.report(edits={0x38: higher, 0x1E0: higher}))


@pytest.mark.parametrize("offset", [0x38, 0x180, 0x1E0, 0x1F0])
@pytest.mark.parametrize("byte", [2, 3, 4, 5])
def test_reserved_tcb_bytes(offset: int, byte: int, world: SnpWorld) -> None:
    """A reserved byte may mean something one day: until then it is not accepted."""
    refuse(world, "snp-tcb-reserved", world.report(edits={offset + byte: b"\x01"}))


# Fuzz ---------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_junk_is_refused(data: st.DataObject, world: SnpWorld) -> None:
    """Replace, cut or extend any part with anything: only refusals come out, and never a verdict."""
    parts = {
        "report": world.report(),
        "leaf": world.leaf(),
        "intermediate": world.ask_der,
        "ark": world.ark_der,
        "crl": world.crl(),
    }
    name = data.draw(st.sampled_from(sorted(parts)))
    good = parts[name]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    parts[name] = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
    report, collateral = parts.pop("report"), SnpCollateral(**parts)
    if {"report": report, **parts}[name] == good:
        world.verify(report, collateral)
        return
    with pytest.raises((Refused, Malformed, Unsupported)):
        world.verify(report, collateral)

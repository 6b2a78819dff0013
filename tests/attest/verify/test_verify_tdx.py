"""What verify_tdx refuses, one lie at a time, in a world where everything else is honest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest.checks import CheckList, Outcome
from attest.collateral.tdx import INTEL_ROOT_SHA256, TdxRoots
from attest.evidence.event_log import replay_event_log
from attest.evidence.tdx_attributes import DEBUG, MIGRATABLE, PERFMON, PROTECTION_KEYS, SEPT_VE_DISABLE
from attest.mock.tdx import AUTHORITY_SERIAL, PCK_SERIAL, SIGNER_SERIAL, MockTdxVendor
from attest.mock.tdx_certificates import MockPlatform, Party, sgx_extension
from attest.mock.tdx_documents import MockTcb
from attest.mock.tdx_event_log import event_log
from attest.mock.tdx_quote import MockTdLaunch
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify import dcap
from attest.verify.p256 import point
from attest.verify.rtmr import require_rtmrs
from attest.verify.tdx_chain import Chain, platform_chain
from tests.simulators.tdx_world import NOW, REPORT_DATA, TdxWorld

SECOND = timedelta(seconds=1)
SVN = bytes([5, 1, 2]) + bytes(13)


@pytest.fixture(scope="module")
def world() -> TdxWorld:
    """An honest world."""
    return TdxWorld()


def refused(code: str, world: TdxWorld, *arguments: Any, **options: Any) -> Refused:
    """Verify, and require this refusal; its row is the last one."""
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        world.verify(*arguments, checks=checks, **options)
    assert refusal.value.code == code, str(refusal.value)
    assert checks.rows[-1].outcome is Outcome.REFUSED
    return refusal.value


def test_honest_world(world: TdxWorld) -> None:
    """Quote versions 4 and 5 verify, padded or not, and say what they should."""
    for launch in (MockTdLaunch(), MockTdLaunch(mrservicetd=bytes(48))):
        quote, checks = world.vendor.quote(REPORT_DATA, launch), CheckList()
        verified = world.verify(quote + bytes(100), checks=checks)
        assert (verified.vendor, verified.tcb_status, verified.advisory_ids) == ("mock", "UpToDate", ())
        assert verified.quote.report.report_data == REPORT_DATA
        assert verified.quote.trimmed == quote
        assert verified.fmspc == world.vendor.platform.fmspc
        assert verified.tcb_evaluation_data_number == 18
        assert [row.outcome for row in checks] == [Outcome.PASSED] * 9


# Roots


def test_roots(world: TdxWorld) -> None:
    """Only the named root counts: not Intel's, not another mock's, and none when none is named."""
    other = MockTdxVendor.create(now=NOW)
    for roots in (
        TdxRoots(intel=True),
        TdxRoots(intel=True, mock_root_sha256=other.root_sha256),
        TdxRoots(intel=False),
        TdxRoots(intel=False, mock_root_sha256=INTEL_ROOT_SHA256),
    ):
        refused("tdx-root-not-trusted", world, roots=roots)
    both = TdxRoots(intel=True, mock_root_sha256=world.vendor.root_sha256)
    assert world.verify(roots=both).vendor == "mock"


def test_a_root_that_only_looks_right(world: TdxWorld) -> None:
    """The pinned root at the end of a chain that it did not sign."""
    pck, authority, root = world.chain_pems()
    stranger = TdxWorld()
    strange_pck, strange_authority, _ = stranger.chain_pems()
    refused("certificate-signature", world, world.quote_with_chain(pck, strange_authority, root))
    refused("certificate-signature", world, world.quote_with_chain(strange_pck, authority, root))
    quote = world.quote_with_chain(strange_pck, strange_authority, root)
    refused("certificate-signature", world, quote)


# Certificates


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_chain_of_another_length(count: int, world: TdxWorld) -> None:
    """Three certificates, no fewer and no more."""
    pems = (*world.chain_pems(), world.chain_pems()[2])[:count]
    refused("tdx-chain-incomplete", world, world.quote_with_chain(*pems))


def test_names(world: TdxWorld) -> None:
    """Each certificate stands in the place that its name says."""
    _, authority, root = world.chain_pems()
    refused(
        "tdx-chain-names",
        world,
        world.quote_with_chain(world.pck(name="Intel SGX TCB Signing"), authority, root),
    )
    other = Party("Intel SGX Another CA", world.vendor.keys.authority)
    other_pem = world.pem(other, world.vendor.root, path_length=0, is_authority=True)
    leaf = world.pem(
        Party("Intel SGX PCK Certificate", world.vendor.keys.platform),
        other,
        sgx=sgx_extension(MockPlatform()),
    )
    refused("tdx-chain-names", world, world.quote_with_chain(leaf, other_pem, root))
    processor = Party("Intel SGX PCK Processor CA", world.vendor.keys.authority)
    processor_pem = world.pem(processor, world.vendor.root, path_length=0, is_authority=True)
    leaf = world.pem(
        Party("Intel SGX PCK Certificate", world.vendor.keys.platform),
        processor,
        sgx=sgx_extension(MockPlatform()),
    )
    refused("tdx-pck-crl-issuer", world, world.quote_with_chain(leaf, processor_pem, root))


def test_a_root_of_another_name(world: TdxWorld) -> None:
    """A pinned key under another name is not the root that the chain must end in."""
    stranger = Party("Another Root CA", world.vendor.keys.root)
    pems = (
        world.pck(),
        world.pem(world.vendor.authority, stranger, path_length=0, is_authority=True),
        world.pem(stranger, stranger, path_length=1, is_authority=True),
    )
    ders = tuple(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in pems)
    with pytest.raises(Refused) as refusal:
        platform_chain(ders, ders[2])
    assert refusal.value.code == "tdx-chain-names"


def test_an_authority_that_is_none(world: TdxWorld) -> None:
    """A certificate that may not sign others signs nothing."""
    _, _, root = world.chain_pems()
    authority = world.pem(world.vendor.authority, world.vendor.root)
    refused("certificate-authority", world, world.quote_with_chain(world.pck(), authority, root))


def test_only_the_signing_key_may_say_what_is_up_to_date(world: TdxWorld) -> None:
    """A platform's own authority, also directly under the root, signs no TCB info."""
    _, authority, root = world.chain_pems()
    refused("tdx-chain-names", world, None, world.with_signer_chain(authority + root))


def test_collateral_chains(world: TdxWorld) -> None:
    """One certificate, and the very root of the quote."""
    signer, root = world.good.tcb_info_issuer_chain.encode(), world.chain_pems()[2]
    strange = TdxWorld().good
    for pem in (root, signer + root, strange.tcb_info_issuer_chain.encode()):
        refused("tdx-collateral-chain", world, None, world.with_signer_chain(pem))
    other_identity = replace(world.good, qe_identity_issuer_chain=strange.qe_identity_issuer_chain)
    refused("tdx-collateral-chain", world, None, other_identity)
    other_list = replace(world.good, pck_crl_issuer_chain=strange.pck_crl_issuer_chain)
    refused("tdx-collateral-chain", world, None, other_list)


def test_the_authority_of_the_list(world: TdxWorld) -> None:
    """Its certificate may be issued anew, for the same name and the same key; for another key it may not."""
    _, authority, root = world.chain_pems()
    again = world.pem(world.vendor.authority, world.vendor.root, path_length=0, is_authority=True)
    assert again != authority
    world.verify(collateral=replace(world.good, pck_crl_issuer_chain=(again + root).decode()))
    stranger = Party(world.vendor.authority.common_name, ec.generate_private_key(ec.SECP256R1()))
    other = world.pem(stranger, world.vendor.root, path_length=0, is_authority=True)
    changed = replace(world.good, pck_crl_issuer_chain=(other + root).decode())
    refused("tdx-pck-crl-issuer", world, None, changed)
    renamed = Party("Intel SGX PCK Processor CA", world.vendor.keys.authority)
    other = world.pem(renamed, world.vendor.root, path_length=0, is_authority=True)
    changed = replace(world.good, pck_crl_issuer_chain=(other + root).decode())
    refused("tdx-pck-crl-issuer", world, None, changed)


def test_keys_of_another_curve(world: TdxWorld) -> None:
    """The one algorithm of the chain is P-256."""
    _, authority, root = world.chain_pems()
    p384 = Party("Intel SGX PCK Certificate", ec.generate_private_key(ec.SECP384R1()))
    leaf = world.pem(p384, world.vendor.authority, sgx=sgx_extension(MockPlatform()))
    refused("certificate-key", world, world.quote_with_chain(leaf, authority, root))
    strong = Party("Intel SGX PCK Platform CA", p384.key)
    strong_pem = world.pem(strong, world.vendor.root, path_length=0, is_authority=True)
    leaf = world.pem(Party("Intel SGX PCK Certificate", world.vendor.keys.platform), strong)
    refused("certificate-key", world, world.quote_with_chain(leaf, strong_pem, root))


@pytest.mark.parametrize("serial", [PCK_SERIAL, AUTHORITY_SERIAL, SIGNER_SERIAL])
def test_revoked(serial: int, world: TdxWorld) -> None:
    """Platform, its authority and Intel's signing key alike."""
    refused("certificate-revoked", world, None, world.collateral(revoked=(serial,)))


def test_lists(world: TdxWorld) -> None:
    """Each list is its authority's own, and whole."""
    good = world.good
    refused("crl-issuer", world, None, replace(good, root_ca_crl=good.pck_crl))
    refused("crl-issuer", world, None, replace(good, pck_crl=good.root_ca_crl))
    strange = TdxWorld().good
    refused("crl-signature", world, None, replace(good, pck_crl=strange.pck_crl))
    refused("crl-signature", world, None, replace(good, root_ca_crl=strange.root_ca_crl))
    refused("crl-malformed", world, None, replace(good, root_ca_crl=b""))


def test_every_step_has_its_row(world: TdxWorld) -> None:
    """Who reads the verdict sees each check once, and until when it holds."""
    checks = CheckList()
    world.verify(checks=checks)
    assert [row.name for row in checks] == [
        "TDX quote format",
        "TDX root",
        "TDX certificate chains",
        "TDX TCB info and QE identity",
        "TDX quoting enclave",
        "TDX quote signature",
        "TDX TCB level",
        "TDX TD attributes",
        "TDX second opinion",
    ]
    assert {row.outcome for row in checks} == {Outcome.PASSED}
    assert {row.name: row.expires for row in checks if row.expires is not None} == {
        "TDX certificate chains": NOW + timedelta(days=29) - SECOND,
        "TDX TCB info and QE identity": NOW + timedelta(days=29),
    }


def test_a_chain_ends_with_its_first_certificate(world: TdxWorld) -> None:
    """The shortest life counts, and there is a name for each certificate."""
    certificates = tuple(x509.load_pem_x509_certificate(pem) for pem in world.chain_pems())
    ends = [each.not_valid_after_utc for each in certificates]
    assert len(set(ends)) > 1
    assert Chain(certificates, ("a", "b", "c")).require_current(NOW) == min(ends)
    with pytest.raises(ValueError, match="shorter"):
        Chain(certificates, ("a", "b")).require_current(NOW)


def test_time(world: TdxWorld) -> None:
    """To the second: the documents end after thirty days, the lists one second earlier."""
    end = world.verify().not_after
    assert end == NOW + timedelta(days=29) - SECOND
    world.verify(now=end)
    refused("crl-expired", world, now=end + SECOND)
    refused("crl-not-yet-valid", world, None, world.vendor.collateral(now=NOW + timedelta(days=2)))
    refused("certificate-not-yet-valid", world, now=NOW - timedelta(days=2))
    refused("certificate-expired", world, now=NOW + timedelta(days=8 * 365))
    start = f"{NOW + SECOND:%Y-%m-%dT%H:%M:%SZ}"
    past = f"{NOW - SECOND:%Y-%m-%dT%H:%M:%SZ}"
    for name, code in (
        ("issueDate", "tdx-collateral-not-yet-valid"),
        ("nextUpdate", "tdx-collateral-expired"),
    ):
        text = {name: start if name == "issueDate" else past}
        info = refused(code, world, None, world.collateral(lambda info, text=text: info.update(text)))
        assert "TCB info" in str(info)
        changed = world.collateral(None, lambda identity, text=text: identity.update(text))
        assert "QE identity" in str(refused(code, world, None, changed))


def test_the_first_end_counts(world: TdxWorld) -> None:
    """Whichever of certificates and documents ends first ends the verdict."""
    _, authority, root = world.chain_pems()
    old = world.pem(
        Party("Intel SGX PCK Certificate", world.vendor.keys.platform),
        world.vendor.authority,
        sgx=sgx_extension(world.vendor.platform),
        issued_at=NOW - timedelta(days=7 * 365 - 5),
    )
    checks = CheckList()
    end = NOW + timedelta(days=4)
    assert world.verify(world.quote_with_chain(old, authority, root), checks=checks).not_after == end
    assert [row.expires for row in checks if row.name == "TDX certificate chains"] == [end]
    tomorrow = {"nextUpdate": f"{NOW + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"}
    for collateral in (
        world.collateral(lambda info: info.update(tomorrow)),
        world.collateral(None, lambda identity: identity.update(tomorrow)),
    ):
        checks = CheckList()
        assert world.verify(None, collateral, checks=checks).not_after == NOW + timedelta(days=1)
        assert checks.expires == NOW + timedelta(days=1)


# Signatures


def test_documents_signed_by_another(world: TdxWorld) -> None:
    """A changed document, or a signature for the other one."""
    good = world.good
    for name in ("tcb_info", "qe_identity"):
        code = f"tdx-{name.replace('_', '-')}-signature"
        changed = getattr(good, name).replace("UpToDate", "UpToDatf")
        refused(code, world, None, replace(good, **{name: changed}))
    swapped = replace(
        good, tcb_info_signature=good.qe_identity_signature, qe_identity_signature=good.tcb_info_signature
    )
    refused("tdx-tcb-info-signature", world, None, swapped)


def test_another_attestation_key(world: TdxWorld) -> None:
    """Whoever signs the quote must be named by the quoting enclave, and the enclave by the platform."""
    quote = bytearray(world.vendor.quote(REPORT_DATA))
    other = TdxWorld().vendor.quote(REPORT_DATA)
    start = 48 + 584 + 4
    swapped = bytes(quote[:start]) + other[start : start + 128] + bytes(quote[start + 128 :])
    refused("tdx-attestation-key", world, swapped)
    # Another platform's report about that other key, under this platform's certificate.
    report = start + 128 + 6
    borrowed = swapped[:report] + other[report : report + 384 + 64] + swapped[report + 384 + 64 :]
    refused("tdx-qe-report-signature", world, borrowed)


def test_another_body(world: TdxWorld) -> None:
    """Nothing in header or body can be changed."""
    quote = bytearray(world.vendor.quote(REPORT_DATA))
    quote[48 + 136] ^= 1  # MRTD
    refused("tdx-quote-signature", world, bytes(quote))


def test_attestation_key_off_the_curve() -> None:
    """What a quoting enclave names need not be a point."""
    with pytest.raises(Malformed, match="tdx-attestation-key"):
        point(b"\x01" * 64)


@pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_flipped_bits_of_the_quote(stride: int, world: TdxWorld) -> None:
    """Every 97th bit of the quote, and slowly every one, wherever it lies: certificates too."""
    quote = world.vendor.quote(REPORT_DATA)
    for bit in range(0, 8 * len(quote), stride):
        flipped = bytearray(quote)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused):
            world.verify(bytes(flipped))


@pytest.mark.parametrize(
    "name", ["tcb_info", "qe_identity", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain"]
)
def test_flipped_bits_of_the_collateral(name: str, world: TdxWorld) -> None:
    """Of each document of the collateral, a sample."""
    value = getattr(world.good, name)
    raw = value.encode() if isinstance(value, str) else value
    for bit in range(0, 8 * len(raw), max(1, len(raw) // 8) | 1):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused):
            world.verify(None, replace(world.good, **{name: _like(value, bytes(flipped))}))


def _like(value: str | bytes, raw: bytes) -> str | bytes:
    return raw.decode("latin-1") if isinstance(value, str) else raw


# What Intel says of the platform


@pytest.mark.parametrize(
    ("platform", "module", "qe", "status"),
    [
        ("UpToDate", "UpToDate", "UpToDate", "UpToDate"),
        ("SWHardeningNeeded", "UpToDate", "UpToDate", "SWHardeningNeeded"),
        ("ConfigurationNeeded", "UpToDate", "UpToDate", "ConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "UpToDate", "UpToDate", "ConfigurationAndSWHardeningNeeded"),
        ("OutOfDate", "UpToDate", "UpToDate", "OutOfDate"),
        ("UpToDate", "OutOfDate", "UpToDate", "OutOfDate"),
        ("UpToDate", "UpToDate", "OutOfDate", "OutOfDate"),
        ("SWHardeningNeeded", "OutOfDate", "UpToDate", "OutOfDate"),
        ("SWHardeningNeeded", "UpToDate", "OutOfDate", "OutOfDate"),
        ("ConfigurationNeeded", "OutOfDate", "UpToDate", "OutOfDateConfigurationNeeded"),
        ("ConfigurationNeeded", "UpToDate", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDate", "OutOfDateConfigurationNeeded"),
        ("OutOfDateConfigurationNeeded", "OutOfDate", "UpToDate", "OutOfDateConfigurationNeeded"),
    ],
)
def test_status(platform: str, module: str, qe: str, status: str, world: TdxWorld) -> None:
    """The worst of platform, module and quoting enclave, and both verifiers say so."""
    tcb = MockTcb(platform, module, qe, advisory_ids=("INTEL-SA-00001",), evaluation_number=20)
    verified = world.verify(None, world.vendor.collateral(tcb, now=NOW))
    assert (verified.tcb_status, verified.tcb_evaluation_data_number) == (status, 20)
    assert verified.advisory_ids == ("INTEL-SA-00001",)


def test_advisories_of_every_part(world: TdxWorld) -> None:
    """Platform, module and quoting enclave explain themselves, each advisory once."""

    def module(info: dict[str, Any]) -> None:
        info["tdxModuleIdentities"][0]["tcbLevels"][0]["advisoryIDs"] = ["INTEL-SA-2", "INTEL-SA-1"]

    def enclave(identity: dict[str, Any]) -> None:
        identity["tcbLevels"][0]["advisoryIDs"] = ["INTEL-SA-3"]

    collateral = world.collateral(module, enclave, tcb=MockTcb(advisory_ids=("INTEL-SA-1",)))
    assert world.verify(None, collateral).advisory_ids == ("INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3")


@pytest.mark.parametrize("part", ["platform", "module", "qe"])
def test_revoked_versions(part: str, world: TdxWorld) -> None:
    """Revoked is never a status to be appraised."""
    refused("tdx-tcb-revoked", world, None, world.collateral(tcb=MockTcb(**{part: "Revoked"})))


def test_older_evaluation_of_the_two_counts(world: TdxWorld) -> None:
    """A floor on the evaluation number holds for both documents."""
    collateral = world.collateral(None, lambda identity: identity.update(tcbEvaluationDataNumber=12))
    assert world.verify(None, collateral).tcb_evaluation_data_number == 12


def test_advice_to_launch_anew(world: TdxWorld) -> None:
    """An out-of-date module, updated since the launch: neither up to date nor hidden."""

    def older_level(info: dict[str, Any]) -> None:
        levels = info["tdxModuleIdentities"][0]["tcbLevels"]
        levels.append({"tcb": {"isvsvn": 3}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "OutOfDate"})

    old = bytes([4, 1, 2]) + bytes(13)
    for svn_2, status in ((SVN, "TDRelaunchAdvised"), (old, "OutOfDate")):
        launch = MockTdLaunch(tee_tcb_svn=old, mrservicetd=bytes(48), tee_tcb_svn_2=svn_2)
        assert world.verify(None, world.collateral(older_level), launch=launch).tcb_status == status


def test_levels_are_searched_from_the_highest(world: TdxWorld) -> None:
    """Whatever their order in the text, as Intel's library does."""

    def lower_first(info: dict[str, Any]) -> None:
        lower = json.loads(json.dumps(info["tcbLevels"][0]))
        lower["tcb"]["pcesvn"], lower["tcbStatus"] = 5, "OutOfDate"
        info["tcbLevels"].insert(0, lower)

    assert world.verify(None, world.collateral(lower_first)).tcb_status == "UpToDate"


@pytest.mark.parametrize(
    "path", [("pcesvn",), ("sgxtcbcomponents", 0), ("sgxtcbcomponents", 15), ("tdxtcbcomponents", 2)]
)
def test_platform_below_every_level(path: tuple[Any, ...], world: TdxWorld) -> None:
    """Each component counts by itself."""

    def raise_one(info: dict[str, Any]) -> None:
        tcb = info["tcbLevels"][0]["tcb"]
        if len(path) == 1:
            tcb[path[0]] += 1
        else:
            tcb[path[0]][path[1]]["svn"] += 1

    refused("tdx-tcb-not-supported", world, None, world.collateral(raise_one))


def test_module_components_are_the_platforms_in_line_0_only(world: TdxWorld) -> None:
    """From major version 1 on, components 0 and 1 are judged by the module's own levels."""

    def demand(index: int) -> Any:
        return lambda info: info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][index].update(svn=9)

    line_0 = MockTdLaunch(tee_tcb_svn=bytes([5, 0, 2]) + bytes(13))
    assert world.verify(launch=line_0).tcb_status == "UpToDate"
    for index in (0, 1):
        assert world.verify(None, world.collateral(demand(index))).tcb_status == "UpToDate"
        refused("tdx-tcb-not-supported", world, None, world.collateral(demand(index)), launch=line_0)


def test_another_family(world: TdxWorld) -> None:
    """TCB info speaks of one family and one provisioning enclave."""
    refused("tdx-fmspc", world, None, world.collateral(lambda info: info.update(fmspc="00" * 6)))
    refused("tdx-pceid", world, None, world.collateral(lambda info: info.update(pceId="0001")))


def test_module(world: TdxWorld) -> None:
    """Its signer, its attributes, its line and its version are Intel's."""
    identity = {"attributes": "01" + "00" * 7, "attributesMask": "FF" * 8}
    for launch in (MockTdLaunch(mrsignerseam=b"\x01" * 48), MockTdLaunch(seam_attributes=b"\x01" + bytes(7))):
        refused("tdx-module-identity", world, launch=launch)
    refused(
        "tdx-module-identity",
        world,
        None,
        world.collateral(lambda info: info["tdxModuleIdentities"][0].update(identity)),
    )
    line_0 = MockTdLaunch(tee_tcb_svn=bytes([5, 0, 2]) + bytes(13), mrsignerseam=b"\x01" * 48)
    refused("tdx-module-identity", world, launch=line_0)
    refused("tdx-module-identity", world, launch=MockTdLaunch(tee_tcb_svn=bytes([5, 2, 2]) + bytes(13)))
    refused(
        "tdx-module-identity", world, None, world.collateral(lambda info: info.pop("tdxModuleIdentities"))
    )
    old = MockTdLaunch(tee_tcb_svn=bytes([4, 1, 2]) + bytes(13))
    refused("tdx-module-not-supported", world, launch=old)


@pytest.mark.parametrize(
    "other",
    [
        {"mrsigner": "00" * 32},
        {"isvprodid": 1},
        {"miscselect": "01" + "00" * 3},
        {"attributes": "13" + "00" * 15},
    ],
    ids=str,
)
def test_quoting_enclave(other: dict[str, Any], world: TdxWorld) -> None:
    """Signer, product and attributes, under the mask, are Intel's."""
    refused("tdx-qe-identity", world, None, world.collateral(None, lambda identity: identity.update(other)))


def test_old_quoting_enclave(world: TdxWorld) -> None:
    """Older than every level is not supported; newer than the highest is."""
    refused("tdx-qe-tcb-not-supported", world, launch=MockTdLaunch(qe_isvsvn=7))
    assert world.verify(launch=MockTdLaunch(qe_isvsvn=9)).tcb_status == "UpToDate"


# The TD itself


def test_td_attributes(world: TdxWorld) -> None:
    """A debugger, migration, a service TD, memory taken away: a paravisor excuses the last only."""
    refused("tdx-migratable", world, launch=MockTdLaunch(attributes=SEPT_VE_DISABLE | MIGRATABLE))
    refused("tdx-migratable", world, launch=MockTdLaunch(attributes=MIGRATABLE), azure_paravisor=True)
    refused("tdx-debug", world, launch=MockTdLaunch(attributes=SEPT_VE_DISABLE | DEBUG))
    refused("tdx-debug", world, launch=MockTdLaunch(attributes=DEBUG), azure_paravisor=True)
    bound = b"\x00" * 47 + b"\x01"
    refused("tdx-service-td", world, launch=MockTdLaunch(mrservicetd=bound))
    refused(
        "tdx-service-td", world, launch=MockTdLaunch(mrservicetd=bound, attributes=0), azure_paravisor=True
    )
    refused("tdx-sept-ve", world, launch=MockTdLaunch(attributes=0))
    refused("tdx-sept-ve", world, launch=MockTdLaunch(attributes=PERFMON), azure_paravisor=True)


def test_attributes_for_the_appraisal(world: TdxWorld) -> None:
    """Performance counters, protection keys and key locker are facts that are handed on."""
    verified = world.verify(launch=MockTdLaunch(attributes=SEPT_VE_DISABLE | PERFMON | PROTECTION_KEYS))
    assert verified.quote.report.attributes.perfmon
    assert verified.quote.report.attributes.raw == SEPT_VE_DISABLE | PERFMON | PROTECTION_KEYS


def test_paravisor(world: TdxWorld) -> None:
    """All signatures and levels are judged as for any other; only the second opinion is not to be had."""
    bare, checks = MockTdLaunch(attributes=0), CheckList()
    verified = world.verify(launch=bare, azure_paravisor=True, checks=checks)
    assert verified.paravisor
    assert [row.name for row in checks if row.outcome is Outcome.NOTED] == ["TDX second opinion"]
    assert not world.verify(azure_paravisor=True).paravisor
    quote = bytearray(world.vendor.quote(REPORT_DATA, bare))
    quote[48 + 136] ^= 1
    refused("tdx-quote-signature", world, bytes(quote), azure_paravisor=True)
    refused("tdx-root-not-trusted", world, launch=bare, azure_paravisor=True, roots=TdxRoots(intel=True))


# The second opinion


class _Report:
    def __init__(self, status: str, advisory_ids: tuple[str, ...] = ()) -> None:
        self.status, self.advisory_ids = status, list(advisory_ids)


@pytest.mark.parametrize(
    "answer",
    [_Report("OutOfDate"), _Report("Splendid"), _Report("UpToDate", ("INTEL-SA-1",)), ValueError("no")],
)
def test_verifiers_must_agree(answer: Any, world: TdxWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another status, an unknown one, another advisory or a refusal: never the milder of two answers."""

    def say(*_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(dcap.dcap_qvl, "verify_with_root_ca", say)
    refused("tdx-verifiers-disagree", world)


def test_second_verifier_sees_the_same(world: TdxWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the quote without padding, the same root and the same time."""
    seen: list[Any] = []
    real = dcap_qvl.verify_with_root_ca

    def listen(*arguments: Any) -> Any:
        seen.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(dcap.dcap_qvl, "verify_with_root_ca", listen)
    quote = world.vendor.quote(REPORT_DATA)
    world.verify(quote + bytes(64))
    ((got_quote, _, _, got_now),) = seen
    assert (got_quote, got_now) == (quote, int(NOW.timestamp()))


# Documents of another kind


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "SGX"}, "tdx-tcb-info-kind"),
        ({"version": 2}, "tdx-tcb-info-kind"),
        ({"tcbType": 1}, "tdx-tcb-info-kind"),
        ({"issueDate": "yesterday"}, "tdx-tcb-info-form"),
        ({"issueDate": "2026-13-01T00:00:00Z"}, "tdx-tcb-info-form"),
        ({"fmspc": "5ea190c0ff"}, "tdx-tcb-info-form"),
        ({"fmspc": "zz" * 6}, "tdx-tcb-info-form"),
        ({"tcbLevels": {}}, "tdx-tcb-info-form"),
        ({"tcbLevels": [1]}, "tdx-tcb-info-form"),
        ({"tcbLevels": [{}] * 129}, "tdx-tcb-info-form"),
        ({"tcbLevels": [{"tcb": 1}]}, "tdx-tcb-info-form"),
        ({"tcbEvaluationDataNumber": True}, "tdx-tcb-info-form"),
        ({"tcbEvaluationDataNumber": -1}, "tdx-tcb-info-form"),
        ({"tdxModule": None}, "tdx-tcb-info-form"),
    ],
    ids=str,
)
def test_tcb_info_of_another_form(change: dict[str, Any], code: str, world: TdxWorld) -> None:
    """Signed though it be."""
    refused(code, world, None, world.collateral(lambda info: info.update(change)))


def test_tcb_info_in_detail(world: TdxWorld) -> None:
    """Fifteen components, two modules of one name, a status that belongs elsewhere, no advisories."""

    def level(change: dict[str, Any]) -> Any:
        return lambda info: info["tcbLevels"][0].update(change)

    def fifteen(info: dict[str, Any]) -> None:
        info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].pop()

    def twice(info: dict[str, Any]) -> None:
        info["tdxModuleIdentities"] *= 2

    for change in (fifteen, twice, level({"advisoryIDs": "all"}), level({"advisoryIDs": ["\n"]})):
        refused("tdx-tcb-info-form", world, None, world.collateral(change))
    for status in ("TDRelaunchAdvised", "Fine"):
        assert isinstance(
            refused("tdx-tcb-status", world, None, world.collateral(level({"tcbStatus": status}))),
            Unsupported,
        )
    refused("tdx-tcb-status", world, None, world.collateral(tcb=MockTcb(qe="ConfigurationNeeded")))
    refused("tdx-tcb-status", world, None, world.collateral(tcb=MockTcb(module="SWHardeningNeeded")))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "QE"}, "tdx-qe-identity-kind"),
        ({"version": 3}, "tdx-qe-identity-kind"),
        ({"mrsigner": "00"}, "tdx-qe-identity-form"),
        ({"isvprodid": 1 << 16}, "tdx-qe-identity-form"),
    ],
    ids=str,
)
def test_qe_identity_of_another_form(change: dict[str, Any], code: str, world: TdxWorld) -> None:
    """Signed though it be."""
    refused(code, world, None, world.collateral(None, lambda identity: identity.update(change)))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[]", "tdx-tcb-info-form"),
        ("{", "tdx-tcb-info-not-json"),
        ('{"a":1,"a":1}', "tdx-tcb-info-duplicate-member"),
    ],
)
def test_tcb_info_that_is_none(text: str, code: str, world: TdxWorld) -> None:
    """Signed JSON is read strictly."""
    refused(code, world, None, world.vendor.signed_collateral(text, world.good.qe_identity, now=NOW))


# Intel's extension


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda der: b"\x31" + der[1:],
        lambda der: der + b"\x00",
        lambda der: der[:-1],
        lambda der: der.replace(bytes.fromhex("5ea190c0ffee"), bytes.fromhex("5ea190c0ffee") * 2),
        lambda der: der.replace(
            bytes.fromhex("0a2a864886f84d010d0104"), bytes.fromhex("0a2a864886f84d010d0103")
        ),
        lambda der: der.replace(
            bytes.fromhex("0a2a864886f84d010d0104"), bytes.fromhex("0a2a864886f84d010e0104")
        ),
        lambda der: der.replace(
            bytes.fromhex("0b2a864886f84d010d010211"), bytes.fromhex("0b2a864886f84d010d010213")
        ),
        lambda der: der.replace(bytes.fromhex("02110201"), bytes.fromhex("02110401")),
    ],
)
def test_extension_of_another_form(spoil: Any, world: TdxWorld) -> None:
    """One DER form, no entry twice, none missing."""
    _, authority, root = world.chain_pems()
    quote = world.quote_with_chain(world.pck(sgx=spoil(sgx_extension(MockPlatform()))), authority, root)
    with pytest.raises(Malformed, match="tdx-pck-extension"):
        world.verify(quote)


def test_extension_missing(world: TdxWorld) -> None:
    """A certificate of the right name that speaks of no platform."""
    _, authority, root = world.chain_pems()
    leaf = world.pem(Party("Intel SGX PCK Certificate", world.vendor.keys.platform), world.vendor.authority)
    refused("tdx-pck-extension", world, world.quote_with_chain(leaf, authority, root))


# Event logs


def test_event_log(world: TdxWorld) -> None:
    """A log explains the registers that it leads to; a change, swap or omission is named by register."""
    entries = [(0, b"firmware"), (1, b"loader"), (1, b"kernel"), (3, b"application")]
    log = event_log(entries)
    rtmrs = replay_event_log(log)
    verified = world.verify(launch=MockTdLaunch(rtmrs=rtmrs))
    assert len(require_rtmrs(verified, log, checks=CheckList()).events) == 4
    swapped = [entries[0], entries[2], entries[1], entries[3]]
    for lie, register in (
        (swapped, "RTMR1"),
        (entries[:-1], "RTMR3"),
        ([(0, b"other"), *entries[1:]], "RTMR0"),
    ):
        checks = CheckList()
        with pytest.raises(Refused) as refusal:
            require_rtmrs(verified, event_log(lie), checks=checks)
        assert refusal.value.code == "tdx-rtmr-mismatch"
        assert refusal.value.expected == f"{register} {rtmrs[int(register[-1])].hex()}"
        assert checks.rows[-1].outcome is Outcome.REFUSED

"""Every check of ``verify_gpu`` on mock evidence in which one thing is wrong."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest.checks import CheckList, Outcome
from attest.collateral.nvidia import (
    NVIDIA_DEVICE_ROOT_SHA256,
    NVIDIA_RIM_ROOT_SHA256,
    NvidiaRoots,
    nvidia_device_root,
)
from attest.evidence import gpu_facts
from attest.evidence.gpu import GpuCollateral, GpuEvidence
from attest.mock import nvidia_report
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_certificates import authority, leaf, signer
from attest.mock.nvidia_report import MockGpu, golden
from attest.mock.rim_document import rim_document, sign_rim
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.nvidia import verify_gpu
from tests.simulators.gpu_world import NONCE, NOW, SWITCH_BIOS, GpuWorld

SWITCH = MockGpu(arch="LS10", vbios_version=SWITCH_BIOS)
PLAIN = MockGpu()


def code_of(world: GpuWorld, **arguments: object) -> str:
    """The code with which a verification refuses, whose row is the last."""
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        world.verify(checks=checks, **arguments)  # type: ignore[arg-type]  # each test names the real arguments
    assert checks.rows[-1].outcome is Outcome.REFUSED
    assert [row.outcome for row in checks].count(Outcome.REFUSED) == 1
    return refusal.value.code


@pytest.mark.parametrize(
    ("gpu", "matched"),
    [
        (PLAIN, 32),
        (MockGpu(nvdec0_enabled=True), 33),
        (MockGpu(arch="BLACKWELL"), 32),
        (MockGpu(arch="BLACKWELL", chip="GB200"), 32),
        (MockGpu(has_fwid=False, protected_pcie=None, feature_flag=None), 32),
        (MockGpu(protected_pcie=True, feature_flag=2), 32),
        (SWITCH, 12),
    ],
)
def test_honest_devices(gpu: MockGpu, matched: int, gpu_world: GpuWorld) -> None:
    """What a device says of itself comes out, with every active index matched and every answer good."""
    checks = CheckList()
    verified = gpu_world.verify(gpu, checks=checks)
    assert (verified.vendor, verified.arch, verified.nonce) == ("mock", gpu.arch, NONCE)
    assert verified.kind == ("switch" if gpu.is_switch else "gpu")
    assert verified.driver_version == (None if gpu.is_switch else gpu.driver_version)
    assert verified.vbios_version == gpu.vbios_version
    assert len(verified.measurements) == matched
    assert (35 in verified.measurements) == gpu.nvdec0_enabled
    assert verified.fwid == gpu.fwid
    assert verified.fwid_in_report == (gpu.has_fwid and not gpu.is_switch)
    flags = {None: None, 0: "spt", 1: "mpt", 2: "ppcie"}
    assert verified.feature_flag == (None if gpu.is_switch else flags[gpu.feature_flag])
    assert verified.protected_pcie == (None if gpu.is_switch else gpu.protected_pcie)
    assert verified.revocation_checked
    noted = [row.name for row in checks if row.outcome is Outcome.NOTED]
    assert noted.count("GPU leaf matches report") == (not verified.fwid_in_report)
    assert NOW < verified.not_after <= NOW + timedelta(days=1)
    assert Outcome.REFUSED not in {row.outcome for row in checks}


def test_every_step_has_its_row(gpu_world: GpuWorld) -> None:
    """Who reads the verdict sees each check once, and until when it holds."""
    checks = CheckList()
    verified = gpu_world.verify(checks=checks)
    assert [row.name for row in checks] == [
        "GPU report format",
        "GPU nonce",
        "GPU certificate chain",
        "GPU leaf matches report",
        "GPU report signature",
        "GPU golden values",
        "GPU measurements",
        "GPU revocation",
    ]
    assert {row.outcome for row in checks} == {Outcome.PASSED}
    ends = {row.name: row.expires for row in checks if row.expires is not None}
    assert set(ends) == {"GPU certificate chain", "GPU golden values", "GPU revocation"}
    assert verified.not_after == ends["GPU revocation"] == min(ends.values())
    assert next(row.got for row in checks if row.name == "GPU golden values") == (
        f"mock, signed, for {PLAIN.driver_version} and {PLAIN.vbios_version}"
    )


def test_nonce_is_ours_or_not_asked(gpu_world: GpuWorld) -> None:
    """The request's nonce decides; saved evidence is noted; a nonce of another length is our fault."""
    assert code_of(gpu_world, nonce=bytes(32)) == "gpu-nonce"
    checks = CheckList()
    gpu_world.verify(nonce=None, checks=checks)
    assert [row.name for row in checks if row.outcome is Outcome.NOTED] == ["GPU nonce"]
    with pytest.raises(ValueError, match="32 bytes"):
        gpu_world.verify(nonce=b"short")


def test_another_architecture_is_unsupported(gpu_world: GpuWorld) -> None:
    """Architectures are named ones."""
    evidence = replace(gpu_world.evidence(), arch="AMPERE")  # type: ignore[arg-type]  # what an attacker may write
    with pytest.raises(Unsupported, match="gpu-arch"):
        gpu_world.verify(evidence=evidence)


@pytest.mark.parametrize(("gpu", "claimed"), [(PLAIN, "BLACKWELL"), (MockGpu(arch="BLACKWELL"), "HOPPER")])
def test_a_leaf_of_another_architecture(gpu: MockGpu, claimed: str, gpu_world: GpuWorld) -> None:
    """The leaf's own name says what the chip is, whatever the evidence claims."""
    evidence = replace(gpu_world.evidence(gpu), arch=claimed)  # type: ignore[arg-type]  # a table of literals
    assert code_of(gpu_world, evidence=evidence) == "gpu-arch-mismatch"


@pytest.mark.parametrize(
    ("opaque", "code"),
    [
        ({gpu_facts.DRIVER_VERSION: None}, "gpu-opaque"),
        ({gpu_facts.VBIOS_VERSION: None}, "gpu-opaque"),
        ({gpu_facts.NVDEC0_STATUS: None}, "gpu-opaque"),
        ({gpu_facts.PROJECT: None}, "gpu-opaque"),
        ({gpu_facts.DRIVER_VERSION: b"\x00"}, "gpu-opaque"),
        ({gpu_facts.DRIVER_VERSION: b"550/../x"}, "gpu-opaque"),
        ({gpu_facts.DRIVER_VERSION: b"5" * 65}, "gpu-opaque"),
        ({gpu_facts.PROJECT: b"10?0"}, "gpu-opaque"),
        ({gpu_facts.VBIOS_VERSION: bytes(7)}, "gpu-opaque"),
        ({gpu_facts.NVDEC0_STATUS: b"\x00"}, "gpu-opaque"),
        ({gpu_facts.NVDEC0_STATUS: b"\x55\x55"}, "gpu-opaque"),
        ({gpu_facts.FWID: bytes(47)}, "gpu-opaque"),
        ({gpu_facts.PROTECTED_PCIE: b"\x01"}, "gpu-opaque"),
        ({gpu_facts.FEATURE_FLAG: b"\x00"}, "gpu-opaque"),
        ({gpu_facts.FEATURE_FLAG: b"\x03\x00"}, "gpu-feature-flag"),
        ({gpu_facts.SWITCH_PDI: bytes(8 * 17)}, "gpu-opaque"),
        ({gpu_facts.FWID: bytes(48)}, "gpu-fwid"),
    ],
)
def test_opaque_fields(opaque: Mapping[int, bytes | None], code: str, gpu_world: GpuWorld) -> None:
    """A field of another form refuses, although the device signed it."""
    assert code_of(gpu_world, evidence=gpu_world.evidence(opaque=opaque)) == code


def test_unknown_opaque_fields_are_kept_out_of_the_way(gpu_world: GpuWorld) -> None:
    """New firmware adds fields; they are signed and decide nothing."""
    gpu_world.verify(evidence=gpu_world.evidence(opaque={255: b"", 999: b"later"}))


def test_a_gpu_has_64_blocks(gpu_world: GpuWorld) -> None:
    """A GPU that measures less than all is malformed; a switch may have fewer, but not fewer than golden."""
    blocks = nvidia_report.measurements(PLAIN)
    assert code_of(gpu_world, evidence=gpu_world.evidence(blocks=blocks[:63])) == "spdm-blocks"
    few = gpu_world.evidence(SWITCH, blocks=nvidia_report.measurements(SWITCH)[:11])
    assert code_of(gpu_world, gpu=SWITCH, evidence=few) == "gpu-measurement-missing"


def test_chain_of_another_root(gpu_world: GpuWorld) -> None:
    """Another mock vendor, no mock vendor, and the roots in each other's place refuse."""
    other = GpuWorld(MockGpuVendor.create(now=NOW))
    assert code_of(gpu_world, roots=other.roots) == "gpu-root-not-trusted"
    assert code_of(gpu_world, roots=NvidiaRoots(nvidia=True)) == "gpu-root-not-trusted"
    assert code_of(gpu_world, roots=NvidiaRoots(nvidia=False)) == "gpu-root-not-trusted"
    devices, rims = gpu_world.vendor.device_root_sha256, gpu_world.vendor.rim_root_sha256
    assert code_of(gpu_world, roots=NvidiaRoots(False, rims, devices)) == "gpu-root-not-trusted"
    assert code_of(gpu_world, roots=NvidiaRoots(False, devices, devices)) == "rim-root-not-trusted"
    assert code_of(gpu_world, roots=NvidiaRoots(False, devices, None)) == "rim-root-not-trusted"
    assert code_of(gpu_world, collateral=other.collateral()) == "rim-root-not-trusted"


def test_nvidias_roots_are_never_a_mock(gpu_world: GpuWorld) -> None:
    """Naming NVIDIA's root as the mock one shows nothing genuine under another name."""
    roots = NvidiaRoots(False, NVIDIA_DEVICE_ROOT_SHA256, NVIDIA_RIM_ROOT_SHA256)
    root = nvidia_device_root()
    pem = b"-----BEGIN CERTIFICATE-----\n" + _base64(root) + b"\n-----END CERTIFICATE-----\n"
    device, chip = gpu_world.vendor.device(PLAIN)
    below = gpu_world.vendor.pem(device, chip).split(b"-----BEGIN")[1:-1]
    chain = b"".join(b"-----BEGIN" + each for each in below) + pem
    evidence = replace(gpu_world.evidence(), certificate_chain=chain)
    assert code_of(gpu_world, evidence=evidence, roots=roots) == "gpu-root-not-trusted"
    assert code_of(gpu_world, evidence=evidence, roots=NvidiaRoots(nvidia=True)) == "certificate-issuer"


def test_a_mocks_root_must_come_along(gpu_world: GpuWorld) -> None:
    """Without its root, a mock's chain ends nowhere that we know."""
    chain = gpu_world.evidence().certificate_chain.split(b"-----BEGIN")
    short = b"-----BEGIN".join(chain[:-1])
    evidence = replace(gpu_world.evidence(), certificate_chain=short)
    assert code_of(gpu_world, evidence=evidence) == "gpu-root-not-trusted"
    everything = replace(gpu_world.roots, nvidia=True)
    assert code_of(gpu_world, evidence=evidence, roots=everything) == "certificate-issuer"


def _base64(der: bytes) -> bytes:
    return base64.b64encode(der)


def _evidence_of(world: GpuWorld, certificate: object, key: ec.EllipticCurvePrivateKey) -> GpuEvidence:
    chip = world.vendor.device(PLAIN)[1]
    pem = certificate.public_bytes(Encoding.PEM)  # type: ignore[attr-defined]  # a certificate
    report = nvidia_report.signed_report(
        NONCE, nvidia_report.measurements(PLAIN), nvidia_report.opaque_data(PLAIN), key
    )
    return GpuEvidence("HOPPER", report, pem + world.vendor.pem(chip))


def test_leaf_of_another_curve_or_name_or_purpose(gpu_world: GpuWorld) -> None:
    """A leaf must be a P-384 signing key with the name of a firmware, and not an authority."""
    device, chip = gpu_world.vendor.device(PLAIN)
    key = device.key
    p256 = ec.generate_private_key(ec.SECP256R1())
    other_curve = leaf("HOPPER", p256, chip, fwid=PLAIN.fwid, issued_at=NOW)
    forged = _evidence_of(gpu_world, other_curve.certificate, key)
    assert code_of(gpu_world, evidence=forged) == "certificate-key"
    renamed = leaf("HOPPER", key, chip, fwid=PLAIN.fwid, issued_at=NOW, common_name="GH100 A01 GSP BROM")
    assert code_of(gpu_world, evidence=_evidence_of(gpu_world, renamed.certificate, key)) == "gpu-leaf-name"
    plain = signer("GH100 A01 GSP FMC LF", key, chip, issued_at=NOW)
    assert code_of(gpu_world, evidence=_evidence_of(gpu_world, plain.certificate, key)) == "gpu-leaf-fwid"
    ca = authority("GH100 A01 GSP FMC LF", key, chip, issued_at=NOW)
    assert code_of(gpu_world, evidence=_evidence_of(gpu_world, ca.certificate, key)) == "certificate-usage"


@pytest.mark.parametrize(
    ("usage", "code"),
    [
        ({"digital_signature": True}, ""),
        ({"digital_signature": False, "crl_sign": True}, "certificate-usage"),
        ({"digital_signature": True, "key_cert_sign": True}, "certificate-usage"),
        (None, "certificate-usage"),
    ],
)
def test_what_a_leafs_key_may_be_for(usage: dict[str, bool] | None, code: str, gpu_world: GpuWorld) -> None:
    """Signatures and no certificates: both parts of the rule decide."""
    device, chip = gpu_world.vendor.device(PLAIN)
    good = device.certificate
    builder = x509.CertificateBuilder(
        good.issuer,
        good.subject,
        device.key.public_key(),
        good.serial_number,
        good.not_valid_before_utc,
        good.not_valid_after_utc,
    )
    for extension in good.extensions:
        if not isinstance(extension.value, x509.KeyUsage):
            builder = builder.add_extension(extension.value, extension.critical)
    if usage is not None:
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
        names += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
        flags = {name: usage.get(name, False) for name in names}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    changed = builder.sign(chip.key, hashes.SHA384())
    evidence = _evidence_of(gpu_world, changed, device.key)
    if not code:
        gpu_world.verify(evidence=evidence)
        return
    assert code_of(gpu_world, evidence=evidence) == code


def test_an_authority_of_another_curve(gpu_world: GpuWorld) -> None:
    """Every authority has a P-384 key, though its signature would verify."""
    small = authority(
        "small", ec.generate_private_key(ec.SECP256R1()), gpu_world.vendor.provisioner, issued_at=NOW
    )
    key = gpu_world.vendor.device(PLAIN)[0].key
    child = leaf("HOPPER", key, small, fwid=PLAIN.fwid, issued_at=NOW)
    pem = child.certificate.public_bytes(Encoding.PEM) + gpu_world.vendor.pem(small)
    evidence = replace(gpu_world.evidence(), certificate_chain=pem)
    assert code_of(gpu_world, evidence=evidence) == "certificate-key"


def test_a_device_issues_no_devices(gpu_world: GpuWorld) -> None:
    """A leaf under a leaf refuses: only authorities issue."""
    device, chip = gpu_world.vendor.device(PLAIN)
    key = ec.generate_private_key(ec.SECP384R1())
    child = leaf("HOPPER", key, device, fwid=PLAIN.fwid, issued_at=NOW)
    pem = child.certificate.public_bytes(Encoding.PEM) + gpu_world.vendor.pem(device, chip)
    evidence = replace(gpu_world.evidence(), certificate_chain=pem)
    assert code_of(gpu_world, evidence=evidence) == "certificate-authority"


def test_report_signed_by_another_device(gpu_world: GpuWorld) -> None:
    """Same firmware, same fields, another key."""
    other = gpu_world.evidence(MockGpu(index=1))
    evidence = replace(gpu_world.evidence(), report=other.report)
    assert code_of(gpu_world, evidence=evidence) == "gpu-report-signature"


@pytest.mark.parametrize("hierarchy", ["gpu", "rim"])
def test_dates_of_both_hierarchies(hierarchy: str) -> None:
    """Each hierarchy is judged at the caller's time, at every use."""
    old, young = MockGpuVendor.create(now=NOW - timedelta(days=400)), MockGpuVendor.create(now=NOW)
    devices, rims = (young, old) if hierarchy == "gpu" else (old, young)
    roots = NvidiaRoots(False, devices.device_root_sha256, rims.rim_root_sha256)
    collateral = replace(rims.collateral(now=NOW), ocsp=())
    evidence = devices.evidence(NONCE)

    def verify(days: int) -> None:
        now = NOW + timedelta(days=days)
        verify_gpu(evidence, collateral, roots, nonce=NONCE, now=now, checks=CheckList())

    verify(0)
    with pytest.raises(Refused, match="certificate-not-yet-valid"):
        verify(-2)
    with pytest.raises(Refused, match="certificate-expired"):
        verify(25 * 365)


def test_golden_values_missing_or_too_many(gpu_world: GpuWorld) -> None:
    """A GPU needs both manifests; a switch has one."""
    good = gpu_world.collateral()
    assert code_of(gpu_world, collateral=replace(good, driver_rim=None)) == "gpu-rim-missing"
    assert code_of(gpu_world, collateral=replace(good, vbios_rim=None)) == "gpu-rim-missing"
    switch = gpu_world.collateral(SWITCH)
    unexpected = replace(switch, driver_rim=good.driver_rim)
    assert code_of(gpu_world, gpu=SWITCH, collateral=unexpected) == "rim-unexpected"


def test_golden_values_of_another_version_or_chip(gpu_world: GpuWorld) -> None:
    """Versions must be equal (in any case of letters), and the chip as well."""
    vendor, good = gpu_world.vendor, gpu_world.collateral()
    driver, vbios = nvidia_report.DRIVER_INDICES, nvidia_report.VBIOS_INDICES
    lower = vendor.rim(PLAIN, vbios, PLAIN.vbios_version.lower())
    gpu_world.verify(collateral=replace(good, vbios_rim=lower))
    older = vendor.rim(PLAIN, driver, "550.90.06")
    assert code_of(gpu_world, collateral=replace(good, driver_rim=older)) == "rim-version"
    older = vendor.rim(PLAIN, vbios, "96.00.9F.00.02")
    assert code_of(gpu_world, collateral=replace(good, vbios_rim=older)) == "rim-version"
    for name in ("driver_rim", "vbios_rim"):
        indices = driver if name == "driver_rim" else vbios
        version = PLAIN.driver_version if name == "driver_rim" else PLAIN.vbios_version
        foreign = vendor.rim(PLAIN, indices, version, product="GB100")
        assert code_of(gpu_world, collateral=replace(good, **{name: foreign})) == "rim-product"


def test_how_golden_values_name_their_chip(gpu_world: GpuWorld) -> None:
    """As the leaf or the report does; NVIDIA writes some names with an underscore and some without."""
    good = gpu_world.collateral()
    written = gpu_world.vendor.rim(
        PLAIN, nvidia_report.DRIVER_INDICES, PLAIN.driver_version, product="GH_100"
    )
    gpu_world.verify(collateral=replace(good, driver_rim=written))
    gpu_world.verify(MockGpu(arch="BLACKWELL", chip="GB200"))


@pytest.mark.parametrize("index", [*nvidia_report.DRIVER_INDICES, *nvidia_report.VBIOS_INDICES])
def test_every_golden_value_is_compared(index: int, gpu_world: GpuWorld) -> None:
    """Firmware that differs in one measured block is refused, and the row and refusal name the index."""
    gpu = MockGpu(measured={index: b"\x66" * 48}, nvdec0_enabled=True)
    checks = CheckList()
    with pytest.raises(Refused, match="gpu-measurement-mismatch") as refusal:
        gpu_world.verify(gpu, checks=checks)
    assert refusal.value.got == f"{index}: {'66' * 12}.."
    assert refusal.value.expected == f"{index}: {golden('HOPPER', index)[:12].hex()}.."
    noted = [row for row in checks if row.outcome is Outcome.NOTED]
    assert [(row.name, row.expected, row.got) for row in noted] == [
        (f"GPU measurement {index} (Measurement_{index})", golden("HOPPER", index).hex(), "66" * 48)
    ]


def test_all_differences_are_named(gpu_world: GpuWorld) -> None:
    """Nothing is cut from the list of what differs."""
    wrong = {index: bytes([index]) * 48 for index in (*range(7), *range(8, 13))}
    with pytest.raises(Refused) as refusal:
        gpu_world.verify(MockGpu(measured=wrong))
    assert [part.split(":")[0] for part in refusal.value.got.split("; ")] == [str(i) for i in wrong]
    assert len(refusal.value.expected.split("; ")) == len(wrong)


def test_the_decoders_block_is_excused_only_while_it_is_off(gpu_world: GpuWorld) -> None:
    """Index 35 and no other, and only if the device says that NVDEC0 is off."""
    gpu_world.verify(MockGpu(measured={35: b"\x01" * 48}))
    on = MockGpu(nvdec0_enabled=True, measured={35: b"\x01" * 48})
    assert code_of(gpu_world, gpu=on) == "gpu-measurement-mismatch"


def test_alternatives_and_conflicts(gpu_world: GpuWorld) -> None:
    """Any alternative will do; an index that both manifests claim will not."""
    vendor, good = gpu_world.vendor, gpu_world.collateral()
    other = MockGpu(measured={7: b"\x07" * 48})
    several = {7: (golden("HOPPER", 7), b"\x05" * 48, b"\x07" * 48)}
    rim = vendor.rim(PLAIN, nvidia_report.DRIVER_INDICES, PLAIN.driver_version, values=several)
    for gpu in (PLAIN, other):
        gpu_world.verify(gpu, collateral=replace(good, driver_rim=rim))
    both = (*nvidia_report.VBIOS_INDICES, 7)
    lax = vendor.rim(PLAIN, both, PLAIN.vbios_version, values={7: (b"\x07" * 48,)})
    assert code_of(gpu_world, gpu=other, collateral=replace(good, vbios_rim=lax)) == "rim-index-conflict"


def test_a_manifest_signed_by_a_device(gpu_world: GpuWorld) -> None:
    """The hierarchy of devices signs no golden values, although it hangs from a trusted root."""
    vendor = gpu_world.vendor
    device, chip = vendor.device(PLAIN)
    chain = [each.der for each in (device, chip, vendor.provisioner, vendor.identity, vendor.device_root)]
    values = {index: (golden("HOPPER", index),) for index in nvidia_report.DRIVER_INDICES}
    forged = sign_rim(rim_document(PLAIN.driver_version, "GH100", values), chain, device.key)
    collateral = replace(gpu_world.collateral(), driver_rim=forged)
    assert code_of(gpu_world, collateral=collateral) == "rim-root-not-trusted"


def test_too_long_chains_and_empty_ones(gpu_world: GpuWorld) -> None:
    """A chain has one to six certificates, and not a root alone."""
    vendor = gpu_world.vendor
    root = vendor.device_root.certificate.public_bytes(Encoding.PEM)
    for chain, code in (
        (root, "gpu-chain-length"),
        (vendor.identity.certificate.public_bytes(Encoding.PEM) * 3 + vendor.pem(), "certificate-issuer"),
        (root * 7, "gpu-chain-length"),
        (root * 9, "pem-malformed"),
        (b"", "pem-malformed"),
        (root + b"comment", "pem-malformed"),
        (b"comment" + root, "pem-malformed"),
        (root.replace(b"MII", b"!II"), "pem-malformed"),
        (root.replace(b"MII", b"MI"), "pem-malformed"),
        (root.removesuffix(b"-----END CERTIFICATE-----\n"), "pem-malformed"),
        (root + b" " * (64 * 1024), "pem-malformed"),
    ):
        evidence = replace(gpu_world.evidence(), certificate_chain=chain)
        assert code_of(gpu_world, evidence=evidence) == code


def test_plain_data_shows_sizes_only(gpu_world: GpuWorld) -> None:
    """What may be logged by accident holds no evidence."""
    evidence, collateral = gpu_world.evidence(), gpu_world.collateral()
    assert repr(evidence).startswith("GpuEvidence(HOPPER, report 38")
    assert repr(collateral).endswith("6 OCSP responses)")
    assert repr(GpuCollateral(None, None)) == "GpuCollateral(driver 0 bytes, VBIOS 0 bytes, 0 OCSP responses)"
    assert len(repr(evidence)) + len(repr(collateral)) < 200


def test_malformed_is_told_from_refused(gpu_world: GpuWorld) -> None:
    """Bytes that are no report at all leave with the exit code of nonsense."""
    with pytest.raises(Malformed):
        gpu_world.verify(evidence=GpuEvidence("HOPPER", b"", b""))

"""The report parser: every field where AMD puts it, one encoding only, and nothing but refusals on junk."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attest.evidence.snp import HOST_REQUESTED_VMPL, REPORT_SIZE, SIGNED_SIZE, SnpReport
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Malformed, Refused, Unsupported
from tests.simulators.snp_world import SnpWorld

P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


@pytest.fixture(scope="module")
def report(world: SnpWorld) -> bytes:
    """A well-formed version 5 report."""
    return world.report()


def edited(report: bytes, offset: int, value: bytes) -> bytes:
    """The report with bytes replaced."""
    return report[:offset] + value + report[offset + len(value) :]


def test_every_field_is_read_from_its_place(report: bytes) -> None:
    """A report whose every field differs comes out field by field."""
    changed = bytearray(report)
    fields = {
        "guest_svn": (0x004, b"\x01\x02\x03\x04", 0x04030201),
        "family_id": (0x010, b"f" * 16, b"f" * 16),
        "image_id": (0x020, b"i" * 16, b"i" * 16),
        "vmpl": (0x030, b"\x03\x00\x00\x00", 3),
        "current_tcb": (0x038, b"c" * 8, b"c" * 8),
        "report_data": (0x050, b"d" * 64, b"d" * 64),
        "measurement": (0x090, b"m" * 48, b"m" * 48),
        "host_data": (0x0C0, b"h" * 32, b"h" * 32),
        "id_key_digest": (0x0E0, b"k" * 48, b"k" * 48),
        "author_key_digest": (0x110, b"a" * 48, b"a" * 48),
        "report_id": (0x140, b"r" * 32, b"r" * 32),
        "report_id_ma": (0x160, b"g" * 32, b"g" * 32),
        "reported_tcb": (0x180, b"R" * 8, b"R" * 8),
        "chip_id": (0x1A0, b"C" * 64, b"C" * 64),
        "committed_tcb": (0x1E0, b"o" * 8, b"o" * 8),
        "launch_tcb": (0x1F0, b"l" * 8, b"l" * 8),
        "launch_mitigations": (0x1F8, b"\x01" + bytes(7), 1),
        "current_mitigations": (0x200, bytes(7) + b"\x80", 1 << 63),
        "signature_r": (0x2A0, b"\x07" + bytes(71), 7),
        "signature_s": (0x2E8, b"\x08" + bytes(71), 8),
    }
    for offset, value, _ in fields.values():
        changed[offset : offset + len(value)] = value
    changed[0x048] = 0b00111  # author key, masked chip key, VLEK
    changed[0x1E8:0x1F0] = bytes([1, 2, 3, 0, 4, 5, 6, 0])
    parsed = SnpReport.parse(bytes(changed))
    assert {name: getattr(parsed, name) for name in fields} == {n: f[2] for n, f in fields.items()}
    assert (parsed.author_key_enabled, parsed.mask_chip_key, parsed.signing_key) == (True, True, "vlek")
    assert (str(parsed.current_version), str(parsed.committed_version)) == ("3.2.1", "6.5.4")
    assert parsed.signed == bytes(changed[:SIGNED_SIZE])
    assert parsed.has_migration_agent


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (16, "smt_allowed"),
        (18, "migration_agent_allowed"),
        (19, "debug_allowed"),
        (20, "single_socket_required"),
        (21, "cxl_allowed"),
        (22, "aes_256_xts_required"),
        (23, "rapl_disabled_required"),
        (24, "ciphertext_hiding_required"),
        (25, "page_swap_disabled"),
    ],
)
def test_policy_bits(bit: int, name: str, report: bytes) -> None:
    """Each policy bit is read alone."""
    policy = SnpReport.parse(edited(report, 8, (1 << 17 | 1 << bit | 0x0237).to_bytes(8, "little"))).policy
    flags = [each for each in dir(policy) if isinstance(getattr(policy, each), bool) and each[0] != "_"]
    assert [each for each in flags if getattr(policy, each)] == [name]
    assert (policy.abi_major, policy.abi_minor) == (0x02, 0x37)
    assert len(flags) == 9


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (0, "smt_enabled"),
        (1, "tsme_enabled"),
        (2, "ecc_enabled"),
        (3, "rapl_disabled"),
        (4, "ciphertext_hiding_enabled"),
        (5, "alias_check_complete"),
        (6, ""),
        (7, "tio_enabled"),
        (63, ""),
    ],
)
def test_platform_bits(bit: int, name: str, report: bytes) -> None:
    """Each platform bit is read alone; unnamed ones are passed over, since genuine chips set them."""
    info = SnpReport.parse(edited(report, 0x40, (1 << bit).to_bytes(8, "little"))).platform_info
    named = {each: getattr(info, each) for each in dir(info) if each[0] != "_" and each != "raw"}
    assert {each for each, value in named.items() if value} == ({name} if name else set())


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0x000, b"\x00", "snp-report-version"),
        (0x000, b"\x01", "snp-report-version"),
        (0x000, b"\x04", "snp-report-version"),
        (0x000, b"\x06", "snp-report-version"),
        (0x003, b"\x01", "snp-report-version"),
        (0x034, b"\x00", "snp-signature-algorithm"),
        (0x034, b"\x02", "snp-signature-algorithm"),
        (0x048, bytes([2 << 2]), "snp-signing-key"),
        (0x048, bytes([6 << 2]), "snp-signing-key"),
        (0x188, b"\x17", "snp-product"),
        (0x188, b"\x19\x20", "snp-product"),
        (0x188, b"\x19\xb0", "snp-product"),
        (0x188, b"\x1a\x12", "snp-product"),
        (0x188, b"\x1a\x50", "snp-product"),
        (0x188, b"\x00\x00", "snp-product"),
    ],
)
def test_kinds_that_are_not_judged(offset: int, value: bytes, code: str, report: bytes) -> None:
    """Another version, algorithm, key or product is unsupported: exit code 20, never accepted."""
    with pytest.raises(Unsupported) as refusal:
        SnpReport.parse(edited(report, offset, value))
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0x00A, b"\x01", "snp-report-policy"),  # bit 17 is missing
        (0x00B, b"\x04", "snp-report-policy"),  # bit 26
        (0x00F, b"\x80", "snp-report-policy"),  # bit 63
        (0x030, b"\x04", "snp-report-vmpl"),
        (0x030, b"\xfe\xff\xff\xff", "snp-report-vmpl"),
        (0x048, b"\x20", "snp-report-flags"),
        (0x04B, b"\x80", "snp-report-flags"),
        (0x04C, b"\x01", "snp-report-reserved-not-zero"),
        (0x18B, b"\x01", "snp-report-reserved-not-zero"),
        (0x19F, b"\x01", "snp-report-reserved-not-zero"),
        (0x1EB, b"\x01", "snp-report-reserved-not-zero"),
        (0x1EF, b"\x01", "snp-report-reserved-not-zero"),
        (0x208, b"\x01", "snp-report-reserved-not-zero"),
        (0x29F, b"\x01", "snp-report-reserved-not-zero"),
        (0x2D0, b"\x01", "snp-report-reserved-not-zero"),  # above R
        (0x2E7, b"\x01", "snp-report-reserved-not-zero"),
        (0x318, b"\x01", "snp-report-reserved-not-zero"),  # above S
        (0x32F, b"\x01", "snp-report-reserved-not-zero"),
        (0x330, b"\x01", "snp-report-reserved-not-zero"),  # not covered by the signature
        (0x49F, b"\x80", "snp-report-reserved-not-zero"),
        (0x2A0, bytes(48), "snp-signature-range"),
        (0x2E8, bytes(48), "snp-signature-range"),
        (0x2A0, P384_ORDER.to_bytes(48, "little"), "snp-signature-range"),
        (0x2E8, (P384_ORDER + 1).to_bytes(48, "little"), "snp-signature-range"),
        (0x2E8, b"\xff" * 48, "snp-signature-range"),
    ],
)
def test_bytes_that_are_not_a_report(offset: int, value: bytes, code: str, report: bytes) -> None:
    """What AMD reserves must be zero, and numbers must be in range."""
    with pytest.raises(Malformed) as refusal:
        SnpReport.parse(edited(report, offset, value))
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("flags", "author", "mask", "key"),
    [
        (0b00000, False, False, "vcek"),
        (0b00001, True, False, "vcek"),
        (0b00010, False, True, "vcek"),
        (0b00100, False, False, "vlek"),
        (0b11111, True, True, "none"),
    ],
)
def test_flags_are_read_bit_by_bit(flags: int, author: bool, mask: bool, key: str, report: bytes) -> None:
    """Author key, masked chip key and the kind of the signing key each have their own bits."""
    parsed = SnpReport.parse(edited(report, 0x048, bytes([flags])))
    assert (parsed.author_key_enabled, parsed.mask_chip_key, parsed.signing_key) == (author, mask, key)


@pytest.mark.parametrize("vmpl", [0, 1, 2, 3])
def test_every_privilege_level_is_read(vmpl: int, report: bytes) -> None:
    """Which of them are accepted is the appraisal's question."""
    assert SnpReport.parse(edited(report, 0x030, bytes([vmpl]))).vmpl == vmpl


@pytest.mark.parametrize(
    ("offset", "value"), [(0x00A, b"\x00"), (0x030, b"\x04"), (0x048, b"\x20"), (0x2A0, b"\xff" * 48)]
)
def test_a_refusal_says_where(offset: int, value: bytes, report: bytes) -> None:
    """The offset of the field that is wrong, for whoever looks into the bytes."""
    with pytest.raises(Malformed) as refusal:
        SnpReport.parse(edited(report, offset, value))
    assert refusal.value.offset == (0x008 if offset == 0x00A else offset)


def test_signature_range_is_exact(report: bytes) -> None:
    """One and order minus one are numbers a signature may have."""
    for value in (1, P384_ORDER - 1):
        assert SnpReport.parse(edited(report, 0x2A0, value.to_bytes(48, "little"))).signature_r == value


def test_fields_of_later_versions_are_zero_in_earlier_ones(report: bytes) -> None:
    """CPUID came with version 3, mitigation vectors with version 5."""
    third = edited(report, 0, b"\x03")
    parsed = SnpReport.parse(third)
    assert (parsed.product, parsed.launch_mitigations, parsed.current_mitigations) == ("Genoa", 0, 0)
    with pytest.raises(Malformed, match="snp-report-reserved-not-zero"):
        SnpReport.parse(edited(third, 0x1F8, b"\x01"))
    with pytest.raises(Malformed, match="snp-report-reserved-not-zero"):
        SnpReport.parse(edited(report, 0, b"\x02"))
    second = edited(edited(report, 0, b"\x02"), 0x188, bytes(3))
    assert SnpReport.parse(second).product is None


def test_host_requested_report_is_read(report: bytes) -> None:
    """It is well formed; that no guest asked for it is for the appraisal to refuse."""
    assert SnpReport.parse(edited(report, 0x30, b"\xff" * 4)).vmpl == HOST_REQUESTED_VMPL


@pytest.mark.parametrize(
    ("cpuid", "product"),
    [
        ((0x19, 0x00), "Milan"),
        ((0x19, 0x0F), "Milan"),
        ((0x19, 0x10), "Genoa"),
        ((0x19, 0x1F), "Genoa"),
        ((0x19, 0xA0), "Genoa"),
        ((0x19, 0xAF), "Genoa"),
        ((0x1A, 0x00), "Turin"),
        ((0x1A, 0x11), "Turin"),
    ],
)
def test_product_by_cpuid(cpuid: tuple[int, int], product: str, report: bytes) -> None:
    """The ranges that AMD assigns, at their ends."""
    assert SnpReport.parse(edited(report, 0x188, bytes(cpuid))).product == product


@pytest.mark.parametrize("size", [0, 1, REPORT_SIZE - 1, REPORT_SIZE + 1, 4000])
def test_length(size: int) -> None:
    """1184 bytes and no other number."""
    with pytest.raises(Malformed, match="snp-report-length"):
        SnpReport.parse(bytes(size))


@settings(max_examples=300, deadline=None)
@given(junk=st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE) | st.binary(max_size=64))
def test_junk_is_refused(junk: bytes) -> None:
    """Random bytes are never a report, and only refusals come out."""
    with pytest.raises(Refused):
        SnpReport.parse(junk)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_report_has_one_encoding(data: st.DataObject, report: bytes) -> None:
    """Whatever parses is the same facts only if it is the same bytes."""
    offset = data.draw(st.integers(0, REPORT_SIZE - 1))
    value = data.draw(st.binary(min_size=1, max_size=min(16, REPORT_SIZE - offset)))
    changed = edited(report, offset, value)
    try:
        parsed = SnpReport.parse(changed)
    except Refused:
        assert changed != report
    else:
        assert (parsed == SnpReport.parse(report)) == (changed == report)


components = st.builds(
    TcbVersion,
    boot_loader=st.integers(0, 255),
    tee=st.integers(0, 255),
    snp=st.integers(0, 255),
    microcode=st.integers(0, 255),
    fmc=st.just(0),
)


@given(tcb=components, product=st.sampled_from(["Milan", "Genoa", "Turin"]))
def test_tcb_round_trip(tcb: TcbVersion, product: Product) -> None:
    """Writing and reading by one layout gives the same components."""
    assert TcbVersion.parse(tcb.serialise(product), product) == tcb


def test_tcb_layouts() -> None:
    """The same eight bytes mean other things on another product."""
    assert TcbVersion.parse(bytes([1, 2, 0, 0, 0, 0, 3, 4]), "Milan") == TcbVersion(1, 2, 3, 4)
    assert TcbVersion.parse(bytes([1, 2, 3, 4, 0, 0, 0, 5]), "Turin") == TcbVersion(2, 3, 4, 5, fmc=1)
    for raw, product in (
        (bytes([1, 2, 3, 4, 0, 0, 0, 5]), "Genoa"),
        (bytes([1, 2, 0, 0, 0, 0, 3, 4]), "Turin"),
    ):
        with pytest.raises(Malformed, match="snp-tcb-reserved"):
            TcbVersion.parse(raw, product)  # type: ignore[arg-type]  # a table of literals
    for size in (0, 7, 9):
        with pytest.raises(Malformed, match="snp-tcb-length"):
            TcbVersion.parse(bytes(size), "Milan")


@given(have=components, floor=components)
@example(have=TcbVersion(0, 0, 1, 255), floor=TcbVersion(0, 0, 2, 0))
def test_tcb_is_compared_component_by_component(have: TcbVersion, floor: TcbVersion) -> None:
    """A newer microcode does not make up for an older firmware."""
    names = ("fmc", "boot_loader", "tee", "snp", "microcode")
    assert have.covers(floor) == all(getattr(have, n) >= getattr(floor, n) for n in names)

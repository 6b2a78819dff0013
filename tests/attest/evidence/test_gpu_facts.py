"""NVIDIA's opaque fields, by number: what each says, and how long it may be."""

from __future__ import annotations

import pytest

from attest.evidence.gpu import Architecture
from attest.evidence.gpu_facts import GpuFacts
from attest.refusal import Malformed, Unsupported

# By the numbers of NVIDIA's tools: driver, VBIOS, NVDEC0, chip SKU, project, project SKU, firmware, protected
# PCIe, feature flag.
GPU = {
    3: b"550.90.07\x00",
    6: bytes.fromhex("9f009600010000ee"),
    11: b"\xaa",
    15: b"8a2\x00\x00\x00",
    17: b"1010\x00",
    18: b"0200",
    20: bytes(range(48)),
    21: b"\x55",
    36: b"\x02\x00",
}
SWITCH = {6: b"96.10.55.00.01", 22: b"\x01" * 8}


def read(fields: dict[int, bytes], arch: Architecture = "HOPPER") -> GpuFacts:
    """The facts of an architecture's report."""
    return GpuFacts.read(fields, arch)


def test_a_gpu() -> None:
    """Every fact that its fields state."""
    links = b"".join(bytes([number] * 8) for number in range(18))
    assert read({**GPU, 22: links}) == GpuFacts(
        kind="gpu",
        driver_version="550.90.07",
        vbios_version="00.96.00.9F.01",
        driver_rim_id="NV_GPU_DRIVER_GH100_550.90.07",
        vbios_rim_id="NV_GPU_VBIOS_1010_0200_8A2_0096009F01",
        chip=None,
        nvdec0_enabled=True,
        fwid=bytes(range(48)),
        protected_pcie=False,
        feature_flag="ppcie",
        pdis=frozenset(bytes([number] * 8) for number in range(1, 18)),
        own_pdi=None,
    )


def test_a_switch() -> None:
    """It has no driver and no decoder, and its board is always named the same."""
    places = b"".join(bytes([number] * 8) for number in range(1, 9))
    assert read({**SWITCH, 26: places + b"\x09" * 8, 20: bytes(48), 21: b"\xaa"}, "LS10") == GpuFacts(
        kind="switch",
        driver_version=None,
        vbios_version="96.10.55.00.01",
        driver_rim_id=None,
        vbios_rim_id="NV_SWITCH_BIOS_5612_0002_890_9610550001",
        chip=None,
        nvdec0_enabled=True,
        fwid=bytes(48),
        protected_pcie=True,
        feature_flag=None,
        pdis=frozenset(bytes([number] * 8) for number in range(1, 9)),
        own_pdi=b"\x01" * 8,
    )


def test_what_a_report_need_not_say() -> None:
    """Left out is told from off."""
    required = {number: GPU[number] for number in (3, 6, 11, 15, 17, 18)}
    facts = read(required | {11: b"\x55"})
    assert (facts.fwid, facts.protected_pcie, facts.feature_flag) == (None, None, None)
    assert (facts.pdis, facts.nvdec0_enabled) == (frozenset(), False)
    switch = read({6: b"96.10"}, "LS10")
    assert (switch.own_pdi, switch.pdis, switch.fwid, switch.protected_pcie) == (
        None,
        frozenset(),
        None,
        None,
    )
    for number in required:
        with pytest.raises(Malformed, match="gpu-opaque"):
            read({other: value for other, value in required.items() if other != number})


@pytest.mark.parametrize(
    ("chip", "named", "name"),
    [(None, None, "GB100"), (b"GB102\x00", "GB102", "GB102"), (b"z9", "z9", "z9")],
)
def test_the_chip_of_a_blackwell(chip: bytes | None, named: str | None, name: str) -> None:
    """Its driver's golden values are those of the chip that it names."""
    facts = read(GPU if chip is None else {**GPU, 35: chip}, "BLACKWELL")
    assert (facts.chip, facts.driver_rim_id) == (named, f"NV_GPU_CC_DRIVER_{name}_550.90.07")


@pytest.mark.parametrize(("flag", "feature"), [(0, "spt"), (1, "mpt"), (2, "ppcie")])
def test_features(flag: int, feature: str) -> None:
    """Three are known; another is not judged."""
    assert read({**GPU, 36: bytes([flag, 0])}).feature_flag == feature
    for other in (b"\x03\x00", bytes([flag, 1])):
        with pytest.raises(Unsupported, match="gpu-feature-flag"):
            read({**GPU, 36: other})


def test_texts() -> None:
    """One character to sixty-four, of the alphabet of versions or names, then NULs only."""
    for text in (b"5", b"1" * 64, b"0123456789abcdefABCDEF."):
        assert read({**GPU, 3: text + b"\x00" * 9}).driver_version == text.decode()
    for text in (b"", b"\x00", b"1" * 65, b"1\x001", b"g", b"1X", b"X1", b"1_", b"X", b"\xff"):
        with pytest.raises(Malformed, match="gpu-opaque"):
            read({**GPU, 3: text})
    for text in (b"a.", b"a/", b"a\xff", b"?", b"_"):
        with pytest.raises(Malformed, match="gpu-opaque"):
            read({**GPU, 17: text})


@pytest.mark.parametrize(
    ("arch", "number", "value"),
    [
        ("HOPPER", 6, bytes(7)),
        ("HOPPER", 6, bytes(9)),
        ("HOPPER", 11, b"\xab"),
        ("HOPPER", 11, b"\x56"),
        ("HOPPER", 11, b"\xaa\xaa"),
        ("HOPPER", 20, bytes(49)),
        ("HOPPER", 21, b""),
        ("HOPPER", 21, b"\x01"),
        ("HOPPER", 22, bytes(18 * 8 - 1)),
        ("HOPPER", 36, bytes(3)),
        ("LS10", 22, bytes(7)),
        ("LS10", 22, bytes(9)),
        ("LS10", 26, bytes(8 * 8 - 1)),
        ("LS10", 20, bytes(47)),
    ],
)
def test_other_sizes_and_states(arch: Architecture, number: int, value: bytes) -> None:
    """A known field of another form decides nothing: it is refused."""
    fields = GPU if arch == "HOPPER" else SWITCH
    with pytest.raises(Malformed, match="gpu-opaque"):
        read({**fields, number: value}, arch)


def test_links_behind_the_last() -> None:
    """A field may be longer than the device has links: what follows is no peer."""
    gpu = read({**GPU, 22: bytes(17 * 8) + b"\x05" * 8 + b"\x06" * 9})
    assert gpu.pdis == {b"\x05" * 8}
    assert read({**SWITCH, 26: b""}, "LS10").pdis == frozenset()

"""TCB_VERSION by product: which byte is which, and that no component makes up for another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Malformed

OLD = TcbVersion(boot_loader=1, tee=2, snp=3, microcode=4)
NEW = TcbVersion(boot_loader=2, tee=3, snp=4, microcode=5, fmc=1)


@pytest.mark.parametrize(
    ("product", "raw", "version"),
    [
        ("Milan", "0102000000000304", OLD),
        ("Genoa", "0102000000000304", OLD),
        ("Turin", "0102030400000005", NEW),
        ("Turin", "ffffffff000000ff", TcbVersion(255, 255, 255, 255, fmc=255)),
    ],
)
def test_layouts(product: Product, raw: str, version: TcbVersion) -> None:
    """Written and read alike (AMD 56860, TCB_VERSION)."""
    assert TcbVersion.parse(bytes.fromhex(raw), product) == version
    assert version.serialise(product).hex() == raw


@pytest.mark.parametrize(
    ("product", "reserved"), [("Milan", (2, 3, 4, 5)), ("Genoa", (2, 3, 4, 5)), ("Turin", (4, 5, 6))]
)
def test_reserved_bytes(product: Product, reserved: tuple[int, ...]) -> None:
    """Those that mean nothing are zero, and no others."""
    for place in range(8):
        raw = bytes(place) + b"\x01" + bytes(7 - place)
        if place in reserved:
            with pytest.raises(Malformed, match="snp-tcb-reserved"):
                TcbVersion.parse(raw, product)
        else:
            assert TcbVersion.parse(raw, product).serialise(product) == raw


@pytest.mark.parametrize("size", [0, 7, 9])
def test_another_length(size: int) -> None:
    """Eight bytes."""
    with pytest.raises(Malformed, match="snp-tcb-length"):
        TcbVersion.parse(bytes(size), "Genoa")


@pytest.mark.parametrize("component", ["fmc", "boot_loader", "tee", "snp", "microcode"])
def test_every_component_counts(component: str) -> None:
    """The same is enough, more of one is no less of another."""
    newest = TcbVersion(9, 9, 9, 9, fmc=9)
    assert newest.covers(newest)
    assert replace(newest, **{component: 10}).covers(newest)
    assert not replace(TcbVersion(99, 99, 99, 99, fmc=99), **{component: 8}).covers(newest)

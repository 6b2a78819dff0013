"""The DICE extension of a device's certificate, in both of its forms and in none other."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attest.evidence.gpu_leaf import DICE_FWID_OID, DICE_TCB_INFO_OID, GpuLeaf
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu
from attest.refusal import Malformed
from tests.simulators.gpu_world import NOW

NAME = "GH100 A01 GSP FMC LF"
KEY = ec.generate_private_key(ec.SECP384R1())
HEAD = bytes.fromhex("303d06096086480165030402020430")
FWID = bytes(range(48))


def certificate(*extensions: tuple[str, bytes]) -> x509.Certificate:
    """A certificate with these extensions."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 77, NOW, NOW)
    for oid, value in extensions:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unknown, critical=False)
    return builder.sign(KEY, hashes.SHA384())


@pytest.mark.parametrize("arch", ["HOPPER", "BLACKWELL", "LS10"])
def test_forms_of_each_architecture(arch: str, gpu_vendor: MockGpuVendor) -> None:
    """Chip, firmware and identity are read; the chip belongs to its own architecture only."""
    gpu = MockGpu(arch=arch)  # type: ignore[arg-type]  # a table of literals
    leaf = gpu_vendor.device(gpu)[0].certificate
    names = {"HOPPER": NAME, "BLACKWELL": "GB100 A01 GSP FMC LF", "LS10": "LS_10 A01 FSP FMC LF"}
    parsed = GpuLeaf.parse(leaf, names[arch])
    assert parsed.fwid == gpu.fwid
    assert parsed.ueid == str(leaf.serial_number)
    assert [each for each in names if parsed.is_of(each)] == [arch]  # type: ignore[arg-type]  # the same table


def test_values_by_hand() -> None:
    """The last digest (Hopper), and the first of the list (Blackwell), with short and long lengths."""
    assert GpuLeaf.parse(certificate((DICE_FWID_OID, b"anything" + HEAD + FWID)), NAME).fwid == FWID
    longest = (HEAD + FWID).rjust(4096, b"\x00")
    assert GpuLeaf.parse(certificate((DICE_FWID_OID, longest)), NAME).fwid == FWID
    with pytest.raises(Malformed, match="gpu-leaf-fwid"):
        GpuLeaf.parse(certificate((DICE_FWID_OID, b"\x00" + longest)), NAME)
    fwids = b"\xa6\x7e" + HEAD + FWID + HEAD + bytes(48)
    short = b"\x30\x81\x83" + b"\x80\x01x" + fwids
    assert GpuLeaf.parse(certificate((DICE_TCB_INFO_OID, short)), NAME).fwid == FWID
    with pytest.raises(Malformed, match="gpu-leaf-truncated"):
        GpuLeaf.parse(certificate((DICE_TCB_INFO_OID, b"\x30\x03\xa6\x05x")), NAME)
    later = NAME.replace("A01", "B01")  # a later stepping
    assert GpuLeaf.parse(certificate((DICE_FWID_OID, HEAD + FWID)), later).chip == "GH100"
    long = b"\x30\x82\x00\x80" + fwids
    assert GpuLeaf.parse(certificate((DICE_TCB_INFO_OID, long)), NAME).fwid == FWID


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        ((DICE_FWID_OID, HEAD + FWID), (DICE_TCB_INFO_OID, HEAD + FWID)),
        ((DICE_FWID_OID, HEAD + FWID[:-1]),),
        ((DICE_FWID_OID, b"\x00" * 63),),
        ((DICE_FWID_OID, bytes(4096) + HEAD + FWID),),
        ((DICE_TCB_INFO_OID, HEAD + FWID),),
        ((DICE_TCB_INFO_OID, b"\x31\x41\xa6\x3f" + HEAD + FWID),),
        ((DICE_TCB_INFO_OID, b"\x30\x40\xa6\x3f" + HEAD + FWID),),
        ((DICE_TCB_INFO_OID, b"\x30\x42\xa6\x3f" + HEAD + FWID),),
        ((DICE_TCB_INFO_OID, b"\x30\x83\x00\x00\x41\xa6\x3f" + HEAD + FWID),),
        ((DICE_TCB_INFO_OID, b"\x30\x41\xa7\x3f" + HEAD + FWID),),
        ((DICE_TCB_INFO_OID, b"\x30\x40\xa6\x3e" + HEAD + FWID[:-1]),),
        ((DICE_TCB_INFO_OID, b"\x30\x00"),),
    ],
)
def test_other_forms(extensions: tuple[tuple[str, bytes], ...]) -> None:
    """No extension, both, another length, another list: malformed."""
    with pytest.raises(Malformed) as refusal:
        GpuLeaf.parse(certificate(*extensions), NAME)
    assert refusal.value.code in {"gpu-leaf-fwid", "gpu-leaf-truncated"}


@pytest.mark.parametrize("name", ["", "GH100", "GH100 A01 GSP BROM", "xGH100 A01 GSP FMC LF", f"{NAME} 2"])
def test_other_names(name: str) -> None:
    """A leaf has the name of a firmware's signing key."""
    with pytest.raises(Malformed, match="gpu-leaf-name"):
        GpuLeaf.parse(certificate((DICE_FWID_OID, HEAD + FWID)), name)

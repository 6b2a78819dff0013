"""What the certificate of a device's signing key says of the device (TCG DICE attestation architecture).

The signature over the certificate is judged elsewhere; this reads the DICE extension and the chip's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from attest.evidence.gpu import Architecture
from attest.evidence.reader import Reader
from attest.refusal import Malformed

FWID_SIZE: Final = 48
DICE_FWID_OID: Final = "2.23.133.5.4.1"  # Hopper, NVSwitch
DICE_TCB_INFO_OID: Final = "2.23.133.5.4.1.1"  # Blackwell

_CLAUSE: Final = "TCG DICE attestation architecture 1.1 section 6.1"
# SEQUENCE { OBJECT IDENTIFIER sha384, OCTET STRING of 48 bytes
_FWID_HEAD: Final = bytes.fromhex("303d06096086480165030402020430")
_SEQUENCE: Final = 0x30
_FWIDS: Final = 0xA6  # [6] of DiceTcbInfo
_LONG_FORM: Final = 0x80
_MAX_DER: Final = 4096
_NAME: Final = re.compile(r"([A-Z]{2}_?[0-9]{2,3}) [A-Z][0-9]{2} [GF]SP FMC LF")
_FAMILIES: Final[dict[Architecture, str]] = {"HOPPER": "GH", "BLACKWELL": "GB", "LS10": "LS10"}


@dataclass(frozen=True, slots=True)
class GpuLeaf:
    """The facts in one leaf.

    Args:
        chip: e.g. ``"GH100"`` or ``"LS10"``, as the leaf's name begins.
        fwid: digest of the firmware that the key was derived for, 48 bytes.
        ueid: the certificate's serial number in decimal, which NVIDIA's tokens call the device's identity.
    """

    chip: str
    fwid: bytes
    ueid: str

    @classmethod
    def parse(cls, certificate: x509.Certificate, common_name: str) -> GpuLeaf:
        """Read the leaf.

        Raises:
            Malformed: ``gpu-leaf-name``, ``gpu-leaf-fwid``.
        """
        match = _NAME.fullmatch(common_name)
        if match is None:
            raise Malformed("gpu-leaf-name", "not the name of a firmware's signing key", clause=_CLAUSE)
        return cls(match[1].replace("_", ""), _fwid(certificate), str(certificate.serial_number))

    def is_of(self, arch: Architecture) -> bool:
        """Whether the chip is of an architecture."""
        return self.chip.startswith(_FAMILIES[arch])


def _fwid(certificate: x509.Certificate) -> bytes:
    values = {
        extension.oid.dotted_string: extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    found = [values[oid] for oid in (DICE_FWID_OID, DICE_TCB_INFO_OID) if oid in values]
    if len(found) != 1 or len(found[0]) > _MAX_DER:
        raise Malformed("gpu-leaf-fwid", f"{len(found)} DICE extensions", clause=_CLAUSE)
    if DICE_FWID_OID in values:
        return _after_head(found[0][-len(_FWID_HEAD) - FWID_SIZE :])
    return _first_of_tcb_info(found[0])


def _after_head(value: bytes) -> bytes:
    if not value.startswith(_FWID_HEAD) or len(value) != len(_FWID_HEAD) + FWID_SIZE:
        raise Malformed("gpu-leaf-fwid", "not one SHA-384 digest", clause=_CLAUSE)
    return value[len(_FWID_HEAD) :]


def _first_of_tcb_info(value: bytes) -> bytes:
    """The first of the list [6]: the firmware's own; a second is of data that it loads."""
    reader = Reader(value, "gpu-leaf")
    _header(reader, _SEQUENCE)
    while reader.remaining:
        tag = reader.uint_be(1)
        content = reader.take(_length(reader))
        if tag == _FWIDS:
            return _after_head(content[: len(_FWID_HEAD) + FWID_SIZE])
    raise Malformed("gpu-leaf-fwid", "no list of digests", clause=_CLAUSE)


def _header(reader: Reader, tag: int) -> None:
    if reader.uint_be(1) != tag or _length(reader) != reader.remaining:
        raise Malformed("gpu-leaf-fwid", "not a DICE structure", clause=_CLAUSE)


def _length(reader: Reader) -> int:
    """A DER length of at most two bytes more."""
    first = reader.uint_be(1)
    if not first & _LONG_FORM:
        return first
    size = first & ~_LONG_FORM
    if size not in {1, 2}:
        raise Malformed("gpu-leaf-fwid", "a length of another form", clause=_CLAUSE)
    return reader.uint_be(size)

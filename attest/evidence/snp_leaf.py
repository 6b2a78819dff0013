"""What a VCEK or VLEK certificate says of the chip and its firmware (AMD 57230, "extensions").

The signature over the certificate is judged elsewhere; this reads AMD's extensions, each an OID under
1.3.6.1.4.1.3704.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cryptography import x509

from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Malformed

_AMD: Final = "1.3.6.1.4.1.3704.1."
_CLAUSE: Final = "AMD 57230, certificate extensions"
_STRUCT_VERSION, _PRODUCT_NAME, _HWID, _CSP_ID = "1", "2", "4", "5"
_RESERVED_SPLS: Final = ("3.4", "3.5", "3.6", "3.7")
_FMC_SPL: Final = "3.9"
_STRUCT_VERSIONS: Final[dict[Product, int]] = {"Milan": 0, "Genoa": 0, "Turin": 1}
_HWID_SIZES: Final[dict[Product, int]] = {"Milan": 64, "Genoa": 64, "Turin": 8}
_MAX_TEXT: Final = 127
_INTEGER, _OCTET_STRING, _IA5_STRING = 0x02, 0x04, 0x16


@dataclass(frozen=True, slots=True)
class SnpLeaf:
    """The facts in one leaf.

    Args:
        kind: a chip's own key (VCEK) or a cloud provider's (VLEK).
        product_name: as written, e.g. ``"Milan-B0"``.
        tcb: the firmware version that the key stands for.
        hwid: the chip's identity, 64 or 8 bytes; ``None`` for a VLEK.
        csp_id: the provider's name; ``None`` for a VCEK.
    """

    kind: Literal["vcek", "vlek"]
    product_name: str
    tcb: TcbVersion
    hwid: bytes | None
    csp_id: str | None

    @classmethod
    def parse(
        cls, certificate: x509.Certificate, *, kind: Literal["vcek", "vlek"], product: Product
    ) -> SnpLeaf:
        """Read the extensions as the leaf's kind and product require them.

        Raises:
            Malformed: ``snp-leaf-extension`` if one is missing, unexpected or not in the one DER form.
        """
        values = {
            extension.oid.dotted_string.removeprefix(_AMD): extension.value.value
            for extension in certificate.extensions
            if isinstance(extension.value, x509.UnrecognizedExtension)
            and extension.oid.dotted_string.startswith(_AMD)
        }
        if _integer(values, _STRUCT_VERSION) != _STRUCT_VERSIONS[product]:
            raise _malformed("structVersion of another product")
        for suffix in _RESERVED_SPLS:
            if suffix in values and _integer(values, suffix):
                raise _malformed(f"reserved SPL .{suffix} is not zero")
        return cls(
            kind=kind,
            product_name=_text(values, _PRODUCT_NAME),
            tcb=_tcb(values, product),
            hwid=_hwid(values, kind, product),
            csp_id=_csp_id(values, kind),
        )


def _tcb(values: dict[str, bytes], product: Product) -> TcbVersion:
    has_fmc = product == "Turin"
    if has_fmc != (_FMC_SPL in values):
        raise _malformed("fmcSPL is for Turin and only for Turin")
    return TcbVersion(
        boot_loader=_integer(values, "3.1"),
        tee=_integer(values, "3.2"),
        snp=_integer(values, "3.3"),
        microcode=_integer(values, "3.8"),
        fmc=_integer(values, _FMC_SPL) if has_fmc else 0,
    )


def _hwid(values: dict[str, bytes], kind: str, product: Product) -> bytes | None:
    """The chip's identity: raw in the extension, or wrapped as an OCTET STRING.

    The length decides, never the first byte: a raw identity may itself begin with 04.
    """
    value = values.get(_HWID)
    if (value is None) != (kind == "vlek"):
        raise _malformed("hwID is for VCEK and only for VCEK")
    if value is None:
        return None
    size = _HWID_SIZES[product]
    if len(value) == size:
        return value
    if len(value) == size + 2 and value[:2] == bytes([_OCTET_STRING, size]):
        return value[2:]
    raise _malformed(f"hwID of {len(value)} bytes")


def _csp_id(values: dict[str, bytes], kind: str) -> str | None:
    if (_CSP_ID in values) != (kind == "vlek"):
        raise _malformed("cspID is for VLEK and only for VLEK")
    return _text(values, _CSP_ID) if kind == "vlek" else None


def _value(values: dict[str, bytes], suffix: str, tag: int) -> bytes:
    der = values.get(suffix)
    if der is None:
        raise _malformed(f".{suffix} is missing")
    header = 2
    if len(der) <= header or der[0] != tag or der[1] != len(der) - header or der[1] > _MAX_TEXT:
        raise _malformed(f".{suffix} is not one short DER value of tag {tag:#04x}")
    return der[header:]


def _integer(values: dict[str, bytes], suffix: str) -> int:
    body = _value(values, suffix, _INTEGER)
    number = int.from_bytes(body, "big", signed=True)
    # X.690 8.3.2: one encoding per number; 128 and above take a leading zero byte.
    shortest = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    if body != shortest or not 0 <= number <= 0xFF:  # noqa: PLR2004  an SPL is one byte of a TCB_VERSION
        raise _malformed(f".{suffix} is not a number from 0 to 255")
    return number


def _text(values: dict[str, bytes], suffix: str) -> str:
    body = _value(values, suffix, _IA5_STRING)
    if any(not 0x20 <= byte <= 0x7E for byte in body):  # noqa: PLR2004  printable ASCII: it is shown to people
        raise _malformed(f".{suffix} is not printable ASCII")
    return body.decode("ascii")


def _malformed(reason: str) -> Malformed:
    return Malformed("snp-leaf-extension", reason, clause=_CLAUSE)

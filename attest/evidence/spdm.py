"""The SPDM exchange that an NVIDIA device signs, byte by byte (DMTF DSP0274 1.1, GET_MEASUREMENTS).

A report is the request (with the verifier's nonce) followed by the response. ``SpdmReport.parse`` accepts one
encoding, save for a single NUL that some tools leave behind the signature. It trusts nothing: whether the
report is genuine is said by ``attest.verify.nvidia``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from attest.evidence.gpu import MAX_REPORT_BYTES, NONCE_SIZE
from attest.evidence.reader import Reader
from attest.refusal import Malformed, Unsupported

MAX_BLOCKS: Final = 64
MEASUREMENT_SIZE: Final = 48

_CLAUSE: Final = "DSP0274 1.1 GET_MEASUREMENTS"
_RESPONSE_CLAUSE: Final = "DSP0274 1.1 MEASUREMENTS"
_REQUEST_HEAD: Final = bytes([0x11, 0xE0, 0x01, 0xFF])  # version 1.1, GET_MEASUREMENTS, signed, all blocks
_RESPONSE_HEAD: Final = bytes([0x11, 0x60])
_DMTF: Final = 1
_BLOCK_SIZE: Final = 4 + 3 + MEASUREMENT_SIZE
_COORDINATE_SIZE: Final = 48
_P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


@dataclass(frozen=True, slots=True)
class SpdmReport:
    """One exchange.

    Args:
        nonce: of the request, 32 bytes: the verifier's. The response's own nonce proves nothing.
        measurements: block n of the response is ``measurements[n - 1]``, 48 bytes.
        opaque: the vendor's fields by their numbers, unknown ones included.
        signature_r: 1 to order - 1.
        signature_s: 1 to order - 1.
        signed: the bytes that the signature covers: request and response up to it.
    """

    nonce: bytes
    measurements: tuple[bytes, ...] = field(repr=False)
    opaque: dict[int, bytes] = field(repr=False)
    signature_r: int = field(repr=False)
    signature_s: int = field(repr=False)
    signed: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> SpdmReport:
        """Read request and response.

        Raises:
            Unsupported: ``spdm-message``, ``spdm-slot``.
            Malformed: ``spdm-report-truncated``, ``spdm-report-length``, ``spdm-report-trailing-bytes``,
                ``spdm-blocks``, ``spdm-opaque``, ``spdm-signature-range``.
        """
        if len(data) > MAX_REPORT_BYTES:
            raise Malformed("spdm-report-length", f"{len(data)} bytes", clause=_CLAUSE)
        reader = Reader(data, "spdm-report")
        _message(reader, _REQUEST_HEAD, "GET_MEASUREMENTS 1.1 for all, signed")
        nonce = reader.take(NONCE_SIZE)
        slot = reader.uint_le(1)
        if slot:
            raise Unsupported("spdm-slot", _CLAUSE, expected="certificate slot 0", got=str(slot))
        _message(reader, _RESPONSE_HEAD, "MEASUREMENTS 1.1")
        reader.take(2)  # Param1 and Param2: what they may say in 1.1 does not change the record
        measurements = _blocks(reader)
        reader.take(NONCE_SIZE)
        opaque = _opaque(reader)
        signed = bytes(data[: reader.position])
        r, s = _coordinate(reader, "r"), _coordinate(reader, "s")
        if reader.remaining == 1:
            _nul(reader)
        reader.end()
        return cls(nonce, measurements, opaque, r, s, signed)


def _message(reader: Reader, head: bytes, what: str) -> None:
    got = reader.take(len(head))
    if got != head:
        raise Unsupported("spdm-message", _CLAUSE, expected=what, got=got.hex())


def _blocks(reader: Reader) -> tuple[bytes, ...]:
    offset = reader.position
    count, size = reader.uint_le(1), reader.uint_le(3)
    if not 0 < count <= MAX_BLOCKS or size != count * _BLOCK_SIZE:
        raise Malformed(
            "spdm-blocks", f"{count} blocks in {size} bytes", offset=offset, clause=_RESPONSE_CLAUSE
        )
    return tuple(_block(reader, index) for index in range(1, count + 1))


def _block(reader: Reader, index: int) -> bytes:
    """Block ``index``: each once and in order, so that no index can be answered twice."""
    offset = reader.position
    head = (reader.uint_le(1), reader.uint_le(1), reader.uint_le(2), reader.uint_le(1), reader.uint_le(2))
    # Index, specification, size, type (immutable or mutable firmware, as a digest), size of the value.
    if head != (index, _DMTF, 3 + MEASUREMENT_SIZE, 1, MEASUREMENT_SIZE):
        raise Malformed("spdm-blocks", f"block {index} is {head}", offset=offset, clause=_RESPONSE_CLAUSE)
    return reader.take(MEASUREMENT_SIZE)


def _opaque(reader: Reader) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    section = Reader(reader.take(reader.uint_le(2)), "spdm-report")
    while section.remaining:
        offset = section.position
        number, size = section.uint_le(2), section.uint_le(2)
        if number in fields:
            raise Malformed("spdm-opaque", f"field {number} twice", offset=offset, clause=_RESPONSE_CLAUSE)
        fields[number] = section.take(size)
    return fields


def _coordinate(reader: Reader, name: str) -> int:
    offset = reader.position
    value = reader.uint_be(_COORDINATE_SIZE)
    if not 0 < value < _P384_ORDER:
        raise Malformed("spdm-signature-range", name, offset=offset, clause="FIPS 186-5 section 6.4.2")
    return value


def _nul(reader: Reader) -> None:
    offset = reader.position
    if reader.take(1) != b"\x00":
        raise Malformed("spdm-report-trailing-bytes", "one byte too many", offset=offset, clause=_CLAUSE)

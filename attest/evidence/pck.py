"""What a PCK certificate says of its platform (Intel, "SGX PCK Certificate and CRL Profile", section 1.3.5).

One extension holds everything: a sequence of (identifier, value) pairs under 1.2.840.113741.1.13.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509

from attest.evidence.reader import Reader
from attest.refusal import Malformed

SGX_EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
COMPONENTS: Final = 16

CLAUSE: Final = "Intel SGX PCK Certificate and CRL Profile"
_NAME: Final = "tdx-pck-extension"
_OID_PREFIX: Final = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1
_INTEGER, _OCTET_STRING, _OBJECT, _SEQUENCE = 0x02, 0x04, 0x06, 0x30
_TCB, _PCEID, _FMSPC = b"\x02", b"\x03", b"\x04"
_PCESVN, _CPUSVN = 17, 18
_MAX_PAIRS: Final = 32


@dataclass(frozen=True, slots=True)
class PckPlatform:
    """The platform that a PCK certificate stands for.

    Args:
        fmspc: 6 bytes, which TCB info speaks of it.
        pceid: 2 bytes, which provisioning enclave.
        components: sixteen security versions.
        pcesvn: the provisioning enclave's security version.
        cpusvn: 16 bytes.
    """

    fmspc: bytes
    pceid: bytes
    components: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes

    @classmethod
    def parse(cls, certificate: x509.Certificate) -> PckPlatform:
        """Read the extension.

        Raises:
            Malformed: ``tdx-pck-extension`` if it is missing or not in the one DER form, and the codes of
                a reader: ``tdx-pck-extension-truncated``, ``tdx-pck-extension-trailing-bytes``.
        """
        return _platform(_extension(certificate))


# A pure function of the bytes, and a platform's are the same in every quote it makes.
@lru_cache(maxsize=64)
def _platform(value: bytes) -> PckPlatform:
    reader = Reader(value, _NAME)
    tag, body = _element(reader)
    reader.end()
    if tag != _SEQUENCE:
        raise _malformed("not a sequence")
    pairs = _pairs(body)
    tcb = _pairs(_value(pairs, _TCB, _SEQUENCE, None), prefix=_OID_PREFIX + _TCB)
    return PckPlatform(
        fmspc=_value(pairs, _FMSPC, _OCTET_STRING, 6),
        pceid=_value(pairs, _PCEID, _OCTET_STRING, 2),
        components=tuple(_integer(tcb, number, 0xFF) for number in range(1, COMPONENTS + 1)),
        pcesvn=_integer(tcb, _PCESVN, 0xFFFF),
        cpusvn=_value(tcb, bytes([_CPUSVN]), _OCTET_STRING, 16),
    )


def _extension(certificate: x509.Certificate) -> bytes:
    """The extension's value."""
    try:
        value = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
    except x509.ExtensionNotFound as error:
        raise _malformed("missing") from error
    if not isinstance(value, x509.UnrecognizedExtension):
        raise _malformed("of another form")
    return value.value


def _pairs(body: bytes, *, prefix: bytes = _OID_PREFIX) -> dict[bytes, tuple[int, bytes]]:
    """Last part of each identifier, to tag and value."""
    reader = Reader(body, _NAME)
    pairs: dict[bytes, tuple[int, bytes]] = {}
    while reader.remaining:
        tag, pair = _element(reader)
        inner = Reader(pair, _NAME)
        object_tag, identifier = _element(inner)
        value = _element(inner)
        inner.end()
        suffix = identifier.removeprefix(prefix)
        if (tag, object_tag) != (_SEQUENCE, _OBJECT) or len(suffix) != 1 or identifier == suffix:
            raise _malformed("an entry of another form")
        if suffix in pairs or len(pairs) == _MAX_PAIRS:
            raise _malformed("an entry twice, or too many")
        pairs[suffix] = value
    return pairs


def _element(reader: Reader) -> tuple[int, bytes]:
    """One DER element: tag and body, its length in the shortest form (X.690 section 10.1)."""
    tag, length = reader.uint_le(1), reader.uint_le(1)
    if length > 0x7F:  # noqa: PLR2004  X.690 section 8.1.3.5: long form
        size = length & 0x7F
        if size not in {1, 2}:
            raise _malformed("a length of another form")
        length = reader.uint_be(size)
        if length < (0x80 if size == 1 else 0x100):
            raise _malformed("a length not in its shortest form")
    return tag, reader.take(length)


def _value(pairs: dict[bytes, tuple[int, bytes]], suffix: bytes, tag: int, size: int | None) -> bytes:
    got = pairs.get(suffix)
    if got is None or got[0] != tag or (size is not None and len(got[1]) != size):
        raise _malformed(f".{suffix[0]} is missing or of another form")
    return got[1]


def _integer(pairs: dict[bytes, tuple[int, bytes]], number: int, most: int) -> int:
    body = _value(pairs, bytes([number]), _INTEGER, None)
    value = int.from_bytes(body, "big", signed=True)
    shortest = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True) if value >= 0 else b""
    if body != shortest or value > most:
        raise _malformed(f".2.{number} is not a number from 0 to {most}")
    return value


def _malformed(reason: str) -> Malformed:
    return Malformed("tdx-pck-extension", reason, clause=CLAUSE)

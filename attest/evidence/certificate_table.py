"""The certificate table that a host passes to its SEV-SNP guest (AMD 56421, "Extended Guest Request").

Entries of 24 bytes: GUID (16, in text order), offset (u32) and length (u32), both little endian and counted
from the start of the table; a zero GUID ends them. The table is the host's word: it is neither signed nor
measured, so the certificates in it are only suggestions to a verifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from attest.evidence.reader import Reader
from attest.refusal import Malformed

MAX_TABLE_BYTES: Final = 512 * 1024
MAX_ENTRIES: Final = 64
_ENTRY_SIZE: Final = 24
_NAME: Final = "snp-certificate-table"

VCEK: Final = UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes
VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes
ASK: Final = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes
ARK: Final = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes
CRL: Final = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes
_END: Final = bytes(16)


@dataclass(frozen=True, slots=True, repr=False)
class CertificateTable:
    """The entries that matter here, DER; ``None`` where absent. Other GUIDs are bounded and passed over."""

    vcek: bytes | None = None
    vlek: bytes | None = None
    ask: bytes | None = None
    ark: bytes | None = None
    crl: bytes | None = None

    def __repr__(self) -> str:
        present = [name for name in self.__slots__ if getattr(self, name) is not None]
        return f"CertificateTable({', '.join(present)})"

    @classmethod
    def parse(cls, data: bytes) -> CertificateTable:
        """Read a table. No bytes at all is a host that offers none: an empty table.

        Raises:
            Malformed: ``snp-certificate-table-truncated`` without its end mark, ``-too-large``,
                ``-duplicate`` for one GUID twice, ``-bounds`` for an entry outside the table or
                overlapping the headers.
        """
        if len(data) > MAX_TABLE_BYTES:
            raise Malformed(f"{_NAME}-too-large", f"{len(data)} bytes")
        entries = _read_entries(data) if data else {}
        return cls(
            vcek=entries.get(VCEK),
            vlek=entries.get(VLEK),
            ask=entries.get(ASK),
            ark=entries.get(ARK),
            crl=entries.get(CRL),
        )


def _read_entries(data: bytes) -> dict[bytes, bytes]:
    headers = _read_headers(data)
    first_byte = (len(headers) + 1) * _ENTRY_SIZE
    entries: dict[bytes, bytes] = {}
    for guid, offset, length in headers:
        if offset < first_byte or offset + length > len(data) or not length:
            raise Malformed(f"{_NAME}-bounds", f"{length} bytes at {offset} of {len(data)}")
        if guid in entries:
            raise Malformed(f"{_NAME}-duplicate", str(UUID(bytes=guid)))
        entries[guid] = data[offset : offset + length]
    return entries


def _read_headers(data: bytes) -> list[tuple[bytes, int, int]]:
    reader = Reader(data, _NAME)
    headers: list[tuple[bytes, int, int]] = []
    while True:
        guid = reader.take(16)
        if guid == _END:
            reader.zeros(8, "end mark")
            return headers
        if len(headers) == MAX_ENTRIES:
            raise Malformed(f"{_NAME}-too-large", f"more than {MAX_ENTRIES} entries")
        headers.append((guid, reader.uint_le(4), reader.uint_le(4)))

"""What a TDX guest hands over, as plain data: made inside the enclave, judged outside.

Apart from ``attest.collateral`` for the same reason as ``attest.evidence.cpu``: the enclave fills it in
without carrying any verifier's code.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal

from attest import strict_json
from attest.refusal import Malformed

MAX_QUOTE_BYTES: Final = 16 * 1024  # genuine ones are 5 kB, padded to 8000 by one cloud
MAX_EVENT_LOG_BYTES: Final = 512 * 1024  # firmware reserves 64 or 256 kB
MAX_COLLATERAL_BYTES: Final = 512 * 1024
MAX_DOCUMENT_BYTES: Final = 96 * 1024  # Intel's largest TCB info is 10 kB
MAX_LIST_BYTES: Final = 64 * 1024
_SIGNATURE_SIZE: Final = 64
_BINARY: Final = frozenset({"root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"})
_CLAUSE: Final = "Intel PCS v4, collateral"


@dataclass(frozen=True, slots=True, repr=False)
class TdxCollateral:
    """The nine documents under which a quote is to be judged. None is trusted yet.

    Args:
        pck_crl_issuer_chain: PEM, the authority that signed ``pck_crl``, then the root.
        root_ca_crl: DER, the root's revocation list.
        pck_crl: DER, that of the authority which issued the platform's certificate.
        tcb_info_issuer_chain: PEM, who signed ``tcb_info``, then the root.
        tcb_info: JSON exactly as signed.
        tcb_info_signature: 64 bytes, r and s big endian.
        qe_identity_issuer_chain: PEM, who signed ``qe_identity``, then the root.
        qe_identity: JSON exactly as signed.
        qe_identity_signature: 64 bytes, r and s big endian.

    Raises:
        Malformed: ``tdx-collateral-form`` for a document beyond its bound, text that is not ASCII, or a
            signature of another length.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes

    def __post_init__(self) -> None:
        for name in ("tcb_info_signature", "qe_identity_signature"):
            if len(getattr(self, name)) != _SIGNATURE_SIZE:
                raise Malformed("tdx-collateral-form", f"{name} is not {_SIGNATURE_SIZE} bytes")
        for name in (field.name for field in fields(self) if field.name not in _BINARY):
            if not getattr(self, name).isascii():
                raise Malformed("tdx-collateral-form", f"{name} is not ASCII")
        for name, size in self._sizes().items():
            if size > (MAX_LIST_BYTES if name in _BINARY else MAX_DOCUMENT_BYTES):
                raise Malformed("tdx-collateral-form", f"{name} of {size} bytes")

    def __repr__(self) -> str:
        return f"TdxCollateral({', '.join(f'{name} {size}' for name, size in self._sizes().items())})"

    def _sizes(self) -> dict[str, int]:
        return {field.name: len(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, data: bytes) -> TdxCollateral:
        """Read the JSON form that dcap-qvl and its peers exchange: text as text, bytes in lower-case hex.

        Raises:
            Malformed: ``tdx-collateral-form``, ``tdx-collateral-members`` and those of strict JSON.
        """
        return cls.from_members(
            strict_json.loads(data, name="tdx-collateral", max_bytes=MAX_COLLATERAL_BYTES)
        )

    @classmethod
    def from_members(cls, document: Any) -> TdxCollateral:
        """Read the same form where it is part of a larger document.

        Raises:
            Malformed: ``tdx-collateral-form``, ``tdx-collateral-members``.
        """
        names = frozenset(field.name for field in fields(cls))
        members = strict_json.members_exactly(document, names, name="tdx-collateral")
        values: dict[str, Any] = {name: _member(name, value) for name, value in members.items()}
        return cls(**values)

    def as_members(self) -> dict[str, str]:
        """The form that ``from_members`` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}

    def as_json(self) -> bytes:
        """The form that ``from_json`` reads, canonical."""
        return strict_json.canonical(self.as_members())


@dataclass(frozen=True, slots=True, repr=False)
class TdxEvidence:
    """One TDX guest's answer to one ``report_data``.

    Args:
        quote: as the quoting enclave wrote it.
        collateral: what the enclave knows towards verifying it; a verifier may use its own instead.
        event_log: the firmware's log in the form of ACPI CCEL, if the guest has one.
    """

    kind: ClassVar[Literal["tdx"]] = "tdx"

    quote: bytes
    collateral: TdxCollateral | None = None
    event_log: bytes | None = None

    def __repr__(self) -> str:
        log = "no event log" if self.event_log is None else f"event log {len(self.event_log)} bytes"
        return f"TdxEvidence(quote {len(self.quote)} bytes, {self.collateral!r}, {log})"


def _member(name: str, value: Any) -> str | bytes:
    if not isinstance(value, str):
        raise Malformed("tdx-collateral-form", f"{name} is not text", clause=_CLAUSE)
    if name not in _BINARY:
        return value
    try:
        data = bytes.fromhex(value)
    except ValueError as error:
        raise Malformed("tdx-collateral-form", f"{name} is not hex", clause=_CLAUSE) from error
    if data.hex() != value:
        raise Malformed("tdx-collateral-form", f"{name} is not lower-case hex", clause=_CLAUSE)
    return data

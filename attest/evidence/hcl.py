"""The report of Azure's paravisor (HCL), as a confidential VM reads it from its vTPM (NV index 0x01400001).

The paravisor asks the hardware for a report over the SHA-256 of a JSON document, the runtime claims, which
name the vTPM's attestation key. So the chain of trust is: the hardware signs the digest, the digest names the
key, the key signs the vTPM's quote. Header and data header are covered by no signature: each of their fields
has one accepted value, or is a size that must fit.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from attest import strict_json
from attest.evidence.reader import Reader
from attest.evidence.snp import REPORT_SIZE
from attest.refusal import Malformed, Unsupported

HardwareKind = Literal["snp", "tdx"]

MAX_SIZE: Final = 2600
"""Size of the NV index."""

TDREPORT_SIZE: Final = 1024
TDREPORT_DATA_OFFSET: Final = 0x80
REPORT_DATA_SIZE: Final = 64
CLAUSE: Final = "Azure CVM, HCL report"
ATTESTATION_KEY_ID: Final = "HCLAkPub"

_HEADER_SIZE: Final = 0x20
_DATA_OFFSET: Final = _HEADER_SIZE + REPORT_SIZE
_DATA_HEADER_SIZE: Final = 20
_MAGIC: Final = b"HCLA"
_VERSIONS: Final = frozenset({1, 2})
_REQUEST_TYPE: Final = 2
_DATA_VERSION: Final = 1
_SHA256: Final = 1
_KINDS: Final[dict[int, HardwareKind]] = {2: "snp", 4: "tdx"}
_MAX_KEYS: Final = 8
_USER_DATA: Final = re.compile(r"[0-9A-Fa-f]{128}", re.ASCII)
_VM_ID: Final = re.compile(r"[0-9A-Fa-f-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RuntimeClaims:
    """What the paravisor says of the VM; as true as the hardware report over it.

    Args:
        attestation_key: the vTPM's attestation key, a JWK.
        vm_id: the VM's identity in Azure.
        secure_boot: whether the paravisor booted the VM by Secure Boot.
        console_enabled: whether a serial console is attached.
        user_data: 64 bytes that the guest may set; zeros by default.
    """

    attestation_key: dict[str, Any] = field(repr=False)
    vm_id: str
    secure_boot: bool
    console_enabled: bool
    user_data: bytes


@dataclass(frozen=True, slots=True)
class HclReport:
    """One report, parsed and not verified.

    Args:
        version: of the header, 1 or 2.
        kind: of the hardware.
        hardware_report: a SEV-SNP report (1184 bytes), or a TDREPORT (1024 bytes), which nobody outside the
            machine can verify.
        runtime_json: the runtime claims' exact bytes.
    """

    version: int
    kind: HardwareKind
    hardware_report: bytes = field(repr=False)
    runtime_json: bytes = field(repr=False)

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the hardware's REPORT_DATA must be: the runtime claims' SHA-256, then zeros."""
        return hashlib.sha256(self.runtime_json).digest().ljust(REPORT_DATA_SIZE, b"\x00")

    @property
    def tdreport_data(self) -> bytes:
        """REPORTDATA of the TDREPORT, 64 bytes; of ``tdx`` only."""
        return self.hardware_report[TDREPORT_DATA_OFFSET : TDREPORT_DATA_OFFSET + REPORT_DATA_SIZE]

    @classmethod
    def parse(cls, data: bytes) -> HclReport:
        """Read a report; zeros may follow it up to the size of the NV index.

        Raises:
            Unsupported: ``hcl-version``, ``hcl-report-type``, ``hcl-hash``.
            Malformed: ``hcl-too-large``, ``hcl-magic``, ``hcl-field``, ``hcl-size``, ``hcl-truncated``,
                ``hcl-reserved-not-zero``.
        """
        if len(data) > MAX_SIZE:
            raise Malformed("hcl-too-large", f"{len(data)} bytes, at most {MAX_SIZE}", clause=CLAUSE)
        reader = Reader(data, "hcl")
        if reader.take(4) != _MAGIC:
            raise Malformed("hcl-magic", "not HCLA", offset=0, clause=CLAUSE)
        version = reader.uint_le(4)
        if version not in _VERSIONS:
            raise Unsupported("hcl-version", CLAUSE, expected="1 or 2", got=str(version))
        report_size = reader.uint_le(4)
        _exactly(reader, _REQUEST_TYPE, "request type")
        reader.zeros(16, "status")
        area = Reader(reader.take(REPORT_SIZE), "hcl")
        data_size = reader.uint_le(4)
        _exactly(reader, _DATA_VERSION, "data version")
        kind = _kind(reader)
        runtime_size = reader.uint_le(4)
        if data_size != _DATA_HEADER_SIZE + runtime_size or report_size != _DATA_OFFSET + data_size:
            raise Malformed("hcl-size", "sizes that do not fit each other", clause=CLAUSE)
        runtime_json = reader.take(runtime_size)
        reader.zeros(reader.remaining, "after the runtime claims")
        hardware_report = area.take(REPORT_SIZE if kind == "snp" else TDREPORT_SIZE)
        area.zeros(area.remaining, "after the TDREPORT")
        return cls(version, kind, hardware_report, runtime_json)

    def runtime_claims(self) -> RuntimeClaims:
        """The runtime claims. They are the hardware's word only once REPORT_DATA was compared.

        Raises:
            Malformed: ``hcl-runtime``, ``hcl-runtime-*``.
        """
        claims = strict_json.loads(self.runtime_json, name="hcl-runtime", max_bytes=MAX_SIZE)
        match claims:
            case {
                "keys": list() as keys,
                "vm-configuration": {
                    "secure-boot": bool() as secure_boot,
                    "tpm-enabled": True,
                    "console-enabled": bool() as console_enabled,
                    "vmUniqueId": str() as vm_id,
                },
            } if len(keys) <= _MAX_KEYS and _VM_ID.fullmatch(vm_id):
                pass
            case _:
                raise Malformed("hcl-runtime", "no keys or VM configuration of the form", clause=CLAUSE)
        found = [key for key in keys if isinstance(key, dict) and key.get("kid") == ATTESTATION_KEY_ID]
        if len(found) != 1 or found[0].get("kty") != "RSA":
            raise Malformed("hcl-runtime", f"{len(found)} attestation keys", clause=CLAUSE)
        user_data = claims.get("user-data", "00" * REPORT_DATA_SIZE)
        if not isinstance(user_data, str) or _USER_DATA.fullmatch(user_data) is None:
            raise Malformed("hcl-runtime", "user-data is not 64 bytes of hex", clause=CLAUSE)
        return RuntimeClaims(found[0], vm_id, secure_boot, console_enabled, bytes.fromhex(user_data))


def _exactly(reader: Reader, value: int, field_name: str) -> None:
    offset = reader.position
    got = reader.uint_le(4)
    if got != value:
        raise Malformed("hcl-field", f"{field_name} is {got}, not {value}", offset=offset, clause=CLAUSE)


def _kind(reader: Reader) -> HardwareKind:
    report_type, hash_type = reader.uint_le(4), reader.uint_le(4)
    kind = _KINDS.get(report_type)
    if kind is None:
        raise Unsupported("hcl-report-type", CLAUSE, expected="2 (SNP) or 4 (TDX)", got=str(report_type))
    if hash_type != _SHA256:
        raise Unsupported("hcl-hash", CLAUSE, expected="1 (SHA-256)", got=str(hash_type))
    return kind

"""What the runtime states about itself, and how the evidence binds it.

The statement is RFC 8785 JSON. The CPU report carries ``SHA-512("sealgate-statement-v1" || statement)`` as
its report data, so whoever trusts the report's signature knows every member: which keys answer (keyset
digest), under which policy, which model, for which question (nonce), and which devices stand beside the
CPU (their evidence digests). Every GPU in turn is asked with ``gpu_nonce``, so it answers for the same
nonce and the same keys, and evidence of another enclave's GPU does not fit.

The bytes that were signed are the bytes that are parsed: ``Statement.parse`` refuses every encoding but
the canonical one, so no second document has the same meaning.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from attest import digest, strict_json
from attest.refusal import Malformed, Refused, Unsupported

VERSION = 1
PURPOSE = "sealgate-runtime"

MAX_STATEMENT_BYTES = 64 * 1024
"""All members at their bounds, with room; a statement of one CPU is about one kilobyte."""

MAX_DEVICES = 64
"""Eight accelerators and their switches per host, and room."""

CLAUSE = "docs/reference/statement.md"

_NONCE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_DEVICE_MEMBERS = frozenset({"kind", "index", "evidence_sha256"})

Role = Literal["serve", "tune"]


def report_data(statement: bytes) -> bytes:
    """The 64 bytes of CPU report data that bind the statement's canonical bytes."""
    return hashlib.sha512(b"sealgate-statement-v1" + statement).digest()


def gpu_nonce(nonce: str, keyset_digest: str) -> bytes:
    """The 32-byte nonce with which every GPU is asked.

    Args:
        nonce: the client's, 64 lower-case hex digits; hashed as its 32 bytes.
        keyset_digest: ``sha256:...``; hashed as its 32 bytes.

    Raises:
        Malformed: ``nonce-form`` or ``digest-form``.
    """
    return hashlib.sha256(
        b"sealgate-gpu-nonce-v1" + bytes.fromhex(checked_nonce(nonce)) + digest.raw(keyset_digest)
    ).digest()


def vtpm_nonce(data: bytes) -> bytes:
    """The 32 bytes that a vTPM's quote carries where hardware carries ``report_data`` itself.

    A TPM takes no more than the longest digest that it knows (TPM 2.0 part 2, TPM2B_DATA), and Azure's knows
    none of 64 bytes for sure.

    Args:
        data: what ``report_data`` returned.
    """
    return hashlib.sha256(b"sealgate-vtpm-nonce-v1" + data).digest()


def checked_nonce(nonce: Any) -> str:
    """``nonce`` if it is 64 lower-case hex digits.

    Raises:
        Malformed: ``nonce-form``.
    """
    if not isinstance(nonce, str) or _NONCE.fullmatch(nonce) is None:
        raise Malformed("nonce-form", "not 64 lower-case hex digits", clause=CLAUSE)
    return nonce


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator beside the CPU, by the digest of its evidence.

    Args:
        kind: e.g. ``nvidia-gpu``.
        index: 0 to 255, unique within its kind.
        evidence_sha256: digest of the evidence bytes in the bundle.
    """

    kind: str
    index: int
    evidence_sha256: str

    def __post_init__(self) -> None:
        _require_text(self.kind, _NAME, "devices.kind")
        if type(self.index) is not int or not 0 <= self.index <= 255:  # noqa: PLR2004 - the documented range
            raise Malformed("statement-field", "devices.index", clause=CLAUSE)
        digest.checked(self.evidence_sha256, code="statement-field", field="devices.evidence_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The runtime's statement; every instance satisfies the format's rules.

    Args:
        nonce: the client's 64 hex digits; None only where nobody asked (a saved self-description).
        keyset_digest: digest of the canonical keyset.
        policy_digest: digest of the policy bundle the runtime was configured with.
        base_model_digest: digest of the model's weights.
        tokenizer_digest: digest of the tokenizer.
        runtime_image: name or digest of the runtime's image.
        key_scope: the replica whose keys these are.
        region: where the replica runs, as its operator says; bound, not proved.
        devices: accelerators, ordered by kind and index, none twice.
        role: ``serve`` or ``tune``.
        contract_digest: the consortium contract; present for ``tune`` and only there.
        previous_statement: digest of the statement that this replica made before its keys changed.
        self_check: digest of what the engine was asked before it served, and answered as it should: prompts,
            weight mode and tokens; None if it has no such check. A runtime that failed makes no statement.
        embedding_model_digest: digest of the embedding model's weights, configuration and tokenizer; None if
            the runtime serves none.

    Raises:
        Malformed: ``statement-field``, ``statement-devices``, ``statement-contract`` or ``nonce-form``.
    """

    nonce: str | None
    keyset_digest: str
    policy_digest: str
    base_model_digest: str
    tokenizer_digest: str
    runtime_image: str
    key_scope: str
    region: str
    devices: tuple[Device, ...] = ()
    role: Role = "serve"
    contract_digest: str | None = None
    previous_statement: str | None = None
    self_check: str | None = None
    embedding_model_digest: str | None = None

    def __post_init__(self) -> None:
        if self.nonce is not None:
            checked_nonce(self.nonce)
        for field in ("keyset_digest", "policy_digest", "base_model_digest", "tokenizer_digest"):
            digest.checked(getattr(self, field), code="statement-field", field=field)
        for field in ("contract_digest", "previous_statement", "self_check", "embedding_model_digest"):
            if getattr(self, field) is not None:
                digest.checked(getattr(self, field), code="statement-field", field=field)
        _require_text(self.runtime_image, _IMAGE, "runtime_image")
        _require_text(self.key_scope, _NAME, "key_scope")
        _require_text(self.region, _NAME, "region")
        if self.role not in ("serve", "tune"):
            raise Malformed("statement-field", "role", clause=CLAUSE)
        if (self.role == "tune") != (self.contract_digest is not None):
            raise Malformed(
                "statement-contract", "a contract digest is for tune, and only there", clause=CLAUSE
            )
        _require_devices(self.devices)

    def canonical(self) -> bytes:
        """RFC 8785 JSON: the bytes that ``report_data`` binds."""
        return strict_json.canonical(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The members as JSON values."""
        members: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        members["devices"] = [
            {"kind": device.kind, "index": device.index, "evidence_sha256": device.evidence_sha256}
            for device in self.devices
        ]
        return {"version": VERSION, "purpose": PURPOSE, **members}

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical bytes: the name of the statement in receipts and logs."""
        return digest.sha256_digest(self.canonical())

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """Read canonical bytes, and nothing else.

        Raises:
            Malformed: ``statement-*`` for anything that ``canonical`` would not have written.
            Unsupported: ``statement-version``.
            Refused: ``statement-purpose`` for a statement made for something else.
        """
        value = strict_json.loads(data, name="statement", max_bytes=MAX_STATEMENT_BYTES)
        _require_kind(value)
        members = strict_json.members_exactly(value, _MEMBERS, name="statement")
        members = {name: members[name] for name in members.keys() - {"version", "purpose"}}
        members["devices"] = _parse_devices(members["devices"])
        statement = cls(**members)
        if statement.canonical() != data:
            raise Malformed("statement-not-canonical", "not RFC 8785 JSON", clause="RFC 8785")
        return statement


_MEMBERS = frozenset({"version", "purpose", *(field.name for field in fields(Statement))})


def _require_kind(value: Any) -> None:
    """Version and purpose, before the members: another version may have other members."""
    if not isinstance(value, dict) or type(value.get("version")) is not int:
        raise Malformed("statement-members", "version is not an integer", clause=CLAUSE)
    if value["version"] != VERSION:
        raise Unsupported("statement-version", CLAUSE, expected=str(VERSION), got="another version")
    if value.get("purpose") != PURPOSE:
        raise Refused("statement-purpose", CLAUSE, expected=PURPOSE, got="another purpose")


def _parse_devices(value: Any) -> tuple[Device, ...]:
    if not isinstance(value, list) or len(value) > MAX_DEVICES:
        raise Malformed("statement-devices", f"not a list of at most {MAX_DEVICES}", clause=CLAUSE)
    return tuple(
        Device(**strict_json.members_exactly(item, _DEVICE_MEMBERS, name="statement")) for item in value
    )


def _require_devices(devices: tuple[Device, ...]) -> None:
    """One order, none twice: the list is a set, and a set has one spelling."""
    keys = [(device.kind, device.index) for device in devices]
    if len(keys) > MAX_DEVICES or keys != sorted(set(keys)):
        raise Malformed("statement-devices", "not in order, or one twice, or too many", clause=CLAUSE)


def _require_text(value: Any, form: re.Pattern[str], field: str) -> None:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise Malformed("statement-field", field, clause=CLAUSE)

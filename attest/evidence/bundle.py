"""The bundle: everything a verifier needs to judge one runtime offline, in one strict document.

    {"format": "sealgate-bundle-v1",
     "statement": b64, "keyset": b64,                           canonical JSON, as bytes
     "cpu": {"kind": "snp", "report": b64}
          | {"kind": "tdx", "quote": b64, "event_log": b64|null}
          | {"kind": "azure-snp", "hcl_report", "quote", "signature", "pcrs": b64},
     "devices": [{"kind", "index", "arch", "report": b64, "certificate_chain": b64}, ...],
     "collateral": {"snp": {"leaf", "intermediate", "ark", "crl": b64|null} | null,
                    "tdx": {the nine documents} | null,
                    "nvidia": {"rims": {name: b64}, "ocsp": [b64, ...]} | null},
     "tokens": [{"kind": "nras"|"maa", "token": b64}, ...]}     second verdicts, for a quorum

The bundle itself is RFC 8785 JSON: one set of parts has one encoding, so a stored bundle can be named by
its digest and two parsers cannot read it differently. Nothing in it is trusted yet. An enclave leaves out
what it cannot know (golden values, revocation lists); whoever verifies fills it in from what it fetched,
and may then store the whole (``attest.collateral.complete``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from attest import strict_json
from attest.evidence import bundle_collateral as collateral
from attest.evidence import bundle_cpu
from attest.evidence.cpu import CpuEvidence
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.refusal import Malformed, Unsupported
from attest.statement import MAX_DEVICES

FORMAT: Final = "sealgate-bundle-v1"
MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024
"""Eight GPUs, their switches and all collateral are about 400 kB."""

MAX_PARTS: Final = 128 * 1024
"""Commas and opening brackets in the document, those in the texts of Intel's documents too."""

MAX_TOKEN_BYTES: Final = 256 * 1024
CLAUSE: Final = "docs/reference/bundle-format.md"

TokenKind = Literal["nras", "maa"]

_MEMBERS: Final = frozenset({"format", "statement", "keyset", "cpu", "devices", "collateral", "tokens"})
_TOKEN_MEMBERS: Final = frozenset({"kind", "token"})


@dataclass(frozen=True, slots=True, repr=False)
class VerdictToken:
    """What an attestation service says of the same evidence.

    Args:
        kind: ``nras`` on the devices, ``maa`` on the CPU.
        token: as the service answered.
    """

    kind: TokenKind
    token: bytes

    def __repr__(self) -> str:
        return f"VerdictToken({self.kind}, {len(self.token)} bytes)"


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """The parts, as bytes.

    Args:
        statement: the statement's canonical bytes.
        keyset: the keyset's canonical bytes.
        cpu: the CPU TEE's report and what is known towards judging it.
        devices: the devices' reports, ordered by kind and index, none twice.
        nvidia: golden values and revocation answers for the devices.
        tokens: second verdicts, at most one of each kind, ordered by kind.

    Raises:
        Malformed: ``bundle-devices``, ``bundle-tokens``.
    """

    statement: bytes
    keyset: bytes
    cpu: CpuEvidence
    devices: tuple[DeviceEvidence, ...] = ()
    nvidia: NvidiaCollateral | None = None
    tokens: tuple[VerdictToken, ...] = ()

    def __post_init__(self) -> None:
        keys = [(device.kind, device.index) for device in self.devices]
        if len(keys) > MAX_DEVICES or keys != sorted(set(keys)):
            raise Malformed("bundle-devices", "not in order, or one twice, or too many", clause=CLAUSE)
        kinds = [token.kind for token in self.tokens]
        if kinds != sorted(set(kinds)):
            raise Malformed("bundle-tokens", "not in order, or a kind twice", clause=CLAUSE)

    def __repr__(self) -> str:
        sizes = f"statement {len(self.statement)} bytes, keyset {len(self.keyset)} bytes"
        return f"Bundle({sizes}, {self.cpu!r}, {len(self.devices)} devices)"

    def serialise(self) -> bytes:
        """RFC 8785 JSON."""
        return strict_json.canonical(
            {
                "format": FORMAT,
                "statement": strict_json.b64encode(self.statement),
                "keyset": strict_json.b64encode(self.keyset),
                "cpu": bundle_cpu.members(self.cpu),
                "devices": [device.as_members() for device in self.devices],
                "collateral": collateral.members(self.cpu, self.nvidia),
                "tokens": [
                    {"kind": token.kind, "token": strict_json.b64encode(token.token)} for token in self.tokens
                ],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Read canonical bytes, and nothing else.

        Raises:
            Malformed: ``bundle-*``, ``device-*``, ``tdx-collateral-*`` for anything that ``serialise`` would
                not have written.
            Unsupported: ``bundle-format``, ``cpu-evidence-kind``, ``device-architecture``, ``token-kind``.
        """
        _require_few_parts(data)
        value = strict_json.loads(data, name="bundle", max_bytes=MAX_BUNDLE_BYTES)
        if not isinstance(value, dict) or not isinstance(value.get("format"), str):
            raise Malformed("bundle-members", "format is not a string", clause=CLAUSE)
        if value["format"] != FORMAT:
            raise Unsupported("bundle-format", CLAUSE, expected=FORMAT, got="another format")
        members = strict_json.members_exactly(value, _MEMBERS, name="bundle")
        parts = collateral.read(members["collateral"])
        bundle = cls(
            statement=_decode(members["statement"], MAX_BUNDLE_BYTES),
            keyset=_decode(members["keyset"], MAX_BUNDLE_BYTES),
            cpu=bundle_cpu.read(members["cpu"], parts),
            devices=tuple(
                map(DeviceEvidence.from_members, _list(members["devices"], MAX_DEVICES, "devices"))
            ),
            nvidia=parts.nvidia,
            tokens=tuple(map(_token, _list(members["tokens"], len(get_args(TokenKind)), "tokens"))),
        )
        # Also what was read and belongs nowhere, such as collateral of another kind of CPU, is missing here.
        if bundle.serialise() != data:
            raise Malformed("bundle-not-canonical", "not RFC 8785 JSON of these parts", clause="RFC 8785")
        return bundle


def _require_few_parts(data: bytes) -> None:
    """Empty lists by the million take thirty times their length once they are read."""
    parts = sum(map(data.count, (b",", b"[", b"{")))
    if parts > MAX_PARTS:
        raise Malformed("bundle-members", f"{parts} parts, at most {MAX_PARTS}", clause=CLAUSE)


def _token(value: Any) -> VerdictToken:
    members = strict_json.members_exactly(value, _TOKEN_MEMBERS, name="bundle")
    if members["kind"] not in get_args(TokenKind):
        raise Unsupported("token-kind", CLAUSE, expected=" or ".join(get_args(TokenKind)), got="another kind")
    return VerdictToken(members["kind"], _decode(members["token"], MAX_TOKEN_BYTES))


def _list(value: Any, longest: int, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise Malformed("bundle-members", f"{name} is not a list of at most {longest}", clause=CLAUSE)
    return value


def _decode(value: Any, max_bytes: int) -> bytes:
    return strict_json.b64decode(value, name="bundle", max_bytes=max_bytes)

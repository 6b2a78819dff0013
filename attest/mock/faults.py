"""Named lies. Each differs from the honest world in one thing, and names the code that must refuse it.

Bundle faults lie in the evidence and are made here, from a ``MockWorld``. Channel faults lie afterwards,
inside a channel that was honestly attested, which only a runtime can do: they are registered here by name
and acted out by the development server. Either kind is met by tests, by ``sealgate demo`` and by
``sealgate runtime --dev --fault NAME``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from attest import strict_json
from attest.channel.ohttp import KeyPair, serialise_key_configs
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.keyset import Keyset
from attest.mock.snp_certificates import VCEK_SERIAL
from attest.mock.snp_report import DEBUG_POLICY_BIT, MIGRATION_POLICY_BIT
from attest.mock.vendor import MockVendor
from attest.mock.world import MockWorld

Lie = Callable[[MockWorld, str], bytes]


@dataclass(frozen=True, slots=True)
class Fault:
    """One lie.

    Args:
        name: as typed after ``--fault``.
        title: what the liar does, for people.
        promise: which promise it attacks, e.g. ``P1``.
        expected_code: the refusal that must meet it.
        exit_code: what ``sealgate verify`` exits with.
        level: ``bundle`` lies in evidence, ``channel`` after it.
    """

    name: str
    title: str
    promise: str
    expected_code: str
    exit_code: int = 10
    level: Literal["bundle", "channel"] = "bundle"


FAULTS: dict[str, Fault] = {}
"""Every fault by name."""

_LIES: Final[dict[str, Lie]] = {}


def apply_bundle_fault(name: str, world: MockWorld, nonce: str) -> bytes:
    """The lying answer to ``nonce``.

    Args:
        name: a fault of level ``bundle``.
        world: the honest world.
        nonce: the client's, 64 hex digits.

    Raises:
        KeyError: no bundle fault has this name.
    """
    return _LIES[name](world, nonce)


def _register(fault: Fault) -> None:
    if fault.name in FAULTS:
        raise ValueError(f"two faults are named {fault.name}")
    FAULTS[fault.name] = fault


def _bundle_fault(
    name: str, title: str, expected_code: str, *, promise: str = "P1", exit_code: int = 10
) -> Callable[[Lie], Lie]:
    """Register the decorated lie."""

    def register(lie: Lie) -> Lie:
        _register(Fault(name, title, promise, expected_code, exit_code))
        _LIES[name] = lie
        return lie

    return register


# What was launched


@_bundle_fault("wrong-measurement", "another image was launched", "snp-measurement-not-accepted")
def _wrong_measurement(world: MockWorld, nonce: str) -> bytes:
    other = bytes([world.launch.measurement[0] ^ 1]) + world.launch.measurement[1:]
    return replace(world, launch=replace(world.launch, measurement=other)).answer(nonce)


@_bundle_fault("debug-guest", "the host may read the guest's memory", "snp-debug")
def _debug_guest(world: MockWorld, nonce: str) -> bytes:
    policy = world.launch.policy | DEBUG_POLICY_BIT
    return replace(world, launch=replace(world.launch, policy=policy)).answer(nonce)


@_bundle_fault("migratable-guest", "the host may move the guest elsewhere", "snp-migration-agent")
def _migratable_guest(world: MockWorld, nonce: str) -> bytes:
    policy = world.launch.policy | MIGRATION_POLICY_BIT
    return replace(world, launch=replace(world.launch, policy=policy)).answer(nonce)


@_bundle_fault("migration-agent", "a migration agent is bound to the guest", "snp-migration-agent")
def _migration_agent(world: MockWorld, nonce: str) -> bytes:
    return replace(world, launch=replace(world.launch, migration_agent=b"\x01" * 32)).answer(nonce)


@_bundle_fault("vmpl", "a less privileged layer of the guest asked", "snp-vmpl-not-accepted")
def _vmpl(world: MockWorld, nonce: str) -> bytes:
    return replace(world, launch=replace(world.launch, vmpl=3)).answer(nonce)


@_bundle_fault("rolled-back-tcb", "firmware with a known hole, newer microcode", "snp-reported-tcb")
def _rolled_back_tcb(world: MockWorld, nonce: str) -> bytes:
    """One component down, another up: as one number the version would have grown."""
    tcb = world.launch.tcb
    older = TcbVersion(tcb.boot_loader, tcb.tee, tcb.snp - 1, tcb.microcode + 1, tcb.fmc)
    return replace(world, launch=replace(world.launch, tcb=older)).answer(nonce)


@_bundle_fault("old-guest", "an older security version of the image", "snp-guest-svn")
def _old_guest(world: MockWorld, nonce: str) -> bytes:
    return replace(world, launch=replace(world.launch, guest_svn=world.launch.guest_svn - 1)).answer(nonce)


# Which keys answer


@_bundle_fault(
    "key-swapped",
    "a relay offers its own keys beside honest evidence",
    "keyset-digest-mismatch",
    promise="P2",
)
def _key_swapped(world: MockWorld, nonce: str) -> bytes:
    return replace(world.bundle(nonce), keyset=_relay_keys(world.keyset).canonical()).serialise()


@_bundle_fault(
    "key-restated", "a relay states its own keys under an honest report", "report-data-mismatch", promise="P2"
)
def _key_restated(world: MockWorld, nonce: str) -> bytes:
    relay = replace(world, keyset=_relay_keys(world.keyset)).bundle(nonce)
    return replace(relay, cpu=world.bundle(nonce).cpu).serialise()


@_bundle_fault("expired-keyset", "keys whose life is over", "keyset-stale")
def _expired_keyset(world: MockWorld, nonce: str) -> bytes:
    keyset = world.keyset
    life = keyset.not_after - keyset.not_before
    earlier = replace(keyset, not_before=keyset.not_before - life, not_after=keyset.not_before)
    return replace(world, keyset=earlier).answer(nonce)


@_bundle_fault("pending-keyset", "keys whose life has not begun", "keyset-pending")
def _pending_keyset(world: MockWorld, nonce: str) -> bytes:
    keyset = world.keyset
    life = keyset.not_after - keyset.not_before
    later = replace(keyset, not_before=keyset.not_after, not_after=keyset.not_after + life)
    return replace(world, keyset=later).answer(nonce)


# What is stated


@_bundle_fault("stale-nonce", "yesterday's answer, genuine then", "nonce-mismatch")
def _stale_nonce(world: MockWorld, nonce: str) -> bytes:
    return world.answer(_other_hex(nonce))


@_bundle_fault("no-nonce", "a statement that answers nobody", "nonce-mismatch")
def _no_nonce(world: MockWorld, nonce: str) -> bytes:  # noqa: ARG001 - that is the lie
    return world.answer(None)


@_bundle_fault("wrong-model", "another model than the accepted one", "model-not-accepted")
def _wrong_model(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, base_model_digest=_other_digest(world.statement.base_model_digest)).answer(nonce)


@_bundle_fault("wrong-tokenizer", "another tokenizer than the accepted one", "tokenizer-not-accepted")
def _wrong_tokenizer(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, tokenizer_digest=_other_digest(world.statement.tokenizer_digest)).answer(nonce)


@_bundle_fault("policy-swapped", "another policy bundle", "policy-not-accepted", promise="P3")
def _policy_swapped(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, policy_digest=_other_digest(world.statement.policy_digest)).answer(nonce)


@_bundle_fault("wrong-image", "another runtime image", "image-not-accepted")
def _wrong_image(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, runtime_image="another/image:latest").answer(nonce)


@_bundle_fault("wrong-region", "another region", "region-not-accepted", promise="P3")
def _wrong_region(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, region="elsewhere-1").answer(nonce)


@_bundle_fault(
    "wrong-role", "a tuning runtime where a serving one is wanted", "role-not-accepted", promise="P6"
)
def _wrong_role(world: MockWorld, nonce: str) -> bytes:
    contract = _other_digest(world.statement.policy_digest)
    return _restated(world, role="tune", contract_digest=contract).answer(nonce)


@_bundle_fault("unproved-gpu", "a GPU beside the CPU that nothing vouches for", "gpu-evidence", exit_code=20)
def _unproved_gpu(world: MockWorld, nonce: str) -> bytes:
    document = json.loads(world.answer(nonce))
    document["gpus"] = [{"kind": "nvidia-gpu", "index": 0}]
    return strict_json.canonical(document)


# Who vouches


@_bundle_fault("wrong-root", "another vendor's root, same names", "snp-root-not-trusted", promise="P8")
def _wrong_root(world: MockWorld, nonce: str) -> bytes:
    return replace(world, vendor=_stranger(world.vendor.product)).answer(nonce)


@_bundle_fault(
    "mock-as-hardware", "the mock's chain without its root, as if AMD's", "snp-root-not-trusted", promise="P8"
)
def _mock_as_hardware(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    collateral = replace(honest.cpu.collateral, ark=None)
    return replace(honest, cpu=replace(honest.cpu, collateral=collateral)).serialise()


@_bundle_fault("revoked-chip", "the chip's certificate is on the revocation list", "certificate-revoked")
def _revoked_chip(world: MockWorld, nonce: str) -> bytes:
    return _with_crl(world, nonce, world.vendor.revocation_list((VCEK_SERIAL,), now=world.keyset.not_before))


@_bundle_fault("no-revocation-list", "the list that names the chip is left out", "snp-revocation-unchecked")
def _no_revocation_list(world: MockWorld, nonce: str) -> bytes:
    return _with_crl(world, nonce, None)


# Bits and pieces


@_bundle_fault("statement-bit", "one bit of the statement flipped on the way", "report-data-mismatch")
def _statement_bit(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    model = world.statement.base_model_digest
    flipped = honest.statement.replace(model.encode(), _other_digest(model).encode(), 1)
    return replace(honest, statement=flipped).serialise()


@_bundle_fault("report-bit", "one bit of the report flipped on the way", "snp-report-signature")
def _report_bit(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    report = bytearray(honest.cpu.report)
    report[0x90] ^= 1  # the first bit of MEASUREMENT
    return replace(honest, cpu=replace(honest.cpu, report=bytes(report))).serialise()


@_bundle_fault("cut-bundle", "the last byte is missing", "bundle-not-json", exit_code=30)
def _cut_bundle(world: MockWorld, nonce: str) -> bytes:
    return world.answer(nonce)[:-1]


@_bundle_fault("extra-member", "a member that only some parsers would read", "bundle-members", exit_code=30)
def _extra_member(world: MockWorld, nonce: str) -> bytes:
    return strict_json.canonical(json.loads(world.answer(nonce)) | {"debug": True})


# What a channel fault does, once the channel stands

_CHANNEL_FAULTS: Final = (
    Fault(
        "replayed-answer",
        "an earlier answer is sent again, sealed as it was then",
        "P7",
        "hpke-open-failed",
        level="channel",
    ),
    Fault(
        "truncated-stream",
        "the answer stops before its last chunk",
        "P7",
        "ohttp-truncated",
        level="channel",
    ),
)

for _fault in _CHANNEL_FAULTS:
    _register(_fault)


# How things are made different


def _restated(world: MockWorld, **members: str) -> MockWorld:
    return replace(world, statement=replace(world.statement, **members))  # type: ignore[arg-type]  # text members


def _with_crl(world: MockWorld, nonce: str, crl: bytes | None) -> bytes:
    honest = world.bundle(nonce)
    collateral = replace(honest.cpu.collateral, crl=crl)
    return replace(honest, cpu=replace(honest.cpu, collateral=collateral)).serialise()


def _relay_keys(keyset: Keyset) -> Keyset:
    """Keys of the relay's own, good ones, for the same time."""
    return replace(
        keyset,
        ohttp_keys=serialise_key_configs([KeyPair.generate(1).config]),
        receipt_key=bytes(byte ^ 0xFF for byte in keyset.receipt_key),
    )


def _other_digest(digest: str) -> str:
    """One bit away, and still 64 hex digits."""
    return "sha256:" + _other_hex(digest.removeprefix("sha256:"))


def _other_hex(text: str) -> str:
    """One bit away, and still hex: digits come in such pairs, and so do b, c and d, e."""
    for index, character in enumerate(text):
        other = chr(ord(character) ^ 1)
        if other in "0123456789abcdef":
            return text[:index] + other + text[index + 1 :]
    return text[:-1] + "0"


@lru_cache(maxsize=3)
def _stranger(product: Product) -> MockVendor:
    """Another vendor; its keys take a second or two to make."""
    return MockVendor.create(product=product)

"""Lies in what is stated and which keys answer, whatever the machine."""

from __future__ import annotations

import json
from dataclasses import replace

from attest import strict_json
from attest.channel.ohttp import KeyPair, serialise_key_configs
from attest.keyset import Keyset
from attest.mock.lies.catalogue import Catalogue, other_digest, other_hex
from attest.mock.world import MockWorld

lie = Catalogue()


@lie(
    "key-swapped",
    "a relay offers its own keys by honest evidence",
    "keyset-digest-mismatch",
    promise="P2",
)
def _key_swapped(world: MockWorld, nonce: str) -> bytes:
    return replace(world.bundle(nonce), keyset=_relay_keys(world.keyset).canonical()).serialise()


@lie("key-restated", "a relay states its own keys under another report", "report-data-mismatch", promise="P2")
def _key_restated(world: MockWorld, nonce: str) -> bytes:
    relay = replace(world, keyset=_relay_keys(world.keyset)).bundle(nonce)
    return replace(relay, cpu=world.bundle(nonce).cpu).serialise()


@lie("expired-keyset", "keys whose life is over", "keyset-stale")
def _expired_keyset(world: MockWorld, nonce: str) -> bytes:
    keyset = world.keyset
    life = keyset.not_after - keyset.not_before
    earlier = replace(keyset, not_before=keyset.not_before - life, not_after=keyset.not_before)
    return replace(world, keyset=earlier).answer(nonce)


@lie("pending-keyset", "keys whose life has not begun", "keyset-pending")
def _pending_keyset(world: MockWorld, nonce: str) -> bytes:
    keyset = world.keyset
    life = keyset.not_after - keyset.not_before
    later = replace(keyset, not_before=keyset.not_after, not_after=keyset.not_after + life)
    return replace(world, keyset=later).answer(nonce)


@lie("stale-nonce", "yesterday's answer, genuine then", "nonce-mismatch")
def _stale_nonce(world: MockWorld, nonce: str) -> bytes:
    return world.answer(other_hex(nonce))


@lie("no-nonce", "a statement that answers nobody", "nonce-mismatch")
def _no_nonce(world: MockWorld, nonce: str) -> bytes:  # noqa: ARG001 - that is the lie
    return world.answer(None)


@lie("wrong-model", "another model than the accepted one", "model-not-accepted")
def _wrong_model(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, base_model_digest=other_digest(world.statement.base_model_digest)).answer(nonce)


@lie("wrong-tokenizer", "another tokenizer than the accepted one", "tokenizer-not-accepted")
def _wrong_tokenizer(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, tokenizer_digest=other_digest(world.statement.tokenizer_digest)).answer(nonce)


@lie("policy-swapped", "another policy bundle", "policy-not-accepted", promise="P3")
def _policy_swapped(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, policy_digest=other_digest(world.statement.policy_digest)).answer(nonce)


@lie("wrong-image", "another runtime image", "image-not-accepted")
def _wrong_image(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, runtime_image="another/image:latest").answer(nonce)


@lie("wrong-region", "another region", "region-not-accepted", promise="P3")
def _wrong_region(world: MockWorld, nonce: str) -> bytes:
    return _restated(world, region="elsewhere-1").answer(nonce)


@lie("wrong-role", "a tuning runtime where a serving one is wanted", "role-not-accepted", promise="P6")
def _wrong_role(world: MockWorld, nonce: str) -> bytes:
    contract = other_digest(world.statement.policy_digest)
    return _restated(world, role="tune", contract_digest=contract).answer(nonce)


@lie("statement-bit", "one bit of the statement flipped on the way", "report-data-mismatch")
def _statement_bit(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    model = world.statement.base_model_digest
    flipped = honest.statement.replace(model.encode(), other_digest(model).encode(), 1)
    return replace(honest, statement=flipped).serialise()


@lie("unproved-device", "a device that no verifier can judge", "device-architecture", exit_code=20)
def _unproved_device(world: MockWorld, nonce: str) -> bytes:
    document = json.loads(world.answer(nonce))
    unknown = {"kind": "nvidia-gpu", "index": 0, "arch": "AMPERE", "report": "", "certificate_chain": ""}
    document["devices"] = [unknown]
    return strict_json.canonical(document)


@lie("cut-bundle", "the last byte is missing", "bundle-not-json", exit_code=30)
def _cut_bundle(world: MockWorld, nonce: str) -> bytes:
    return world.answer(nonce)[:-1]


@lie("extra-member", "a member that only some parsers would read", "bundle-members", exit_code=30)
def _extra_member(world: MockWorld, nonce: str) -> bytes:
    return strict_json.canonical(json.loads(world.answer(nonce)) | {"debug": True})


def _restated(world: MockWorld, **members: str) -> MockWorld:
    return replace(world, statement=replace(world.statement, **members))  # type: ignore[arg-type]  # text members


def _relay_keys(keyset: Keyset) -> Keyset:
    """Keys of the relay's own, good ones, for the same time."""
    return replace(
        keyset,
        ohttp_keys=serialise_key_configs([KeyPair.generate(1).config]),
        receipt_key=bytes(byte ^ 0xFF for byte in keyset.receipt_key),
    )

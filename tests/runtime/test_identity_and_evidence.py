"""Keys and their life, and the evidence that names them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from attest.appraise import appraise
from attest.channel.ohttp import parse_key_configs
from attest.evidence.bundle import Bundle
from attest.keyset import Keyset, KeysetState
from attest.mock.attester import MockAttester
from attest.mock.machine import MockMachine, MockSnpCpu
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.mock.world import MockWorld
from attest.protocol import paths, problems
from attest.refusal import Malformed, Refused
from attest.statement import Statement
from attest.verify.bundle import verify_bundle
from runtime.attestation import Attestation
from tests.simulators.sealing_client import ask
from tests.simulators.stub_runtime import START, StubRuntime

NONCE = "ab" * 32


async def test_a_verifier_accepts_the_evidence_and_nothing_else_of_it_changed() -> None:
    """Statement, keyset and report of a runtime on the mock TEE pass the production verifier."""
    runtime = await StubRuntime.started()
    vendor = MockVendor(MockKeys.generate(), issued_at=START - timedelta(days=1))
    machine = MockMachine(MockSnpCpu(vendor, MockLaunch()))
    attester = MockAttester(machine)
    attestation = Attestation(attester, runtime.identity, runtime.attestation._served)
    epoch = attestation.epoch()
    world = MockWorld(
        machine=machine,
        statement=attestation.statement(epoch, None),
        keyset=epoch.keyset,
        now=START,
    )
    # The attester dates its revocation list by the clock; the verifier's time is the runtime's.
    bundle = Bundle.parse(attestation.bundle(epoch, NONCE))
    assert bundle.statement == world.bundle(NONCE).statement
    verified = verify_bundle(world.answer(NONCE), nonce=NONCE, roots=world.trust(), now=START)
    verdict = appraise(verified, world.reference(not_after=START + timedelta(days=9)), now=START)
    assert verdict.is_mock
    assert verdict.keyset_digest == epoch.keyset_digest


async def test_the_route_answers_with_a_bundle_for_the_nonce() -> None:
    runtime = await StubRuntime.started()
    answer = await ask(runtime.app, "GET", paths.ATTESTATION_PATH, query=f"nonce={NONCE}")
    assert (answer.status, answer.headers["content-type"]) == (200, paths.MEDIA_BUNDLE)
    bundle = Bundle.parse(answer.body)
    statement = Statement.parse(bundle.statement)
    assert statement.nonce == NONCE
    assert Keyset.parse(bundle.keyset).digest == statement.keyset_digest
    assert statement.previous_statement is None


async def test_a_tee_without_evidence_is_not_a_verdict() -> None:
    runtime = await StubRuntime.started()

    def fail(_: bytes) -> None:
        from attest.attesters.base import AttesterFailure  # noqa: PLC0415 - only this test meets it

        raise AttesterFailure("no firmware")

    runtime.attestation._attester.cpu_evidence = fail  # type: ignore[method-assign, assignment]
    answer = await ask(runtime.app, "GET", paths.ATTESTATION_PATH, query=f"nonce={NONCE}")
    assert (answer.status, answer.json()["type"]) == (503, problems.EVIDENCE_UNAVAILABLE)


async def test_keys_change_in_time_and_the_old_ones_open_until_their_end() -> None:
    runtime = await StubRuntime.started(key_lifetime=timedelta(hours=2), key_overlap=timedelta(minutes=30))
    first, old = runtime.identity.current(), runtime.client()
    runtime.clock.pass_by(minutes=89)
    assert runtime.identity.current() is first
    runtime.clock.pass_by(minutes=1)
    second, new = runtime.identity.current(), runtime.client()
    assert second.keyset_digest != first.keyset_digest
    assert not set(first.key_pairs) & set(second.key_pairs)
    for client in (old, new):
        answer = await client.chat("Hi")
        assert client.receipt(answer).keyset_digest == client.keyset.digest
    runtime.clock.pass_by(minutes=30)
    assert first.keyset.state(runtime.clock()) is KeysetState.STALE
    stale = await old.send(old.seal("POST", paths.CHAT_PATH, b"{}").sealed)
    assert stale.json()["type"] == problems.OHTTP_KEY
    assert (await new.chat("Hi")).status == 200


async def test_a_new_statement_names_the_last_one() -> None:
    runtime = await StubRuntime.started()
    attestation = runtime.attestation
    before = attestation.statement(attestation.epoch(), None)
    runtime.clock.pass_by(days=3)
    after = attestation.statement(attestation.epoch(), NONCE)
    assert after.keyset_digest != before.keyset_digest
    assert after.previous_statement == before.digest


async def test_both_kinds_of_keys_are_offered_the_post_quantum_one_first() -> None:
    runtime = await StubRuntime.started()
    configs = parse_key_configs(runtime.identity.current().keyset.ohttp_keys)
    assert [config.kem_id for config in configs] == [0x647A, 0x0020]


async def test_key_ids_come_round_without_meeting_living_ones() -> None:
    runtime = await StubRuntime.started(key_lifetime=timedelta(hours=2), key_overlap=timedelta(minutes=90))
    for _ in range(300):
        runtime.clock.pass_by(minutes=31)
        living = [epoch.key_pairs.keys() for epoch in runtime.identity._epochs]
        assert len(set().union(*living)) == sum(map(len, living))
        runtime.identity.current()


async def test_a_receipt_key_dies_with_its_epoch() -> None:
    """A receipt by new keys does not pass for one by the old."""
    runtime = await StubRuntime.started()
    client = runtime.client()
    runtime.identity.renew()
    with pytest.raises(Refused) as caught:
        client.receipt(await runtime.client().chat("Hi"))
    assert caught.value.code == "receipt-signature"


async def test_a_statement_answers_well_formed_nonces_only() -> None:
    runtime = await StubRuntime.started()
    with pytest.raises(Malformed) as caught:
        runtime.attestation.bundle(runtime.attestation.epoch(), "AB" * 32)
    assert caught.value.code == "nonce-form"

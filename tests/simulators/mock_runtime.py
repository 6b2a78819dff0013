"""One honest runtime on the mock vendor, at a fixed moment: what the verdict's tests start from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from attest.appraise import AttestedRuntime, appraise
from attest.channel.ohttp import KeyPair, serialise_key_configs
from attest.digest import sha256_digest
from attest.keyset import Keyset
from attest.mock.machine import MockMachine, MockSnpCpu
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.mock.world import MockWorld
from attest.reference import ReferenceValues
from attest.statement import Statement
from attest.verify.bundle import verify_bundle

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = "0123456789abcdef" * 4
FAR = datetime(2027, 1, 1, tzinfo=UTC)
"""When the reference values of these tests end."""


def honest_world(keys: MockKeys, machine: MockMachine | None = None) -> MockWorld:
    """A serving runtime whose keys live for two hours around ``NOW``, by default on a SEV-SNP machine."""
    vendor = MockVendor(keys, issued_at=NOW - timedelta(days=30))
    ohttp_keys = serialise_key_configs([KeyPair.generate(1).config])
    return MockWorld(
        machine=machine or MockMachine(MockSnpCpu(vendor, MockLaunch())),
        statement=Statement(
            nonce=None,
            keyset_digest=sha256_digest(b"filled in per answer"),
            policy_digest=sha256_digest(b"policy"),
            base_model_digest=sha256_digest(b"model"),
            tokenizer_digest=sha256_digest(b"tokenizer"),
            runtime_image="sealgate/runtime:test",
            key_scope="replica-1",
            region="test-1",
        ),
        keyset=Keyset(
            ohttp_keys=ohttp_keys,
            receipt_key=bytes(range(32)),
            not_before=NOW - timedelta(hours=1),
            not_after=NOW + timedelta(hours=1),
        ),
        now=NOW,
    )


def verdict(
    world: MockWorld, bundle: bytes, reference: ReferenceValues | None = None, *, now: datetime = NOW
) -> AttestedRuntime:
    """Verify and appraise ``bundle`` as an answer to ``NONCE`` in ``world``."""
    verified = verify_bundle(bundle, nonce=NONCE, roots=world.trust(), now=now)
    return appraise(verified, reference or world.reference(not_after=FAR), now=now)

"""Composition root of the gateway: settings in, one ASGI application out.

Everything with a life (connections, the log, the key store) is made and closed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from starlette.applications import Starlette

from attest.protocol.tenant_token import RequestSigner
from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from gateway.api.routes import Api
from gateway.audit.log import AuditLog
from gateway.identity import signing_key
from gateway.identity.api_keys import ApiKeyStore
from gateway.journal import Journal
from gateway.metrics import Metrics
from gateway.relay import Relay
from gateway.settings import Settings
from gateway.trust.collateral import rechecking_source, source_of
from gateway.trust.judge import Judge
from gateway.trust.pool import VerifiedRuntimePool, utc_now
from gateway.upstream.carrier import Carrier
from gateway.upstream.outer import Patience
from gateway.upstream.sender import Sender
from policies.engine import PolicySet
from policies.labels import enclave_atom


def create_app(settings: Settings, *, transport: httpx2.AsyncBaseTransport | None = None) -> Starlette:
    """The gateway.

    Args:
        settings: where everything is.
        transport: what carries sealed bytes; by default HTTP to ``settings.runtime_url``.

    Raises:
        Refused: trust file, reference values, signing key or log are not what they must be.
        PolicyRefusal: the policies are not.
        OSError: a file cannot be read.
    """
    reference = ReferenceValues.load(settings.reference_file)
    trust = TrustRoots.load(settings.trust_file)
    policies = PolicySet.load(settings.policy_dir)
    signer = RequestSigner(signing_key.load_or_create(settings.signing_key_file))
    keys = ApiKeyStore(settings.keys_file)
    log = AuditLog.open(settings.audit_file)
    carrier = transport or Carrier()
    url = settings.runtime_url
    patience = Patience(
        connect_s=settings.connect_timeout_s,
        first_event_s=settings.first_token_timeout_s,
        idle_s=settings.idle_timeout_s,
        whole_s=settings.answer_timeout_s,
    )
    metrics = Metrics()
    fresh = rechecking_source(settings, reference)

    pool = VerifiedRuntimePool(
        url,
        judge=Judge(trust, reference, source_of(settings, reference)),
        rechecker=None if fresh is None else Judge(trust, reference, fresh),
        transport=carrier,
        patience=patience,
        on_judged=metrics.judged,
    )
    relay = Relay(
        verdicts=pool,
        policies=policies,
        journal=Journal(log, tenant=signer.thumbprint, policy_digest=policies.digest, clock=utc_now),
        upstream=Sender(
            url,
            transport=carrier,
            signer=signer,
            patience=patience,
            profile=settings.padding,
            clock=utc_now,
        ),
        reader=enclave_atom(reference.digest),
        allow_mock=settings.allow_mock,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        rechecks = asyncio.create_task(pool.recheck_every(settings.recheck_interval_s))
        try:
            yield
        finally:
            rechecks.cancel()
            await asyncio.gather(rechecks, return_exceptions=True)
            await pool.aclose()
            await carrier.aclose()
            log.close()
            keys.close()

    api = Api(relay=relay, keys=keys, pool=pool, metrics=metrics, max_body_bytes=settings.max_body_bytes)
    return api.application(lifespan)

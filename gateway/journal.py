"""What the relay writes down, in the audit log's terms.

A decision is durable before it takes effect; how the effect ended follows as an entry of its own, whether it
ended well, badly or because the application hung up. If the log cannot take an entry, the request ends there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from attest.appraise import AttestedRuntime
from attest.protocol.receipt import Receipt
from attest.refusal import Refused
from gateway.audit import file as audit_file
from gateway.audit.chain import Entry
from gateway.audit.log import DecisionLog
from gateway.audit.record import AuditRecord, DecisionRecord, Outcome, OutcomeRecord
from gateway.errors import (
    AuditUnavailable,
    GatewayError,
    GatewayFault,
    MayHaveRun,
    ReceiptRefused,
    RuntimeMisbehaved,
)
from gateway.identity.api_keys import Caller
from policies.decision import Decision, DecisionRequest

SEND_PROMPT = "send_prompt"


@dataclass(frozen=True)
class SendEntry:
    """The durable entry that lets one sealed request out.

    Args:
        index: of the entry in the log.
        sequence: the tenant's number of this request, from 1 without a gap.
        request_id: names the call.
        actor: id of the API key.
        statement_digest: of the runtime.
    """

    index: int
    sequence: int
    request_id: str
    actor: str
    statement_digest: str


class Journal:
    """Writes for one gateway.

    Args:
        log: the audit log.
        tenant: thumbprint of the gateway's signing key.
        policy_digest: of the policies in force.
        clock: the time, aware.
    """

    def __init__(
        self, log: DecisionLog, *, tenant: str, policy_digest: str, clock: Callable[[], datetime]
    ) -> None:
        self._log = log
        self._tenant = tenant
        self._policy_digest = policy_digest
        self._clock = clock

    async def no_verdict(self, request_id: str, caller: Caller, error: GatewayError) -> None:
        """Nothing could be decided, because no runtime has proved what it is.

        Raises:
            AuditUnavailable: as every method here.
        """
        await self._append(
            DecisionRecord(
                time=self._clock(),
                tenant=self._tenant,
                actor=caller.key_id,
                action=SEND_PROMPT,
                request_id=request_id,
                verdict="deny",
                rules=(),
                policy_digest=self._policy_digest,
                facts={"groups": caller.groups, "attested": False},
                refusal=error.refusal or error.code,
            )
        )

    async def denied(
        self, request_id: str, request: DecisionRequest, decision: Decision, runtime: AttestedRuntime
    ) -> None:
        """The policies said no."""
        await self._append(self._decision(request_id, request, decision, runtime))

    async def sending(
        self, request_id: str, request: DecisionRequest, decision: Decision, runtime: AttestedRuntime
    ) -> SendEntry:
        """The policies said yes; returns when that is on disk, with the number that the request will bear."""
        record = self._decision(request_id, request, decision, runtime)
        entry = await self._append(record)
        if entry.tenant_sequence is None:
            raise GatewayFault("The log gave a permitted request no number.")
        return SendEntry(
            index=entry.index,
            sequence=entry.tenant_sequence,
            request_id=request_id,
            actor=record.actor,
            statement_digest=runtime.statement_digest,
        )

    async def answered(self, entry: SendEntry, receipt: Receipt) -> None:
        """A whole answer came, with a valid receipt."""
        await self._append(
            OutcomeRecord(
                time=self._clock(),
                tenant=self._tenant,
                actor=entry.actor,
                action=SEND_PROMPT,
                request_id=entry.request_id,
                decision_index=entry.index,
                outcome="answered",
                statement_digest=entry.statement_digest,
                receipt_id=receipt.receipt_id,
                request_digest=f"sha256:{receipt.request_sha256}",
                response_digest=f"sha256:{receipt.response_sha256}",
                answer_label_id=receipt.label_id,
                prompt_tokens=receipt.prompt_tokens,
                completion_tokens=receipt.completion_tokens,
            )
        )

    @asynccontextmanager
    async def watching(self, entry: SendEntry) -> AsyncIterator[None]:
        """Write down how the effect ended if it does not end well; the failure itself goes on."""
        try:
            yield
        except AuditUnavailable:
            raise  # there is nowhere to write it
        except BaseException as error:
            # Shielded, because a hang-up arrives as a cancellation and must be written down all the same.
            await asyncio.shield(self._ended(entry, error))
            raise

    async def _ended(self, entry: SendEntry, error: BaseException) -> None:
        outcome, code = _outcome(error)
        await self._append(
            OutcomeRecord(
                time=self._clock(),
                tenant=self._tenant,
                actor=entry.actor,
                action=SEND_PROMPT,
                request_id=entry.request_id,
                decision_index=entry.index,
                outcome=outcome,
                code=code,
                statement_digest=entry.statement_digest,
            )
        )

    def _decision(
        self, request_id: str, request: DecisionRequest, decision: Decision, runtime: AttestedRuntime
    ) -> DecisionRecord:
        return DecisionRecord(
            time=self._clock(),
            tenant=self._tenant,
            actor=request.principal.id,
            action=request.action,
            request_id=request_id,
            verdict=decision.verdict,
            rules=decision.rules,
            policy_digest=decision.policy_digest,
            facts=request.facts,
            statement_digest=runtime.statement_digest,
        )

    async def _append(self, record: AuditRecord) -> Entry:
        try:
            return await self._log.append(record)
        except (audit_file.AuditUnavailable, Refused) as error:
            raise AuditUnavailable("The audit log takes no entry.", refusal=error.code) from error


def _outcome(error: BaseException) -> tuple[Outcome, str]:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled", "client-hung-up"
    if not isinstance(error, GatewayError):
        return "failed", GatewayFault.code
    code = error.refusal or error.code
    if isinstance(error, RuntimeMisbehaved | ReceiptRefused):
        return "refused", code
    if isinstance(error, MayHaveRun):
        return "interrupted", code
    return "not-sent", code

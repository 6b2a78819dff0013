"""THE request path: everything that an application sends goes through ``Relay.relay``.

     1  validate   strict JSON of a known route; the bytes judged are the bytes sent
     2  label      given by the caller, or made here: readable by accepted runtimes only
     3  verdict    a runtime that has proved what it is, and whose proof still holds
     4  decide     may this caller send this label to this runtime?
     5  log        the decision is on disk, with the next number of this gateway's sequence
     6  send       sealed to the key that the verdict binds; once
     7  open       the answer, chunk by chunk; its end is withheld
     8  receipt    signed by the key that the verdict binds, for this request and this answer
     9  log        what became of it
    10  release    the end of the answer

Until step 6 nothing has left. A step that does not hold raises, and nothing after it runs. Steps 3 to 6 run
a second time in one case only: the runtime says, by the problem type of RFC 9458 section 5.3, that it did not
open the request because the key is not its own. Then the first attempt is logged as not processed, and the
second begins with a new verdict, which must bind other keys. Nothing else is ever repeated.

To audit it, read also: ``gateway.api``, which comes before (API key, size), ``gateway.upstream``, which does
6 to 8, and ``gateway.journal``, which does 5 and 9. The application hanging up closes this generator wherever
it stands, which hangs up on the runtime and is logged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from attest.appraise import AttestedRuntime
from gateway.errors import GatewayError, PolicyDenied
from gateway.identity.api_keys import Caller
from gateway.ingress import ingress_label
from gateway.journal import Journal, SendEntry
from gateway.prompt import Prompt, validate
from gateway.trust.pool import VerdictSource
from gateway.upstream.headers import answer_headers
from gateway.upstream.outer import KeyUnknown
from gateway.upstream.sender import Answer, Upstream
from policies.codec import label_id
from policies.decision import RuntimeFacts, send_prompt
from policies.engine import PolicySet
from policies.labels import Label

PURPOSE = "inference"


@dataclass(frozen=True, repr=False)
class Call:
    """One authenticated request of an application."""

    request_id: str
    caller: Caller
    method: str
    path: str
    body: bytes
    label: str | None

    def __repr__(self) -> str:
        return f"Call({self.request_id}, {self.method} {self.path}, {len(self.body)} bytes)"


@dataclass(frozen=True)
class AnswerStart:
    """Status and headers of the answer; comes first, and the bytes of the answer follow."""

    status: int
    headers: dict[str, str]
    is_stream: bool


@dataclass(frozen=True, repr=False)
class AnswerEnd:
    """The end of the answer, or all of one in one piece: comes last, after the receipt was verified."""

    content: bytes

    def __repr__(self) -> str:
        return f"AnswerEnd({len(self.content)} bytes)"


@dataclass(frozen=True)
class _Sent:
    """A sealed request on its way, and what it rests on."""

    runtime: AttestedRuntime
    entry: SendEntry
    answer: Answer


class Relay:
    """The path of a request.

    Args:
        verdicts: where verified runtimes come from.
        policies: what decides.
        journal: what is written down, and where the sequence comes from.
        upstream: what carries sealed requests.
        reader: the ``enclave:`` atom that a runtime is while its verdict holds.
        allow_mock: the setting.
    """

    def __init__(
        self,
        *,
        verdicts: VerdictSource,
        policies: PolicySet,
        journal: Journal,
        upstream: Upstream,
        reader: str,
        allow_mock: bool,
    ) -> None:
        self._verdicts = verdicts
        self._policies = policies
        self._journal = journal
        self._upstream = upstream
        self._reader = reader
        self._allow_mock = allow_mock

    async def relay(self, call: Call) -> AsyncGenerator[AnswerStart | bytes | AnswerEnd]:
        """Answer one call: an ``AnswerStart``, bytes as they may be released, an ``AnswerEnd``.

        Raises:
            GatewayError: before or after the start; after it, the end of the answer does not come.
        """
        # 1. Validate
        prompt = validate(call.method, call.path, call.body)

        # 2. Label
        label = ingress_label(call.label, call.caller, self._reader)

        # 3. to 6. Verdict, decide, log, send
        try:
            sent = await self._send(call, prompt, label)
        except KeyUnknown as unknown:
            sent = await self._send(call, prompt, label, after=unknown)

        async with self._journal.watching(sent.entry), aclosing(sent.answer):
            # 7. Open
            head = sent.answer.head
            headers = answer_headers(head, sent.runtime, label_id(label))
            yield AnswerStart(head.status, headers, head.is_stream)
            async for part in sent.answer.content():
                yield part

            # 8. Receipt
            rest, receipt = sent.answer.end()

            # 9. Log
            await self._journal.answered(sent.entry, receipt)

        # 10. Release
        yield AnswerEnd(rest)

    async def _send(
        self, call: Call, prompt: Prompt, label: Label, *, after: KeyUnknown | None = None
    ) -> _Sent:
        # 3. Verdict
        try:
            runtime = await self._verdicts.acquire()
        except GatewayError as error:
            await self._journal.no_verdict(call.request_id, call.caller, error)
            raise
        if after is not None:
            after.require_other_keys(runtime)

        # 4. Decide
        request = send_prompt(
            key_id=call.caller.key_id,
            groups=call.caller.groups,
            runtime=self._facts(runtime, embeds=prompt.embeds),
            label=label,
            purpose=PURPOSE,
            stream=prompt.stream,
            max_tokens=prompt.max_tokens,
            allow_mock=self._allow_mock,
        )
        decision = self._policies.decide(request)

        # 5. Log
        if not decision.allowed:
            await self._journal.denied(call.request_id, request, decision, runtime)
            raise PolicyDenied(" ".join(decision.reasons))
        entry = await self._journal.sending(call.request_id, request, decision, runtime)

        # 6. Send
        async with self._journal.watching(entry):
            try:
                answer = await self._upstream.send(
                    runtime, prompt.inner, sequence=entry.sequence, label_id=label_id(label)
                )
            except KeyUnknown as unknown:
                unknown.keyset_digest = runtime.keyset_digest
                self._verdicts.forget(runtime)
                raise
        return _Sent(runtime, entry, answer)

    def _facts(self, runtime: AttestedRuntime, *, embeds: bool) -> RuntimeFacts:
        statement = runtime.statement
        model = statement.base_model_digest
        if embeds and statement.embedding_model_digest is not None:  # a runtime without one runs nothing
            model = statement.embedding_model_digest
        return RuntimeFacts(
            runtime_id=runtime.keyset_digest,
            atoms=frozenset({self._reader}),
            attested=True,  # an AttestedRuntime is made by attest.appraise only
            vendor=runtime.vendor,
            is_mock=runtime.is_mock,
            region=statement.region,
            model=model,
            practices=frozenset({"embed"}) if embeds else frozenset(),
        )

"""SealedTransport: any httpx2-based client, sealed by one line and without a gateway process.

    OpenAI(
        base_url="http://sealgate.local/v1",
        api_key="unused",
        http_client=httpx2.Client(transport=SealedTransport(url, trust=trust, reference=reference)),
    )

The runtime is verified before the first request and anew when its verdict ends; requests are sealed to the
key that the verdict binds, and an answer is released only after its receipt was verified. What the answer
rests on is in ``response.extensions["sealgate"]`` and in its headers.

The gateway does more: API keys, policies, the audit log. The label here is the transport's own, one for all
that goes through it.

A failure before the answer is a *response* with the gateway's OpenAI-shaped error and ``x-should-retry``, not
an exception: the stock client repeats a request after any exception, and nothing here is sent twice.
A failure in mid-stream is ``SealedStreamBroken``.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import datetime

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.appraise import AttestedRuntime
from attest.channel.padding import DEFAULT_PROFILE, Profile
from attest.collateral.source import CollateralSource
from attest.protocol.receipt import Receipt
from attest.protocol.tenant_token import RequestSigner
from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from gateway.errors import GatewayError, PolicyDenied, RequestTooLarge
from gateway.prompt import validate
from gateway.trust.judge import Judge
from gateway.trust.pool import BlockingVerifiedRuntimePool, VerifiedRuntimePool, utc_now
from gateway.upstream.carrier import IDLE_S, MAX_CONNECTIONS, Carrier
from gateway.upstream.exchange import AnswerHead, InnerRequest
from gateway.upstream.headers import answer_headers
from gateway.upstream.outer import KeyUnknown, Patience
from gateway.upstream.sender import BlockingSealedAnswer, BlockingSender, SealedAnswer, Sender
from policies.codec import label_id
from policies.flow import Sink, flows_to
from policies.labels import Label, enclave_atom, labelled
from policies.refusal import PolicyRefusal

MAX_REQUEST_BYTES = 8 << 20  # what a runtime opens by default
PURPOSE = "inference"
LIMITS = httpx2.Limits(
    max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_S
)


class SealedStreamBroken(httpx2.RemoteProtocolError):
    """A streamed answer ended without a valid receipt; ``error`` is the gateway error with its code."""

    def __init__(self, error: GatewayError) -> None:
        self.error = error
        super().__init__(error.message)


@dataclass
class Provenance:
    """What an answer rests on; ``receipt`` of a stream is None until the stream has ended."""

    runtime: AttestedRuntime
    label_id: str
    head: AnswerHead
    receipt: Receipt | None = None


class _Terms:
    """What both transports share: who sends, under which label, and the numbers of requests."""

    def __init__(self, reference: ReferenceValues, signer: RequestSigner | None, label: Label | None) -> None:
        # A key of its own by default: numbers start at one, which a runtime accepts once of each tenant.
        self.signer = signer or RequestSigner(Ed25519PrivateKey.generate())
        self.reader = enclave_atom(reference.digest)
        self.label = label or labelled({f"svc:{self.signer.thumbprint}": [self.reader]})
        self.label_id = label_id(self.label)
        self._sequence = itertools.count(1)

    def next_sequence(self) -> int:
        return next(self._sequence)

    def require_flow(self, runtime: AttestedRuntime) -> None:
        """Only to a reader that the label allows (P3)."""
        sink = Sink(atoms=frozenset({self.reader}), purpose=PURPOSE, region=runtime.statement.region)
        try:
            flows_to(self.label, sink)
        except PolicyRefusal as error:
            detail = "The label does not let this data reach the runtime."
            raise PolicyDenied(detail, refusal=error.code) from error


class AsyncSealedTransport(httpx2.AsyncBaseTransport):
    """For ``httpx2.AsyncClient``.

    Args:
        runtime_url: the runtime's outer address.
        trust: vendor roots.
        reference: what is accepted.
        collateral: where what the runtime did not send comes from; by default it must send everything.
        signer: makes the caller a lasting tenant; by default a key that lives as long as the transport.
            Whoever passes one must also see that its sequence numbers are not used twice.
        label: of everything sent; by default readable by runtimes under ``reference`` only.
        patience: bounds of time and size.
        padding: profile of requests.
        transport: what carries the sealed bytes.
        clock: the time, aware.
    """

    def __init__(
        self,
        runtime_url: str,
        *,
        trust: TrustRoots,
        reference: ReferenceValues,
        collateral: CollateralSource | None = None,
        signer: RequestSigner | None = None,
        label: Label | None = None,
        patience: Patience | None = None,
        padding: Profile = DEFAULT_PROFILE,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        url = runtime_url.rstrip("/")
        judge = Judge(trust, reference, collateral)
        patience = patience or Patience()
        self._carrier = transport or Carrier()
        self._terms = _Terms(reference, signer, label)
        self._pool = VerifiedRuntimePool(
            url, judge=judge, transport=self._carrier, patience=patience, clock=clock
        )
        self._sender = Sender(
            url,
            transport=self._carrier,
            signer=self._terms.signer,
            patience=patience,
            profile=padding,
            clock=clock,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Verify, seal, send once, open; see the module."""
        try:
            inner = _inner(request, await request.aread())
            provenance, answer = await self._send(inner)
            stream = _AsyncStream(provenance, answer)
            if answer.head.is_stream:
                return _response(provenance, stream=stream)
            async with aclosing(stream):
                return _response(provenance, content=b"".join([part async for part in stream.verified]))
        except GatewayError as error:
            return _error_response(error)

    async def aclose(self) -> None:
        """End questions under way and close connections."""
        await self._pool.aclose()
        await self._carrier.aclose()

    async def _send(self, inner: InnerRequest) -> tuple[Provenance, SealedAnswer]:
        try:
            return await self._send_once(inner)
        except KeyUnknown as unknown:
            # Not opened, says the one problem type that RFC 9458 section 5.3 has: verify and seal anew, once.
            return await self._send_once(inner, after=unknown)

    async def _send_once(
        self, inner: InnerRequest, *, after: KeyUnknown | None = None
    ) -> tuple[Provenance, SealedAnswer]:
        runtime = await self._pool.acquire()
        if after is not None:
            after.require_other_keys(runtime)
        self._terms.require_flow(runtime)
        try:
            answer = await self._sender.send(
                runtime, inner, sequence=self._terms.next_sequence(), label_id=self._terms.label_id
            )
        except KeyUnknown as unknown:
            unknown.keyset_digest = runtime.keyset_digest
            self._pool.forget(runtime)
            raise
        return Provenance(runtime, self._terms.label_id, answer.head), answer


class SealedTransport(httpx2.BaseTransport):
    """For ``httpx2.Client``; arguments as ``AsyncSealedTransport``."""

    def __init__(
        self,
        runtime_url: str,
        *,
        trust: TrustRoots,
        reference: ReferenceValues,
        collateral: CollateralSource | None = None,
        signer: RequestSigner | None = None,
        label: Label | None = None,
        patience: Patience | None = None,
        padding: Profile = DEFAULT_PROFILE,
        transport: httpx2.BaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        url = runtime_url.rstrip("/")
        judge = Judge(trust, reference, collateral)
        patience = patience or Patience()
        self._carrier = transport or httpx2.HTTPTransport(limits=LIMITS)
        self._terms = _Terms(reference, signer, label)
        self._pool = BlockingVerifiedRuntimePool(
            url, judge=judge, transport=self._carrier, patience=patience, clock=clock
        )
        self._sender = BlockingSender(
            url,
            transport=self._carrier,
            signer=self._terms.signer,
            patience=patience,
            profile=padding,
            clock=clock,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Verify, seal, send once, open; see the module."""
        try:
            inner = _inner(request, request.read())
            provenance, answer = self._send(inner)
            stream = _BlockingStream(provenance, answer)
            if answer.head.is_stream:
                return _response(provenance, stream=stream)
            with closing(stream):
                return _response(provenance, content=b"".join(stream.verified))
        except GatewayError as error:
            return _error_response(error)

    def close(self) -> None:
        """Close connections."""
        self._carrier.close()

    def _send(self, inner: InnerRequest) -> tuple[Provenance, BlockingSealedAnswer]:
        try:
            return self._send_once(inner)
        except KeyUnknown as unknown:  # as in AsyncSealedTransport
            return self._send_once(inner, after=unknown)

    def _send_once(
        self, inner: InnerRequest, *, after: KeyUnknown | None = None
    ) -> tuple[Provenance, BlockingSealedAnswer]:
        runtime = self._pool.acquire()
        if after is not None:
            after.require_other_keys(runtime)
        self._terms.require_flow(runtime)
        try:
            answer = self._sender.send(
                runtime, inner, sequence=self._terms.next_sequence(), label_id=self._terms.label_id
            )
        except KeyUnknown as unknown:
            unknown.keyset_digest = runtime.keyset_digest
            self._pool.forget(runtime)
            raise
        return Provenance(runtime, self._terms.label_id, answer.head), answer


class _AsyncStream(httpx2.AsyncByteStream):
    """The body of one answer. Iterating again goes on where it stopped, as the stock client does."""

    def __init__(self, provenance: Provenance, answer: SealedAnswer) -> None:
        self._provenance = provenance
        self._answer = answer
        self.verified = self._verified()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self.verified:
                yield part
        except GatewayError as error:
            raise SealedStreamBroken(error) from error

    async def aclose(self) -> None:
        """Hang up."""
        await self.verified.aclose()
        await self._answer.aclose()

    async def _verified(self) -> AsyncGenerator[bytes]:
        async for part in self._answer.content():
            yield part
        rest, self._provenance.receipt = self._answer.end()
        yield rest


class _BlockingStream(httpx2.SyncByteStream):
    """``_AsyncStream`` for threads."""

    def __init__(self, provenance: Provenance, answer: BlockingSealedAnswer) -> None:
        self._provenance = provenance
        self._answer = answer
        self.verified = self._verified()

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self.verified:  # noqa: UP028 - "yield from" would close what must go on
                yield part
        except GatewayError as error:
            raise SealedStreamBroken(error) from error

    def close(self) -> None:
        """Hang up."""
        self.verified.close()
        self._answer.close()

    def _verified(self) -> Generator[bytes]:
        yield from self._answer.content()
        rest, self._provenance.receipt = self._answer.end()
        yield rest


def _inner(request: httpx2.Request, body: bytes) -> InnerRequest:
    """The request for the runtime: method, path and body; the caller's other headers stay here."""
    if len(body) > MAX_REQUEST_BYTES:
        raise RequestTooLarge(f"The request is {len(body)} bytes, at most {MAX_REQUEST_BYTES} are sealed.")
    return validate(request.method, request.url.raw_path.decode("ascii"), body).inner


def _response(
    provenance: Provenance,
    *,
    content: bytes | None = None,
    stream: httpx2.AsyncByteStream | httpx2.SyncByteStream | None = None,
) -> httpx2.Response:
    return httpx2.Response(
        provenance.head.status,
        headers=answer_headers(provenance.head, provenance.runtime, provenance.label_id),
        content=content,
        stream=stream,
        extensions={"sealgate": provenance},
    )


def _error_response(error: GatewayError) -> httpx2.Response:
    return httpx2.Response(error.status, headers=error.headers, json=error.body())

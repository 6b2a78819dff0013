"""Where a verdict comes from: evidence fetched with a fresh nonce, judged, kept until it ends.

``VerifiedRuntimePool`` is for the gateway's event loop, ``BlockingVerifiedRuntimePool`` for threads. Both ask
once however many requests wait, renew before the verdict ends, and never hand out one that has ended.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import httpx2

from attest.appraise import AttestedRuntime
from gateway.errors import GatewayError, RuntimeUnreachable
from gateway.trust.judge import Judge
from gateway.trust.verdict import Verdict
from gateway.upstream import outer
from gateway.upstream.outer import Patience


def utc_now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


class VerdictSource(Protocol):
    """What the relay needs of a pool."""

    async def acquire(self) -> AttestedRuntime:
        """A runtime whose verdict holds now, or a ``GatewayError``."""

    def forget(self, runtime: AttestedRuntime) -> None:
        """Verify anew before the next request."""


class VerifiedRuntimePool:
    """The verdict on one runtime, for an event loop.

    Args:
        url: the runtime's outer address, without a trailing slash.
        judge: how evidence is judged.
        transport: carries the question; shared with the requests.
        patience: bounds of time and size.
        clock: the time, aware.
        on_judged: told ``verified``, ``refused`` or ``unreachable`` after each question.
        rechecker: how evidence in force is judged again by ``recheck``.
    """

    def __init__(
        self,
        url: str,
        *,
        judge: Judge,
        transport: httpx2.AsyncBaseTransport,
        patience: Patience,
        clock: Callable[[], datetime] = utc_now,
        on_judged: Callable[[str], None] = lambda _: None,
        rechecker: Judge | None = None,
    ) -> None:
        self._url = url
        self._verdict = Verdict(judge, rechecker)
        self._transport = transport
        self._patience = patience
        self._clock = clock
        self._on_judged = on_judged
        self._question: asyncio.Task[AttestedRuntime] | None = None

    async def acquire(self) -> AttestedRuntime:
        """A runtime whose verdict holds now.

        Raises:
            RuntimeUnreachable: no evidence came.
            RuntimeRefused: it did not convince.
        """
        now = self._clock()
        runtime = self._verdict.current(now)
        if runtime is not None:
            if self._verdict.wants_renewal(now):
                self._ask()
            return runtime
        self._verdict.raise_recent_failure(now)
        # Shielded: whoever hangs up does not take the answer from the others who wait for it.
        return await asyncio.shield(self._ask())

    def current(self) -> AttestedRuntime | None:
        """The verdict in force, or None; asks nobody."""
        return self._verdict.current(self._clock())

    def forget(self, runtime: AttestedRuntime) -> None:
        """Verify anew before the next request, if ``runtime`` is the one in force."""
        self._verdict.forget(runtime)

    async def recheck_every(self, interval_s: float) -> None:
        """Judge the evidence in force again, at this interval, until cancelled.

        A verdict that does not hold any more ends then: the next request asks for evidence anew.
        """
        while True:
            await asyncio.sleep(interval_s)
            try:
                await asyncio.to_thread(self._verdict.recheck, self._clock())
            except GatewayError as error:
                self._on_judged(_outcome(error))
            except Exception:  # noqa: BLE001 - the bound holds only while this goes on; the verdict was dropped
                self._on_judged("refused")

    async def aclose(self) -> None:
        """End a question that is under way."""
        if self._question is not None and not self._question.done():
            self._question.cancel()
            await asyncio.gather(self._question, return_exceptions=True)

    def _ask(self) -> asyncio.Task[AttestedRuntime]:
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._fetch_and_judge())
            self._question.add_done_callback(_retrieve)
        return self._question

    async def _fetch_and_judge(self) -> AttestedRuntime:
        nonce = self._verdict.new_nonce()
        try:
            bundle = await self._fetch(nonce)
            # Off the loop: collateral may have to be asked for. Its thread ends by its own bounds.
            with outer.asking_for_evidence():
                async with asyncio.timeout(self._patience.collateral_s):
                    runtime = await asyncio.to_thread(self._verdict.judge, bundle, nonce, self._clock())
        except GatewayError as error:
            self._verdict.failed(error, self._clock())
            self._on_judged(_outcome(error))
            raise
        self._on_judged("verified")
        return runtime

    async def _fetch(self, nonce: str) -> bytes:
        request = outer.evidence_request(self._url, nonce, self._patience)
        with outer.asking_for_evidence():
            async with asyncio.timeout(self._patience.evidence_s):
                response = await self._transport.handle_async_request(request)
                try:
                    outer.check_evidence_head(response.status_code, response.headers)
                    evidence = bytearray()
                    async for data in response.aiter_raw():
                        evidence += data
                        outer.check_evidence_size(len(evidence))
                finally:
                    await response.aclose()
        return bytes(evidence)


class BlockingVerifiedRuntimePool:
    """The verdict on one runtime, for threads; arguments and behaviour as ``VerifiedRuntimePool``.

    Renewal happens in the request that finds it due; the others go on with the verdict that still holds.
    """

    def __init__(
        self,
        url: str,
        *,
        judge: Judge,
        transport: httpx2.BaseTransport,
        patience: Patience,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._url = url
        self._verdict = Verdict(judge)
        self._transport = transport
        self._patience = patience
        self._clock = clock
        self._asking = threading.Lock()

    def acquire(self) -> AttestedRuntime:
        """A runtime whose verdict holds now; raises as ``VerifiedRuntimePool.acquire``."""
        now = self._clock()
        runtime = self._verdict.current(now)
        if runtime is not None:
            if self._verdict.wants_renewal(now) and self._asking.acquire(blocking=False):
                runtime = self._renew(runtime)
            return runtime
        with self._asking:
            now = self._clock()
            runtime = self._verdict.current(now)  # another thread may have asked meanwhile
            if runtime is not None:
                return runtime
            self._verdict.raise_recent_failure(now)
            return self._fetch_and_judge()

    def forget(self, runtime: AttestedRuntime) -> None:
        """Verify anew before the next request, if ``runtime`` is the one in force."""
        self._verdict.forget(runtime)

    def _renew(self, runtime: AttestedRuntime) -> AttestedRuntime:
        try:
            return self._fetch_and_judge()
        except RuntimeUnreachable:
            return runtime  # still in force: current() said so in this call
        finally:
            self._asking.release()

    def _fetch_and_judge(self) -> AttestedRuntime:
        nonce = self._verdict.new_nonce()
        try:
            bundle = self._fetch(nonce)
            return self._verdict.judge(bundle, nonce, self._clock())
        except GatewayError as error:
            self._verdict.failed(error, self._clock())
            raise

    def _fetch(self, nonce: str) -> bytes:
        request = outer.evidence_request(self._url, nonce, self._patience)
        deadline = time.monotonic() + self._patience.evidence_s
        with outer.asking_for_evidence():
            response = self._transport.handle_request(request)
            try:
                outer.check_evidence_head(response.status_code, response.headers)
                evidence = bytearray()
                for data in response.iter_raw():
                    evidence += data
                    outer.check_evidence_size(len(evidence))
                    if time.monotonic() > deadline:
                        raise TimeoutError
            finally:
                response.close()
        return bytes(evidence)


def _outcome(error: GatewayError) -> str:
    return "unreachable" if isinstance(error, RuntimeUnreachable) else "refused"


def _retrieve(question: asyncio.Task[AttestedRuntime]) -> None:
    """Take a renewal's failure, which nobody waits for, so that the loop does not report it as lost."""
    if not question.cancelled():
        question.exception()

"""The verdict in force: when it may be used, when to renew it, and how a refusal is remembered.

No clock: every method takes the time. The two pools drive it. Only ``judge`` and ``recheck`` may block, where
collateral has to be asked for; they run in threads of their own, so every method looks once at what is in
force, and a verdict and its evidence change together.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from attest.appraise import AttestedRuntime
from attest.refusal import Refused
from gateway.errors import GatewayError, GatewayFault, RuntimeRefused, refused
from gateway.trust.judge import Judge

RENEW_AFTER = 0.75  # of a verdict's life, so that no request waits for evidence while one still holds
_NO_ANSWER = frozenset({"collateral-unreachable", "collateral-timeout", "collateral-busy"})
PAUSE_AFTER_FAILURE = timedelta(seconds=2)  # a lying or dead runtime is not hammered with questions


class Verdict:
    """What is known of one runtime now.

    Args:
        judge: how evidence is judged.
        rechecker: how evidence in force is judged again, with collateral that is asked for anew; None never
            does.
    """

    def __init__(self, judge: Judge, rechecker: Judge | None = None) -> None:
        self._judge = judge
        self._rechecker = rechecker
        self._held: tuple[AttestedRuntime, bytes, str] | None = None  # with the bundle and nonce behind it
        self._renew_at: datetime | None = None
        self._failure: GatewayError | None = None
        self._retry_at: datetime | None = None
        self._revoked = 0  # how often a re-check said no: what was judged meanwhile rests on older collateral

    @staticmethod
    def new_nonce() -> str:
        """A nonce that no runtime has seen: 64 hex digits."""
        return secrets.token_hex(32)

    def judge(self, bundle: bytes, nonce: str, now: datetime) -> AttestedRuntime:
        """Verify and appraise evidence; on success it is the verdict in force.

        Raises:
            RuntimeRefused: with the code of the first check that failed, whose rows are on its cause.
            GatewayFault: our own fault.
        """
        try:
            revoked = None
            while revoked != self._revoked:
                revoked = self._revoked
                runtime = self._judge.judge(bundle, nonce, now)
        except Refused as error:
            raise refused(error) from error
        except Exception as error:
            raise GatewayFault(f"Judging evidence failed ({type(error).__name__}).") from error
        self._held = (runtime, bundle, nonce)
        self._renew_at = now + (runtime.valid_until - now) * RENEW_AFTER
        self._failure = None
        self._retry_at = None
        return runtime

    def recheck(self, now: datetime) -> None:
        """Judge the evidence in force again: a TCB, a revocation list or golden values may have changed.

        What was proved with the nonce does not become fresher by it, so a verdict that still holds ends when
        it would have ended. Services that do not answer leave it in force until then.

        Raises:
            RuntimeRefused: it does not hold any more, and was dropped.
            Exception: our own fault; dropped too.
        """
        held = self._held
        if held is None or self._rechecker is None or self.current(now) is not held[0]:
            return
        runtime, bundle, nonce = held
        try:
            self._rechecker.judge(bundle, nonce, now)
        except Refused as error:
            if error.code in _NO_ANSWER:
                return
            self._revoked += 1
            self.forget(runtime)
            self.recheck(now)  # a renewal may have come in between, on the collateral that was right before
            raise refused(error) from error
        except Exception:
            self.forget(runtime)  # what could not be judged is not believed
            raise

    def current(self, now: datetime) -> AttestedRuntime | None:
        """The verdict in force, or None; one that ended is dropped and never used one last time."""
        held = self._held
        if held is None:
            return None
        runtime = held[0]
        try:
            runtime.require_live(now)
        except Refused:
            self.forget(runtime)
            return None
        return runtime

    def wants_renewal(self, now: datetime) -> bool:
        """Whether to ask for evidence although a verdict holds."""
        due = self._renew_at is not None and now >= self._renew_at
        return due and (self._retry_at is None or now >= self._retry_at)

    def failed(self, error: GatewayError, now: datetime) -> None:
        """Remember that evidence did not come or did not convince.

        Unreachable leaves a verdict in force until it ends. Refused ends it: a runtime that cannot prove
        itself now is not believed for what it proved before.
        """
        if isinstance(error, RuntimeRefused):
            self._held = None
        self._failure = error
        self._retry_at = now + PAUSE_AFTER_FAILURE

    def raise_recent_failure(self, now: datetime) -> None:
        """Answer at once while the last failure is fresh.

        Raises:
            GatewayError: that failure.
        """
        if self._failure is not None and self._retry_at is not None and now < self._retry_at:
            raise self._failure.with_traceback(None)

    def forget(self, runtime: AttestedRuntime) -> None:
        """Drop ``runtime`` if it is the one in force, because its key is gone."""
        held = self._held
        if held is not None and held[0] is runtime:
            self._held = None

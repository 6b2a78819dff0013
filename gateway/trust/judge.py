"""One verdict: evidence completed with collateral, verified, appraised; for requests and people alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from attest.appraise import AttestedRuntime, appraise
from attest.checks import CheckList
from attest.collateral import items
from attest.collateral.complete import complete
from attest.collateral.items import Item
from attest.collateral.source import CollateralSource
from attest.collateral.tokens import JwkSetCollateral
from attest.evidence.bundle import Bundle
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.trust import TrustRoots
from attest.verify.bundle import verify_bundle
from attest.verify.quorum import TokenKeys

_CLAUSE = "docs/how-to/collateral.md"
KEYS_LIFETIME = timedelta(hours=24)
"""How long a token service's key set is used after it was looked up: services renew theirs daily."""


@dataclass(frozen=True)
class Judge:
    """What verdicts rest on besides the evidence.

    Args:
        trust: vendor roots.
        reference: what is accepted.
        source: of collateral that the runtime did not send; None takes the evidence as it came.
    """

    trust: TrustRoots
    reference: ReferenceValues
    source: CollateralSource | None = None

    def judge(self, bundle: bytes, nonce: str | None, now: datetime) -> AttestedRuntime:
        """Complete, verify and appraise. Blocks where the source has to ask.

        Args:
            bundle: as the runtime sent it, or as it was saved.
            nonce: our own, or None for a saved bundle, which can carry no data.
            now: the time, aware.

        Raises:
            Refused: the first check that failed, with the rows up to it.
        """
        with _explained(CheckList()):
            whole = self.completed(bundle, now)
        verified = verify_bundle(whole, nonce=nonce, roots=self.trust, now=now)
        with _explained(CheckList(verified.checks)):
            keys = self._keys(now)
        return appraise(verified, self.reference, now=now, keys=keys)

    def completed(self, bundle: bytes, now: datetime) -> bytes:
        """The bundle with the collateral that judging it takes; as it is, if it is none.

        Raises:
            Refused: ``collateral-*``.
        """
        return bundle if self.source is None else completed(bundle, self.source, now)

    def _keys(self, now: datetime) -> TokenKeys:
        quorum, source = self.reference.quorum, self.source
        if quorum is None or source is None:
            return TokenKeys()

        def look_up(item: Item) -> JwkSetCollateral:
            keys = source.get(item, now)
            return JwkSetCollateral(keys, (source.fetched_at(item) or now) + KEYS_LIFETIME)

        return TokenKeys(
            nras=look_up(items.nras_keys()) if "nras" in quorum.services else None,
            maa=look_up(items.maa_keys(quorum.maa_issuer or "")) if "maa" in quorum.services else None,
        )


@contextmanager
def _explained(checks: CheckList) -> Iterator[None]:
    """A refusal about collateral has a row too, after those that were decided before."""
    with checks.explaining(), checks.under("collateral"), checks.step("collateral at hand", _CLAUSE):
        yield


def completed(bundle: bytes, source: CollateralSource, now: datetime) -> bytes:
    """A bundle with the collateral that judging it takes; as it is, if it is none.

    Raises:
        Refused: ``collateral-*``.
    """
    try:
        return complete(Bundle.parse(bundle), source, now).serialise()
    except Refused as refusal:
        if refusal.code.startswith("collateral-"):
            raise
        return bundle  # evidence that cannot be read: the verifier says so, step by step

"""The Python verifier and the browser verifier on the same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from attest.checks import CheckList
from attest.collateral.snp import SnpRoots
from attest.evidence.cpu import SnpCollateral
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.verify.bundle import verify_bundle
from attest.verify.snp import verify_snp
from tests.simulators.mock_runtime import NONCE, NOW
from tests.simulators.verifier_page import VerifierPage, expectation

OUTCOMES = {10: "refused", 20: "unsupported", 30: "malformed"}
HOLDS = ("holds", None)
NOT_JUDGED = ("unsupported", "devices-not-judged-here")
Verdict = tuple[str, str | None]
Case = tuple[bytes, SnpCollateral]


def product_verdict(verify: Callable[[], object]) -> Verdict:
    """What Python says."""
    try:
        verify()
    except Refused as refusal:
        return OUTCOMES[refusal.exit_code], refusal.code
    return HOLDS


def page_verdict(result: dict[str, Any]) -> Verdict:
    """What the page says."""
    return result["outcome"], result["code"]


class BothVerifiers:
    """One page, one world, two verifiers."""

    def __init__(self, page: VerifierPage, world: MockWorld) -> None:
        self.page = page
        self.world = world
        mock = world.trust().mock
        assert mock is not None
        self._expected = expectation(NOW, nonce=NONCE, mock_root=mock.ark_sha256)

    def judge(self, bundles: Sequence[bytes]) -> list[tuple[Verdict, Verdict]]:
        """(product's, page's) of each."""
        pages = map(page_verdict, self.page.verify_bundles(bundles, **self._expected))
        return list(zip(map(self.product, bundles), pages, strict=True))

    def product(self, bundle: bytes) -> Verdict:
        """What Python says of one."""
        roots = self.world.trust()
        return product_verdict(lambda: verify_bundle(bundle, nonce=NONCE, roots=roots, now=NOW))


def flips(data: bytes, count: int) -> Iterator[bytes]:
    """``data`` with one bit inverted, at ``count`` places: the same ones at every run."""
    chosen = random.Random(count).sample(range(len(data) * 8), min(count, len(data) * 8))  # noqa: S311  a sample, not a secret
    for bit in chosen:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def judge_reports(
    page: VerifierPage, cases: dict[str, Case], roots: SnpRoots, now: datetime
) -> dict[str, tuple[Verdict, Verdict]]:
    """(product's, page's) of each case."""
    members = {"amd": roots.amd, "mockArkSha256": roots.mock_ark_sha256}
    pages = map(page_verdict, page.verify_reports(list(cases.values()), members, now=now))

    def product(report: bytes, collateral: SnpCollateral) -> Verdict:
        return product_verdict(lambda: verify_snp(report, collateral, roots, now=now, checks=CheckList()))

    products = [product(*case) for case in cases.values()]
    return dict(zip(cases, zip(products, pages, strict=True), strict=True))

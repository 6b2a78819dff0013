"""Genuine AMD evidence in the browser verifier: verdict and rows are the product's."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from attest.checks import CheckList
from attest.collateral.snp import SnpRoots
from attest.evidence.bundle import Bundle
from attest.evidence.cpu import SnpCollateral, SnpEvidence
from attest.mock.world import MockWorld
from attest.verify.snp import verify_snp
from tests.simulators.genuine_snp import GENUINE, POSITIVE, SUMMER_2026, GenuineCase
from tests.simulators.mock_runtime import NONCE
from tests.simulators.two_verifiers import (
    HOLDS,
    flips,
    judge_reports,
    page_verdict,
    product_verdict,
)
from tests.simulators.verifier_page import VerifierPage, expectation


@pytest.mark.shared
@pytest.mark.parametrize("case", GENUINE, ids=str)
def test_genuine_evidence(case: GenuineCase, page: VerifierPage, sev_snp: Path) -> None:
    """AMD's own chains and reports, at each vector's time: outcome, code and every row of the product."""
    report, leaf = case.read(sev_snp)
    checks, roots = CheckList(), SnpRoots(amd=True)
    expected = product_verdict(
        lambda: verify_snp(report, SnpCollateral(leaf), roots, now=case.now, checks=checks)
    )
    members = {"amd": True, "mockArkSha256": None}
    (result,) = page.verify_reports([(report, SnpCollateral(leaf))], members, now=case.now)
    assert page_verdict(result) == expected == (("refused", case.refusal) if case.refusal else HOLDS)
    product = [row.as_dict() for row in checks if row.name != "SNP revocation"]
    assert [row for row in result["rows"] if row["name"] != "SNP revocation"] == product
    assert result["isMock"] is False


@pytest.mark.shared
@pytest.mark.parametrize("case", POSITIVE, ids=str)
def test_genuine_report_flipped(case: GenuineCase, page: VerifierPage, sev_snp: Path) -> None:
    """A bit of a genuine report or leaf."""
    report, leaf = case.read(sev_snp)
    reports = {f"report {index}": (each, SnpCollateral(leaf)) for index, each in enumerate(flips(report, 60))}
    verdicts = judge_reports(page, reports, SnpRoots(amd=True), case.now)
    assert {name: pair for name, pair in verdicts.items() if pair[0] != pair[1] or pair[1] == HOLDS} == {}
    leaves = {f"leaf {index}": (report, SnpCollateral(each)) for index, each in enumerate(flips(leaf, 40))}
    assert HOLDS not in {
        each for pair in judge_reports(page, leaves, SnpRoots(amd=True), case.now).values() for each in pair
    }


@pytest.mark.shared
def test_genuine_report_cannot_vouch_for_our_statement(
    page: VerifierPage, sev_snp: Path, snp_world: MockWorld
) -> None:
    """A genuine machine of somebody else's: the chain holds to the end, and the binding refuses."""
    case = next(each for each in POSITIVE if each.product == "Turin" and each.now == SUMMER_2026)
    report, leaf = case.read(sev_snp)
    honest = snp_world.bundle(NONCE)
    bundle = Bundle(honest.statement, honest.keyset, SnpEvidence(report, SnpCollateral(leaf))).serialise()
    (result,) = page.verify_bundles([bundle], **expectation(case.now, nonce=NONCE, amd=True))
    assert page_verdict(result) == ("refused", "report-data-mismatch")
    assert [row["outcome"] for row in result["rows"] if row["name"] == "SNP report signature"] == ["passed"]
    (base,) = [row for row in result["rows"] if row["outcome"] == "refused"]
    assert (base["part"], base["name"]) == (["CPU"], "report binds the statement")
    assert base64.b64encode(report).decode() in bundle.decode()


def test_pins_are_checked_before_use(page: VerifierPage) -> None:
    """All nine pinned certificates are what their digests say."""
    names = page.driver.execute_script("return [...sealgate.pinnedNames]")
    assert len(names) == 9
    sizes = page.driver.execute_async_script(
        "const [names, done] = arguments;"
        "Promise.all(names.map((name) => sealgate.pinned(name)))"
        ".then((all) => done(all.map((each) => each.length)))",
        names,
    )
    assert min(sizes) > 1500

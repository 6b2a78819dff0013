"""How long a verdict takes, in milliseconds, as JSON on standard output.

    python -m tests.bench.bench_verdict [--repeat N]

Each figure is the median of N single calls. ``primitives`` is the floor in the same run: one ECDSA P-384
and one RSA-4096 PSS verification, which no verifier of a SEV-SNP report can do without; ``ratio`` is
``verify_snp`` over that floor. Goals: ``verify_snp`` 2 ms, the whole verdict 3 ms, a re-check 50 us.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.appraise import AttestedRuntime, appraise
from attest.checks import CheckList
from attest.collateral.snp import SnpCollateral, SnpRoots
from attest.evidence.snp import SnpReport
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.verify.bundle import verify_bundle
from attest.verify.snp import verify_snp
from attest.verify.snp_chain import verified_chain
from tests.simulators.genuine_snp import POSITIVE
from tests.simulators.mock_runtime import FAR, NONCE, honest_world
from tests.simulators.mock_runtime import NOW as BUNDLE_TIME

NOW = datetime(2026, 6, 1, tzinfo=UTC)
VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "sev-snp"
GOALS_MS = {
    "verify_snp_mock_with_crl": 2.0,
    "verify_snp_genuine_worst": 2.0,
    "verify_bundle_and_appraise": 3.0,
    "require_live": 0.05,
}


def median_ms(call: Callable[[], object], repeat: int) -> float:
    """Median of single calls, milliseconds."""
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return round(statistics.median(times) / 1e6, 4)


def primitives(report: SnpReport, leaf: x509.Certificate, ask: x509.Certificate) -> Callable[[], None]:
    """The two signature checks alone."""
    leaf_key, ask_key = leaf.public_key(), ask.public_key()
    if not isinstance(leaf_key, ec.EllipticCurvePublicKey) or not isinstance(ask_key, rsa.RSAPublicKey):
        raise TypeError("not an AMD chain")
    signature = encode_dss_signature(report.signature_r, report.signature_s)
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)

    def check() -> None:
        leaf_key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
        ask_key.verify(leaf.signature, leaf.tbs_certificate_bytes, pss, hashes.SHA384())

    return check


def mock_figures(repeat: int) -> dict[str, float]:
    """Verification of mock evidence, which carries its whole chain and a revocation list."""
    vendor = MockVendor.create(now=NOW)
    collateral, roots = vendor.collateral(now=NOW), SnpRoots(amd=False, mock_ark_sha256=vendor.ark_sha256)
    report = vendor.report(bytes(64), MockLaunch())
    without = replace(collateral, crl=None)

    def cold() -> None:
        verified_chain.cache_clear()
        verify_snp(report, collateral, roots, now=NOW, checks=CheckList())

    floor = primitives(
        SnpReport.parse(report),
        x509.load_der_x509_certificate(collateral.leaf),
        x509.load_der_x509_certificate(collateral.intermediate or b""),
    )
    return {
        "primitives": median_ms(floor, repeat),
        "parse_report": median_ms(lambda: SnpReport.parse(report), repeat),
        "verify_snp_mock": median_ms(
            lambda: verify_snp(report, without, roots, now=NOW, checks=CheckList()), repeat
        ),
        "verify_snp_mock_with_crl": median_ms(
            lambda: verify_snp(report, collateral, roots, now=NOW, checks=CheckList()), repeat
        ),
        "verify_snp_mock_first": median_ms(cold, max(repeat // 10, 10)),
        "make_mock_report": median_ms(lambda: vendor.report(bytes(64), MockLaunch()), max(repeat // 10, 10)),
    }


def verdict_figures(repeat: int) -> dict[str, float]:
    """The whole way from a bundle's bytes to a verdict, and the re-check before each request."""
    world = honest_world(MockKeys.generate())
    bundle, trust, reference = world.answer(NONCE), world.trust(), world.reference(not_after=FAR)

    def whole() -> AttestedRuntime:
        verified = verify_bundle(bundle, nonce=NONCE, roots=trust, now=BUNDLE_TIME)
        return appraise(verified, reference, now=BUNDLE_TIME)

    runtime = whole()
    return {
        "verify_bundle_and_appraise": median_ms(whole, repeat),
        "require_live": median_ms(lambda: runtime.require_live(BUNDLE_TIME), repeat),
    }


def genuine_figures(repeat: int) -> dict[str, float]:
    """Verification of each genuine report, if the shared evidence is there."""
    figures = {}
    roots = SnpRoots(amd=True)
    for case in POSITIVE if VECTORS.is_dir() else ():
        report, leaf = case.read(VECTORS)
        collateral = SnpCollateral(leaf)
        figures[case.leaf] = median_ms(
            lambda report=report, collateral=collateral, now=case.now: verify_snp(  # type: ignore[misc]  # defaults bind the loop's values
                report, collateral, roots, now=now, checks=CheckList()
            ),
            repeat,
        )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=300)
    repeat = parser.parse_args().repeat
    warnings.simplefilter("ignore")
    figures = mock_figures(repeat) | verdict_figures(repeat)
    genuine = genuine_figures(repeat)
    figures["verify_snp_genuine_worst"] = max(genuine.values(), default=0.0)
    result = {
        "unit": "ms",
        "repeat": repeat,
        "figures": figures,
        "genuine": genuine,
        "ratio_to_primitives": round(figures["verify_snp_mock"] / figures["primitives"], 2),
        "goals": GOALS_MS,
        "met": {name: figures[name] <= goal for name, goal in GOALS_MS.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""How long it takes to judge a TDX quote, in milliseconds, as JSON on standard output.

    python -m tests.bench.bench_tdx [--repeat N]

Each figure is the median of N single calls, in processor time of the calling thread (the wall's on an idle
machine), ours and bare dcap-qvl side by side on the same evidence in turn. ``verify_tdx`` does all that
dcap-qvl does, by itself, and then asks it: it can never be faster. ``cold`` is the same with every cache
emptied first: a process's first quote of a platform. Goal: 3 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import dcap_qvl

from attest.checks import CheckList
from attest.collateral import tdx_documents
from attest.collateral.tdx import TdxRoots, intel_root
from attest.evidence import pck
from attest.evidence.event_log import replay_event_log
from attest.evidence.tdx import TdxQuote
from attest.evidence.tdx_evidence import TdxCollateral
from attest.mock.tdx import MockTdxVendor
from attest.verify import tdx_chain
from attest.verify.tdx import verify_tdx
from tests.simulators.genuine_tdx import COS, POSITIVE
from tests.simulators.tdx_world import NOW

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "tdx"
GOAL_MS = 3.0
_CACHES = (
    tdx_chain.verified_chain,
    tdx_documents.parse_tcb_info,
    tdx_documents.parse_qe_identity,
    pck._platform,
)


def medians_ms(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median of single calls, milliseconds; the calls take turns, so that a busy machine hits all alike."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.thread_time_ns()
            call()
            times[name].append(time.thread_time_ns() - start)
    return {name: round(statistics.median(each) / 1e6, 4) for name, each in times.items()}


def side_by_side(
    quote: bytes,
    collateral: TdxCollateral,
    *,
    roots: TdxRoots,
    root: bytes,
    now: datetime,
    repeat: int,
) -> dict[str, Any]:
    """Ours warm and cold, and bare dcap-qvl with its collateral already in its own form."""
    native = dcap_qvl.QuoteCollateralV3.from_json(collateral.as_json().decode())
    trimmed, seconds = TdxQuote.parse(quote).trimmed, int(now.timestamp())

    def ours() -> object:
        return verify_tdx(quote, collateral, roots, now=now, checks=CheckList())

    def cold() -> object:
        for cache in _CACHES:
            cache.cache_clear()
        return ours()

    def warm() -> object:
        return ours()

    figures: dict[str, Any] = medians_ms(
        {
            "verify_tdx_cold_ms": cold,
            "verify_tdx_ms": warm,
            "dcap_qvl_ms": lambda: dcap_qvl.verify_with_root_ca(trimmed, native, root, seconds),
            "parse_quote_ms": lambda: TdxQuote.parse(quote),
        },
        repeat,
    )
    figures["ratio_to_dcap_qvl"] = round(figures["verify_tdx_ms"] / figures["dcap_qvl_ms"], 2)
    figures["within_goal"] = figures["verify_tdx_ms"] <= GOAL_MS
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=200)
    repeat = parser.parse_args().repeat
    vendor = MockTdxVendor.create(now=NOW)
    mock_root = TdxQuote.parse(vendor.quote(bytes(64))).signature.pck_chain[-1]
    mock_roots = TdxRoots(intel=False, mock_root_sha256=vendor.root_sha256)
    figures: dict[str, Any] = {
        "mock": side_by_side(
            vendor.quote(bytes(64)),
            vendor.collateral(now=NOW),
            roots=mock_roots,
            root=mock_root,
            now=NOW,
            repeat=repeat,
        )
    }
    if VECTORS.is_dir():
        for case in (case for case in POSITIVE if not case.paravisor):
            figures[case.folder] = side_by_side(
                case.quote(VECTORS),
                case.collateral(VECTORS),
                roots=TdxRoots(intel=True),
                root=intel_root(),
                now=case.now(VECTORS),
                repeat=repeat,
            )
        log = (VECTORS / COS / "ccel_data.bin").read_bytes()
        figures["replay_event_log_ms"] = medians_ms({"replay": lambda: replay_event_log(log)}, repeat)[
            "replay"
        ]
    print(json.dumps({"goal_ms": GOAL_MS, "repeat": repeat, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()

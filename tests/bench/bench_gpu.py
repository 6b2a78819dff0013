"""How long GPUs take to verify, in milliseconds of processor time, as JSON on standard output.

    python -m tests.bench.bench_gpu [--repeat N] [--peer PYTHON]

Each figure is the median of N single calls. ``first`` figures begin with nothing kept from earlier ones:
every certificate, manifest and signature is verified. ``primitives`` is the floor in the same run: the ECDSA
P-384 verifications alone that a first GPU with two manifests takes (4 for the device's chain, 1 for the
report, 3 for the manifests' chain, 2 for the manifests). Goals: one GPU with both manifests 12 ms, a board of
eight 50 ms. ``--peer`` names the interpreter of an environment with NVIDIA's own local verifier
(``tests/oracles/nvidia_local_verifier.py``), which is then asked about the same genuine set in the same run,
and the ratio says how many times longer it takes; both without revocation.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.spdm import SpdmReport
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu
from attest.verify import nvidia_chain, ocsp
from attest.verify.gpu_set import verify_gpu_set
from attest.verify.nvidia import verify_gpu
from attest.verify.rim import verify_rim
from tests.simulators.genuine_nvidia import REPORTS, SUMMER_2025, complete
from tests.simulators.gpu_world import GpuWorld, board

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(32)
VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "nvidia"
SIGNATURES = 10
GOALS_MS = {"gpu_with_both_rims_first": 12.0, "eight_gpus_first": 50.0}


def median_ms(call: Callable[[], object], repeat: int) -> float:
    """Median of single calls, milliseconds of processor time: others on this machine do not count."""
    call()
    times = []
    for _ in range(repeat):
        start = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - start)
    return round(statistics.median(times) / 1e6, 4)


def forget() -> None:
    """Let the next verification begin with nothing."""
    verify_rim.cache_clear()
    nvidia_chain._verify_step.cache_clear()
    nvidia_chain._loaded.cache_clear()
    ocsp._proved_responder.cache_clear()


def figures(repeat: int) -> dict[str, float]:
    """One device, eight devices, a whole board; kept and from nothing."""
    world = GpuWorld(MockGpuVendor.create(now=NOW))
    evidence, collateral = world.evidence(nonce=NONCE), world.vendor.collateral(now=NOW)
    without = replace(collateral, ocsp=())
    gpus = [MockGpu(index=index) for index in range(8)]
    eight = [(world.vendor.evidence(NONCE, gpu=gpu), without) for gpu in gpus]
    whole = [
        (world.vendor.evidence(NONCE, gpu=gpu), world.vendor.collateral(gpu, now=NOW)) for gpu in board()
    ]
    key = ec.generate_private_key(ec.SECP384R1())
    signature = key.sign(evidence.report, ec.ECDSA(hashes.SHA384()))

    def one(answers: bool, fresh: bool) -> None:
        if fresh:
            forget()
        used = collateral if answers else without
        verify_gpu(evidence, used, world.roots, nonce=NONCE, now=NOW, checks=CheckList())

    def several(devices: list, fresh: bool) -> None:  # type: ignore[type-arg]  # pairs as above
        if fresh:
            forget()
        verify_gpu_set(devices, world.roots, nonce=NONCE, now=NOW, checks=CheckList())

    def primitives() -> None:
        for _ in range(SIGNATURES):
            key.public_key().verify(signature, evidence.report, ec.ECDSA(hashes.SHA384()))

    few = max(repeat // 5, 10)
    return {
        "primitives": median_ms(primitives, repeat),
        "parse_report": median_ms(lambda: SpdmReport.parse(evidence.report), repeat),
        "gpu_with_both_rims_first": median_ms(lambda: one(False, True), repeat),
        "gpu_with_both_rims_again": median_ms(lambda: one(False, False), repeat),
        "gpu_with_six_answers_again": median_ms(lambda: one(True, False), repeat),
        "eight_gpus_first": median_ms(lambda: several(eight, True), few),
        "eight_gpus_again": median_ms(lambda: several(eight, False), few),
        "board_of_twelve_with_answers_first": median_ms(lambda: several(whole, True), few),
    }


def genuine(repeat: int) -> float | None:
    """The one complete genuine set from nothing, if the shared evidence is there."""
    if not VECTORS.is_dir():
        return None
    evidence, collateral = complete(VECTORS)
    collateral = replace(collateral, ocsp=())
    roots = NvidiaRoots(nvidia=True)

    def call() -> None:
        forget()
        verify_gpu(evidence, collateral, roots, nonce=None, now=SUMMER_2025, checks=CheckList())

    return median_ms(call, repeat)


def peer(python: str, repeat: int) -> float:
    """NVIDIA's local verifier on the genuine set, median."""
    evidence, collateral = complete(VECTORS)
    case = REPORTS[0]
    question = {
        "what": "gpu",
        "now": SUMMER_2025.isoformat(),
        "arch": evidence.arch,
        "driver": case.driver,
        "vbios": case.vbios,
        "nonce": evidence.report[4:36].hex(),
        "report": _base64(evidence.report),
        "chain": _base64(evidence.certificate_chain),
        "driver_rim": _base64(collateral.driver_rim or b""),
        "vbios_rim": _base64(collateral.vbios_rim),
        "repeat": repeat,
    }
    oracle = Path(__file__).resolve().parents[1] / "oracles" / "nvidia_local_verifier.py"
    done = subprocess.run(
        [python, str(oracle)], input=json.dumps([question]), capture_output=True, text=True, check=True
    )
    (times,) = json.loads(done.stdout[done.stdout.rindex("[[") :])
    return round(statistics.median(times), 4)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=100)
    parser.add_argument("--peer", metavar="PYTHON")
    options = parser.parse_args()
    repeat = options.repeat
    warnings.simplefilter("ignore")
    measured = figures(repeat)
    result = {
        "unit": "ms of processor time",
        "repeat": repeat,
        "figures": measured,
        "genuine_first": genuine(repeat),
        "ratio_to_primitives": round(measured["gpu_with_both_rims_first"] / measured["primitives"], 2),
        "goals": GOALS_MS,
        "met": {name: measured[name] <= goal for name, goal in GOALS_MS.items()},
    }
    if options.peer and result["genuine_first"] is not None:
        theirs = peer(options.peer, max(repeat // 5, 10))
        result["nvidia_local_verifier"] = theirs
        result["times_faster"] = round(theirs / result["genuine_first"], 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

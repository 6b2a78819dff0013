"""How long the composite verdict takes, cold and warm, and how much memory, as JSON on standard output.

    python -m tests.bench.bench_composite [--repeat N]

From a bundle's bytes to an ``AttestedRuntime``, in milliseconds of processor time, medians. ``first`` begins
with nothing kept from earlier verdicts: every certificate, manifest and signature is verified. ``again`` is
what a gateway pays that has seen the platform before. ``warm`` is the re-check before each request, in
microseconds. ``peak_mib`` is the resident peak of a fresh process that verifies one bundle with a board of
eight GPUs, imports and all. Goals: SNP with one GPU 15 ms first, 50 us warm; 120 MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attest.appraise import AttestedRuntime, appraise
from attest.mock.machine import MockBoard, MockMachine, MockTdxCpu
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_quote import MockTdLaunch
from attest.mock.vendor import MockKeys
from attest.mock.world import MockWorld
from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from attest.verify import tdx_chain
from attest.verify.bundle import verify_bundle
from attest.verify.snp_chain import verified_chain
from tests.bench.bench_gpu import forget as forget_gpus
from tests.bench.bench_gpu import median_ms
from tests.simulators.mock_runtime import FAR, NONCE, NOW, honest_world

GOALS = {"snp_one_gpu_first_ms": 15.0, "snp_one_gpu_warm_us": 50.0, "peak_mib": 120.0}

_VERIFY_ONE = """
import resource, sys
from datetime import datetime
from pathlib import Path
from attest.appraise import appraise
from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from attest.verify.bundle import verify_bundle
folder = Path(sys.argv[1])
now = datetime.fromisoformat(sys.argv[2])
bundle = (folder / "bundle.json").read_bytes()
verified = verify_bundle(bundle, nonce=sys.argv[3], roots=TrustRoots.load(folder / "trust.toml"), now=now)
appraise(verified, ReferenceValues.load(folder / "reference.toml"), now=now)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def worlds() -> dict[str, MockWorld]:
    """The machines that are measured."""
    alone = honest_world(MockKeys.generate())
    gpus = MockGpuVendor.create(now=NOW)
    one = replace(alone, machine=replace(alone.machine, board=MockBoard(gpus, devices_of(1))))
    tdx = MockTdxCpu(MockTdxVendor.create(now=NOW), MockTdLaunch())
    td = replace(alone, machine=MockMachine(tdx))
    return {
        "snp": alone,
        "snp_one_gpu": one,
        "tdx": td,
        "tdx_eight_gpus": replace(td, machine=MockMachine(tdx, MockBoard(gpus, devices_of(8)))),
    }


def forget() -> None:
    """Let the next verdict begin with nothing."""
    forget_gpus()
    verified_chain.cache_clear()
    for name in dir(tdx_chain):
        clear = getattr(getattr(tdx_chain, name), "cache_clear", None)
        if clear is not None:
            clear()


def figures(world: MockWorld, name: str, repeat: int) -> dict[str, float]:
    """One machine's, in milliseconds and, warm, in microseconds."""
    bundle, trust, reference = world.answer(NONCE), world.trust(), world.reference(not_after=FAR)

    def again() -> AttestedRuntime:
        return appraise(verify_bundle(bundle, nonce=NONCE, roots=trust, now=NOW), reference, now=NOW)

    def first() -> None:
        forget()
        again()

    runtime = again()
    return {
        f"{name}_first_ms": median_ms(first, repeat),
        f"{name}_again_ms": median_ms(again, repeat),
        f"{name}_warm_us": round(median_ms(lambda: runtime.require_live(NOW), 20 * repeat) * 1000, 3),
        f"{name}_bundle_kib": round(len(bundle) / 1024, 1),
    }


def without_answers(world: MockWorld, repeat: int) -> dict[str, float]:
    """The same without OCSP answers, under values that do not ask for them: twelve signatures fewer."""
    honest = world.bundle(NONCE)
    if honest.nvidia is None or world.machine.board is None:
        raise ValueError("a machine with a GPU is measured here")
    bundle = replace(honest, nvidia=replace(honest.nvidia, ocsp=())).serialise()
    lenient = replace(world.machine.board.reference(), require_revocation_answers=False)
    trust, reference = world.trust(), replace(world.reference(not_after=FAR), gpu=lenient)

    def first() -> None:
        forget()
        appraise(verify_bundle(bundle, nonce=NONCE, roots=trust, now=NOW), reference, now=NOW)

    return {"snp_one_gpu_without_answers_first_ms": median_ms(first, repeat)}


def signature_ms(repeat: int) -> float:
    """One ECDSA P-384 verification, of which a first SNP verdict with one GPU and all answers takes 23."""
    key = ec.generate_private_key(ec.SECP384R1())
    signature, public = key.sign(bytes(4096), ec.ECDSA(hashes.SHA384())), key.public_key()
    return median_ms(lambda: public.verify(signature, bytes(4096), ec.ECDSA(hashes.SHA384())), 4 * repeat)


def peak_mib(world: MockWorld) -> float:
    """Resident peak of a process that verifies one bundle."""
    reference: ReferenceValues = world.reference(not_after=FAR)
    trust: TrustRoots = world.trust()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bundle.json").write_bytes(world.answer(NONCE))
        (folder / "trust.toml").write_text(trust.toml())
        (folder / "reference.toml").write_text(reference.toml())
        arguments = [sys.executable, "-c", _VERIFY_ONE, name, NOW.isoformat(), NONCE]
        return round(float(subprocess.run(arguments, check=True, capture_output=True).stdout), 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=50)
    repeat = parser.parse_args().repeat
    machines = worlds()
    measured: dict[str, float] = {}
    for name, world in machines.items():
        measured |= figures(world, name, repeat)
    measured |= without_answers(machines["snp_one_gpu"], repeat)
    measured["p384_verify_ms"] = signature_ms(repeat)
    measured["peak_mib"] = peak_mib(machines["tdx_eight_gpus"])
    measured["own_peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    missed = [name for name, goal in GOALS.items() if measured[name] > goal]
    print(json.dumps({"goals": GOALS, "missed": missed, "measured": measured}, indent=2))


if __name__ == "__main__":
    main()

"""How long token and vTPM verification takes, in milliseconds, as JSON on standard output.

    python -m tests.bench.bench_tokens [--repeat N]

Each figure is the median of N single calls, in processor time of this thread: the machine may be shared.
``primitive_*`` is the floor in the same run: the one signature check that the verifier cannot do without. An
answer about one GPU is two tokens; ``nras_per_token`` is an answer about eight GPUs, divided by its nine
tokens. Goal: 1 ms for a token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from attest.checks import CheckList
from attest.collateral.snp import SnpCollateral, SnpRoots
from attest.collateral.tokens import JwkSetCollateral, MaaRoots, NrasRoots
from attest.evidence.hcl import HclReport
from attest.evidence.tpm import QuoteFacts
from attest.mock.maa import MockMaa
from attest.mock.nras import MockDevice, MockNras
from attest.verify.azure import PcrPolicy, verify_azure_cvm, verify_azure_vtpm
from attest.verify.jwk_set import signing_key
from attest.verify.maa import MaaPolicy, verify_maa
from attest.verify.nras import verify_nras
from tests.simulators.genuine_azure import NONCES, SUMMER_2026, read
from tests.simulators.genuine_tokens import MAA_CASES, MAA_ISSUER, MAA_POLICY_HASH, NRAS_CASES
from tests.simulators.token_services import maa_roots, mock_policy, nras_roots

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(range(32))
VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
GOALS_MS = {"nras_per_token": 1.0, "maa_mock": 1.0}


def median_ms(call: Callable[[], object], repeat: int) -> float:
    """Median of single calls, milliseconds of processor time."""
    call()
    times = []
    for _ in range(repeat):
        start = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - start)
    return round(statistics.median(times) / 1e6, 4)


def primitives(repeat: int) -> dict[str, float]:
    """One signature check of each kind."""
    message = bytes(1500)
    ec_key, rsa_key = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)
    ec_signature = ec_key.sign(message, ec.ECDSA(hashes.SHA384()))
    rsa_signature = rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    ec_public, rsa_public = ec_key.public_key(), rsa_key.public_key()
    return {
        "primitive_es384": median_ms(
            lambda: ec_public.verify(ec_signature, message, ec.ECDSA(hashes.SHA384())), repeat
        ),
        "primitive_rs256": median_ms(
            lambda: rsa_public.verify(rsa_signature, message, padding.PKCS1v15(), hashes.SHA256()), repeat
        ),
    }


def mock_figures(repeat: int) -> dict[str, float]:
    """Tokens of the mock services."""
    nras, maa = MockNras.create(), MockMaa.create()
    keys, roots = nras.keys, nras_roots(nras)
    one = nras.answer(NONCE, now=NOW)
    eight = nras.answer(NONCE, tuple(MockDevice(f"GPU-{index}") for index in range(8)), now=NOW)

    def gpus(answer: bytes) -> float:
        return median_ms(
            lambda: verify_nras(answer, keys, roots, nonce=NONCE, now=NOW, checks=CheckList()), repeat
        )

    token, maa_keys, trusted, policy = maa.token(NONCE, now=NOW), maa.keys, maa_roots(maa), mock_policy()
    all_eight = gpus(eight)
    return {
        "nras_one_gpu": gpus(one),
        "nras_eight_gpus": all_eight,
        "nras_per_token": round(all_eight / 9, 4),
        "maa_mock": median_ms(
            lambda: verify_maa(token, maa_keys, policy, trusted, nonce=NONCE, now=NOW, checks=CheckList()),
            repeat,
        ),
    }


def genuine_figures(repeat: int) -> dict[str, float]:
    """Genuine tokens and Azure evidence, if they are there."""
    if not VECTORS.is_dir():
        return {}
    nras, maa = NRAS_CASES[0], MAA_CASES[0]
    answer, nras_keys = (
        (VECTORS / nras.file).read_bytes(),
        JwkSetCollateral((VECTORS / nras.keys).read_bytes()),
    )
    token, maa_keys = (VECTORS / maa.file).read_bytes(), JwkSetCollateral((VECTORS / maa.keys).read_bytes())
    policy = MaaPolicy(
        issuer=MAA_ISSUER, kind="azurevm", tee="sevsnpvm", policy_hashes=frozenset({MAA_POLICY_HASH})
    )

    def gpu() -> object:
        nonce = bytes.fromhex(nras.nonce)
        return verify_nras(
            answer, nras_keys, NrasRoots(nvidia=True), nonce=nonce, now=nras.now, checks=CheckList()
        )

    def first() -> object:
        signing_key.cache_clear()
        return gpu()

    def vm() -> object:
        nonce = maa.nonce.encode()
        return verify_maa(
            token, maa_keys, policy, MaaRoots(azure=True), nonce=nonce, now=maa.now, checks=CheckList()
        )

    return {
        "nras_one_gpu": median_ms(gpu, repeat),
        "nras_one_gpu_new_key": median_ms(first, max(repeat // 10, 10)),
        "maa": median_ms(vm, repeat),
    } | azure_figures(repeat)


def azure_figures(repeat: int) -> dict[str, float]:
    """A genuine Azure VM: the whole way, and the vTPM's part of it."""
    file, nonce = read(VECTORS / "azure-hcl", "snp-genoa"), NONCES["snp-genoa"]
    policy: PcrPolicy = file.policy
    hcl = HclReport.parse(file.hcl_report)

    def whole() -> object:
        return verify_azure_cvm(
            file.hcl_report,
            file.quote,
            SnpCollateral(file.leaf),
            SnpRoots(amd=True),
            nonce=nonce,
            pcr_policy=policy,
            now=SUMMER_2026,
            checks=CheckList(),
        )

    def vtpm() -> object:
        return verify_azure_vtpm(
            hcl,
            file.quote,
            hardware_report_data=hcl.report_data,
            nonce=nonce,
            pcr_policy=policy,
            checks=CheckList(),
        )

    return {
        "azure_cvm": median_ms(whole, repeat),
        "azure_vtpm": median_ms(vtpm, repeat),
        "parse_hcl": median_ms(lambda: HclReport.parse(file.hcl_report), repeat),
        "parse_quote": median_ms(lambda: QuoteFacts.parse(file.quote.message), repeat),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=300)
    repeat = parser.parse_args().repeat
    warnings.simplefilter("ignore")
    figures = primitives(repeat) | mock_figures(repeat)
    result = {
        "unit": "ms",
        "repeat": repeat,
        "figures": figures,
        "genuine": genuine_figures(repeat),
        "goals": GOALS_MS,
        "met": {name: figures[name] <= goal for name, goal in GOALS_MS.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

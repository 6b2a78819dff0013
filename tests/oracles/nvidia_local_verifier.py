"""Ask NVIDIA's own local verifier; runs in an environment of its own, never in Sealgate's.

Reads cases as JSON from standard input, writes an answer for each to standard output. Nothing of
NVIDIA's is changed but what needs hardware or the network: the clock of OpenSSL's store is the case's,
evidence comes from the case instead of NVML, and the question of revocation is answered "good"
(``compare_nvidia.py`` therefore compares verdicts without revocation). A case with ``repeat`` is answered so
often, and the answer is the milliseconds of processor time that each took (``tests/bench/bench_gpu.py``).

    python -m venv /tmp/nvidia-oracle && /tmp/nvidia-oracle/bin/pip install nv-local-gpu-verifier==2.7.3
    .venv/bin/python -m tests.oracles.compare_nvidia /tmp/nvidia-oracle/bin/python
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.chdir(tempfile.mkdtemp())  # it writes a log where it stands

from OpenSSL import crypto  # noqa: E402 - from here on, what only that environment has

_NOW = datetime(2000, 1, 1, tzinfo=UTC)


class _ContextAtTime(crypto.X509StoreContext):  # type: ignore[misc]  # not in the product's environment
    """OpenSSL's verification, with the case's time for the present."""

    def __init__(self, store: Any, *arguments: Any, **options: Any) -> None:
        store.set_time(_NOW.replace(tzinfo=None))
        super().__init__(store, *arguments, **options)


crypto.X509StoreContext = _ContextAtTime  # signxml looks it up when it verifies

from verifier import cc_admin  # noqa: E402
from verifier.cc_admin_utils import CcAdminUtils  # noqa: E402
from verifier.config import BaseSettings, HopperSettings  # noqa: E402
from verifier.rim import RIM  # noqa: E402

_ARCHITECTURES = {"HOPPER": 9, "BLACKWELL": 10}
_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class _Gpu:
    """What NVML would say."""

    def __init__(self, case: dict[str, Any]) -> None:
        self._case = case

    def get_gpu_architecture(self) -> int:
        return _ARCHITECTURES[self._case["arch"]]

    def get_uuid(self) -> str:
        return "GPU-of-a-case"

    def get_driver_version(self) -> str:
        return str(self._case["driver"])

    def get_vbios_version(self) -> str:
        return str(self._case["vbios"])

    def get_attestation_report(self) -> bytes:
        return base64.b64decode(self._case["report"])

    def get_attestation_cert_chain(self) -> list[Any]:
        chain = base64.b64decode(self._case["chain"])
        return [crypto.load_certificate(crypto.FILETYPE_PEM, each) for each in _CERTIFICATE.findall(chain)]


def _good(*_: Any) -> tuple[bool, str, str, None]:
    return True, "", "good", None


def _gpu(case: dict[str, Any]) -> bool:
    """The whole verdict on one GPU with both manifests."""
    paths = [Path(name).resolve() for name in ("driver.xml", "vbios.xml")]
    for path, member in zip(paths, ("driver_rim", "vbios_rim"), strict=True):
        path.write_bytes(base64.b64decode(case[member]))
    settings = cc_admin.GPU_ARCHITECTURE_MAP[_ARCHITECTURES[case["arch"]]]
    settings.set_driver_rim_path(str(paths[0]))
    options = {
        "allow_hold_cert": False,
        "claims_version": "2.0",
        "driver_rim": str(paths[0]),
        "ocsp_nonce_disabled": True,
        "ocsp_url": None,
        "rim_service_url": None,
        "service_key": None,
        "test_no_gpu": False,
        "user_mode": True,
        "vbios_rim": str(paths[1]),
        "verbose": False,
    }
    accepted, _ = cc_admin.attest(options, case["nonce"], [_Gpu(case)])
    return bool(accepted)


def _report(case: dict[str, Any]) -> bool:
    """Whether a device signed the report: its chain, its firmware's identity, nonce, signature."""
    gpu, settings = _Gpu(case), cc_admin.GPU_ARCHITECTURE_MAP[_ARCHITECTURES[case["arch"]]]
    report = cc_admin.AttestationReport(gpu.get_attestation_report(), settings)
    chain = gpu.get_attestation_cert_chain()
    opaque = report.get_response_message().get_opaque_data()
    fwid = opaque.get_data("OPAQUE_FIELD_ID_FWID").hex()
    holds = CcAdminUtils.verify_gpu_certificate_chain(chain, settings, fwid)
    if not (holds if isinstance(holds, bool) else holds[0]):
        return False
    nonce = bytes.fromhex(case["nonce"])
    vbios = case["vbios"].lower()
    return bool(
        CcAdminUtils.verify_attestation_report(report, chain[0], nonce, case["driver"], vbios, settings)
    )


def _manifest(case: dict[str, Any]) -> bool:
    """Whether NVIDIA signed a manifest of a version."""
    settings, content = HopperSettings(), base64.b64decode(case["rim"]).decode()
    rim = RIM(rim_name=case["kind"], settings=settings, content=content)
    holds, _ = rim.verify(version=case["version"].lower(), settings=settings)
    return bool(holds)


def _timed(judge: Callable[[dict[str, Any]], bool], case: dict[str, Any]) -> bool | list[float]:
    """The answer; or how long it took, if it is one that accepts and was to be timed."""
    if "repeat" not in case:
        return judge(case)
    times = []
    for _ in range(case["repeat"]):
        start = time.thread_time_ns()
        if not judge(case):
            return False
        times.append((time.thread_time_ns() - start) / 1e6)
    return times


def main() -> None:
    """Answer every case: true, false, or the name of the exception, which is a refusal too."""
    global _NOW  # noqa: PLW0603 - the clock
    logging.disable(logging.CRITICAL)
    BaseSettings.allow_hold_cert = False
    CcAdminUtils.ocsp_certificate_chain_validation = staticmethod(_good)
    cc_admin.NvmlHandler.is_cc_dev_mode = staticmethod(lambda: False)
    judges = {"gpu": _gpu, "report": _report, "manifest": _manifest}
    answers = []
    for case in json.load(sys.stdin):
        _NOW = datetime.fromisoformat(case["now"])
        try:
            answers.append(_timed(judges[case["what"]], case))
        except Exception as error:  # noqa: BLE001 - any error of theirs is their refusal
            answers.append(f"{type(error).__name__}")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

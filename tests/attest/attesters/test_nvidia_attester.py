"""The NVML attester on a simulated library: honest, switched off, failing and lying ones."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from attest.attesters.base import AttesterFailure
from attest.attesters.nvidia import NvidiaAttester
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu
from tests.simulators.gpu_world import NONCE, GpuWorld
from tests.simulators.nvml import CHAIN_ARRAY, REPORT_ARRAY, SimulatedNvml

CALLS = [name for name in vars(SimulatedNvml) if name.startswith("nvml") and name != "nvmlShutdown"]


@pytest.fixture
def nvml(gpu_vendor: MockGpuVendor) -> SimulatedNvml:
    """A Hopper and a Blackwell."""
    return SimulatedNvml(gpu_vendor, [MockGpu(), MockGpu(arch="BLACKWELL", index=1)])


def test_evidence_of_each_gpu_verifies(nvml: SimulatedNvml, gpu_world: GpuWorld) -> None:
    """What the attester hands over is what the verifier takes, without the arrays' padding."""
    evidence = NvidiaAttester(nvml).gpu_evidence(NONCE)
    assert [each.arch for each in evidence] == ["HOPPER", "BLACKWELL"]
    for each, gpu in zip(evidence, nvml.gpus, strict=True):
        assert gpu_world.verify(gpu, evidence=each).nonce == NONCE
    assert nvml.opened == 0


@pytest.mark.parametrize("call", CALLS)
def test_a_failing_call_is_a_failure_and_closes_the_library(call: str, nvml: SimulatedNvml) -> None:
    """Every call may fail; the library is closed again."""
    nvml.fails_at = call
    with pytest.raises(AttesterFailure, match=call):
        NvidiaAttester(nvml).gpu_evidence(NONCE)
    assert nvml.opened == 0


@pytest.mark.parametrize(("name", "value"), [("ccFeature", 0), ("devToolsMode", 1)])
def test_a_mode_that_protects_nothing_is_a_failure(name: str, value: int, nvml: SimulatedNvml) -> None:
    """Off and developer mode are told to whoever runs the machine."""
    setattr(nvml.state, name, value)
    with pytest.raises(AttesterFailure, match="off" if name == "ccFeature" else "developer"):
        NvidiaAttester(nvml).gpu_evidence(NONCE)


def test_other_generations_no_gpu_and_nonsense_sizes(nvml: SimulatedNvml) -> None:
    """Nothing is handed over that the driver did not write."""
    nvml.generation = 8
    with pytest.raises(AttesterFailure, match="generation 8"):
        NvidiaAttester(nvml).gpu_evidence(NONCE)
    nvml.generation = None
    for size in (0, REPORT_ARRAY + 1):
        nvml.report_size = size
        with pytest.raises(AttesterFailure, match=f"GPU 0 answered {size} bytes"):
            NvidiaAttester(nvml).gpu_evidence(NONCE)
    nvml.gpus = []
    with pytest.raises(AttesterFailure, match="0 GPUs"):
        NvidiaAttester(nvml).gpu_evidence(NONCE)
    with pytest.raises(ValueError, match="32 bytes"):
        NvidiaAttester(nvml).gpu_evidence(b"short")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without NVIDIA's package gets an instruction."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AttesterFailure, match=r"sealgate\[nvidia\]"):
        NvidiaAttester()


def test_the_simulator_has_the_shape_of_the_real_library() -> None:
    """NVIDIA's own package has every call, field and number that the attester relies on."""
    pynvml = pytest.importorskip("pynvml")
    for name in [*CALLS, "nvmlShutdown", "NVMLError"]:
        assert hasattr(pynvml, name), name
    assert (pynvml.NVML_DEVICE_ARCH_HOPPER, pynvml.NVML_DEVICE_ARCH_BLACKWELL) == (9, 10)
    assert pynvml.NVML_CC_SYSTEM_FEATURE_ENABLED == 1
    assert pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF == 0
    report = pynvml.c_nvmlConfComputeGpuAttestationReport_t()
    chain = pynvml.c_nvmlConfComputeGpuCertificate_t()
    assert (len(report.attestationReport), report.attestationReportSize) == (REPORT_ARRAY, 0)
    assert (len(chain.attestationCertChain), chain.attestationCertChainSize) == (CHAIN_ARRAY, 0)
    state = pynvml.c_nvmlConfComputeSystemState_t()
    assert (state.ccFeature, state.devToolsMode) == (0, 0)

"""What doctor finds on other machines, shown to it as folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import machine
from gateway.cli.machine import Finding, State


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def found(findings: object, name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)  # type: ignore[attr-defined]  # iterator


def test_a_confidential_guest(tmp_path: Path) -> None:
    root = write(tmp_path, {"dev/sev-guest": "", "proc/driver/nvidia/version": "NVRM version: 580.1\nmore"})
    (root / "sys/kernel/config/tsm/report").mkdir(parents=True)
    findings = list(machine.trusted_hardware(root))
    assert found(findings, "SEV-SNP guest").state is State.GOOD
    assert found(findings, "TDX guest").state is State.NOTE
    assert found(findings, "configfs-tsm").value == "/sys/kernel/config/tsm/report"
    assert found(findings, "NVIDIA driver").value == "NVRM version: 580.1"


def test_an_ordinary_machine_lacks_nothing_that_it_needs(tmp_path: Path) -> None:
    assert {finding.state for finding in machine.trusted_hardware(tmp_path)} == {State.NOTE}


@pytest.mark.parametrize(
    ("files", "state", "value"),
    [
        ({"proc/meminfo": "MemAvailable: 8388608 kB\n"}, State.GOOD, "8.0 GiB"),
        ({"proc/meminfo": "MemAvailable: 1048576 kB\n"}, State.BAD, "1.0 GiB"),
        (
            {
                "proc/meminfo": "MemAvailable: 8388608 kB\n",
                "sys/fs/cgroup/memory.max": str(3 << 30),
                "sys/fs/cgroup/memory.current": str(2 << 30),
                "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {1 << 30}\n",
            },
            State.BAD,
            "2.0 GiB",
        ),
        (
            {"proc/meminfo": "MemAvailable: 8388608 kB\n", "sys/fs/cgroup/memory.max": "max\n"},
            State.GOOD,
            "8.0 GiB",
        ),
        ({}, State.NOTE, "unknown"),
        ({"proc/meminfo": "nonsense"}, State.NOTE, "unknown"),
    ],
)
def test_memory_is_the_smaller_of_machine_and_control_group(
    tmp_path: Path, files: dict[str, str], state: State, value: str
) -> None:
    memory = found(machine.hardware(write(tmp_path, files)), "memory")
    assert memory.state is state
    assert value in memory.value


def test_the_best_instruction_set_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": "processor: 0\nflags\t\t: fpu avx2 avx512f amx_bf16\n"})
    assert "amx_bf16" in found(machine.hardware(root), "processor").value


def test_a_home_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.disk(tmp_path / "not" / "yet").state is State.GOOD
    monkeypatch.setattr(machine, "_MIN_DISK", 1 << 62)
    assert machine.disk(tmp_path).state is State.BAD


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    finding = machine.disk(tmp_path)
    assert finding.state is State.BAD
    assert "SEALGATE_HOME" in finding.hint


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_RUNTIME_PACKAGES", ("rich", "no-such-package"))
    finding = found(machine.software(), "runtime packages")
    assert finding.state is State.BAD
    assert finding.value == "missing: no-such-package"

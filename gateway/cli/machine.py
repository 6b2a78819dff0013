"""What this machine has: read from /proc, /sys and the installed packages, changing nothing.

Every probe takes the root of the file system it looks at, so that tests show it other machines.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_GIB = 1 << 30
_MIN_MEMORY = 3 * _GIB  # the default model in float32, PyTorch and the gateway, with room
_MIN_DISK = _GIB  # the default model twice over: the download and the file
_INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd")
_RUNTIME_PACKAGES = ("torch", "numpy", "gguf", "tokenizers", "safetensors", "jinja2")


class State(StrEnum):
    """How a finding bears on what can be done here."""

    GOOD = "good"
    NOTE = "note"  # absent, and not needed for development
    BAD = "bad"  # something will not work until it is mended


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        area: heading.
        name: what was looked at.
        state: how it bears.
        value: what was found.
        hint: what to do about it, if something can be done.
    """

    area: str
    name: str
    state: State
    value: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding for JSON output."""
        return {
            "area": self.area,
            "name": self.name,
            "state": self.state.value,
            "value": self.value,
            "hint": self.hint,
        }


def software() -> Iterator[Finding]:
    """Python and the packages of both sides."""
    running = ".".join(map(str, sys.version_info[:3]))
    yield Finding("software", "Python", State.GOOD, running)
    yield Finding("software", "sealgate", State.GOOD, _installed("sealgate") or "not installed as a package")
    missing = [name for name in _RUNTIME_PACKAGES if _installed(name) is None]
    if missing:
        yield Finding(
            "software",
            "runtime packages",
            State.BAD,
            f"missing: {', '.join(missing)}",
            "only a machine that runs models needs them: 'make demo' installs them, or pip install "
            "'sealgate[runtime]'",
        )
    else:
        yield Finding("software", "runtime packages", State.GOOD, f"torch {_installed('torch')} and the rest")


def hardware(root: Path = Path("/")) -> Iterator[Finding]:
    """Processor, memory and disk."""
    flags = _cpu_flags(root)
    known = [name for name in _INSTRUCTION_SETS if name in flags]
    cores = len(os.sched_getaffinity(0))
    value = f"{cores} cores" + (f", {known[0]}" if known else "")
    yield Finding("machine", "processor", State.GOOD, value)
    available = _memory_available(root)
    if available is None:
        yield Finding("machine", "memory", State.NOTE, "unknown")
    else:
        enough = available >= _MIN_MEMORY
        hint = "" if enough else "the default model wants about 3 GiB; close something"
        state = State.GOOD if enough else State.BAD
        yield Finding("machine", "memory", state, f"{available / _GIB:.1f} GiB available", hint)


def disk(home: Path) -> Finding:
    """Whether home can be written and has room."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "machine",
            "home",
            State.BAD,
            f"{home} cannot be written",
            "set SEALGATE_HOME to a folder of yours",
        )
    free = shutil.disk_usage(existing).free
    enough = free >= _MIN_DISK
    return Finding(
        "machine",
        "home",
        State.GOOD if enough else State.BAD,
        f"{home}, {free / _GIB:.1f} GiB free",
        "" if enough else "a model pull needs 1 GiB",
    )


def trusted_hardware(root: Path = Path("/")) -> Iterator[Finding]:
    """What could attest here. Absent is normal: a gateway needs none of it."""
    tsm = root / "sys/kernel/config/tsm/report"
    devices = {"SEV-SNP guest": "dev/sev-guest", "TDX guest": "dev/tdx_guest"}
    for name, device in devices.items():
        if (root / device).exists():
            yield Finding("attestation", name, State.GOOD, f"/{device}")
        else:
            yield Finding(
                "attestation", name, State.NOTE, "no", "a runtime here can only use the mock TEE (--dev)"
            )
    if tsm.is_dir():
        yield Finding("attestation", "configfs-tsm", State.GOOD, f"/{tsm.relative_to(root)}")
    else:
        yield Finding(
            "attestation", "configfs-tsm", State.NOTE, "no", "needs Linux 6.7 in a confidential guest"
        )
    driver = root / "proc/driver/nvidia/version"
    yield Finding(
        "attestation",
        "NVIDIA driver",
        State.GOOD if driver.is_file() else State.NOTE,
        driver.read_text(errors="replace").splitlines()[0][:60] if driver.is_file() else "no",
        "" if driver.is_file() else "models run on the processor",
    )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_flags(root: Path) -> frozenset[str]:
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next(
        (frozenset(line.split()) for line in lines if line.lower().startswith(("flags", "features"))),
        frozenset(),
    )


def _memory_available(root: Path) -> int | None:
    """Bytes, the smaller of the machine's and the control group's."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    return min(kib * 1024, _cgroup_room(root))


def _cgroup_room(root: Path) -> int:
    folder = root / "sys/fs/cgroup"
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        reclaimable = next(
            int(line.split()[1])
            for line in (folder / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, StopIteration, ValueError):  # no control group, or "max"
        return sys.maxsize
    return max(0, limit - used + reclaimable)

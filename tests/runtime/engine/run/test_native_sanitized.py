"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer: built apart, walked at odd shapes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
NATIVE = ROOT / "runtime" / "engine" / "run" / "native"
WATCH = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g1", "-O1")


def flags() -> list[str]:
    """As the package is built, but for what the sanitizers need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    return [flag for flag in extension["extra-compile-args"] if flag != "-O3"]


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        pytest.skip("no g++ here")
    return found


def runtime_library(compiler: str, name: str) -> str:
    """A library that must be in the process before all others."""
    path = subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
    if not Path(path).is_absolute():
        pytest.skip(f"g++ has no {name} here")
    return path


def built(compiler: str, native: Path, folder: Path) -> Path:
    library = folder / "watched.so"
    command = [compiler, *flags(), *WATCH, "-shared", "-fPIC", "kernels.cpp", "-o", str(library)]
    subprocess.run(command, cwd=native, check=True, timeout=300)
    return library


def walked(compiler: str, library: Path) -> subprocess.CompletedProcess[str]:
    first = ("libasan.so", "libubsan.so", "libstdc++.so.6")
    preload = " ".join(runtime_library(compiler, name) for name in first)
    environment = {
        **os.environ,
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "1",
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, "-m", "tests.simulators.native_walk", str(library)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_no_kernel_leaves_its_memory(compiler: str, tmp_path: Path) -> None:
    done = walked(compiler, built(compiler, NATIVE, tmp_path))
    assert done.stdout == "walked\n", done.stderr[-4000:]
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_one_that_did_would_be_seen(compiler: str, tmp_path: Path) -> None:
    """With a norm that writes one number too many."""
    copied = tmp_path / "native"
    shutil.copytree(NATIVE, copied, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    rows = copied / "rows.hpp"
    text = rows.read_text()
    sound = "for (; i < width; ++i) y[i] = x[i] * scale * weight[i];"
    assert sound in text
    rows.write_text(text.replace(sound, sound.replace("i < width", "i <= width")))
    done = walked(compiler, built(compiler, copied, tmp_path))
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr

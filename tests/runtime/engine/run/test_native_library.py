"""Where the kernels are, what happens without them, and that both sides mean the same structs."""

from __future__ import annotations

import ctypes
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attest.refusal import Unsupported
from runtime.engine.run.model import LlamaRunner
from runtime.engine.run.native import library as module
from runtime.engine.run.native.decoder import NativeRunner, knows
from runtime.engine.run.native.library import FORMATS, INT8, STRUCTS, CBlock, CLinear, available, library
from runtime.engine.run.runner import adapter_dtype, load_runner
from tests.simulators.random_weights import RandomWeights, small

HEADER = Path(module.__file__).with_name("kernels.h")
TYPES = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "float": ctypes.c_float}


@pytest.fixture(params=["no library", "another processor"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that cannot run them."""
    if request.param == "no library":
        monkeypatch.setattr(module, "_path", lambda: None)
    else:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    library.cache_clear()
    yield
    library.cache_clear()


@pytest.mark.usefixtures("without")
def test_without_them_torch_computes() -> None:
    assert not available()
    assert isinstance(load_runner(small(), RandomWeights(), "float32"), LlamaRunner)
    assert adapter_dtype(small(), "bf16", "cpu") == adapter_dtype(small(), "bf16", "cpu", "torch")
    with pytest.raises(Unsupported, match="native-kernels"):
        load_runner(small(), RandomWeights(), "float32", kernels="native")


@pytest.mark.usefixtures("native")
def test_with_them_they_do_unless_torch_is_asked_for() -> None:
    runner = load_runner(small(), RandomWeights(), "bf16", threads=1)
    assert isinstance(runner, NativeRunner)
    assert runner.adapter_dtype == adapter_dtype(small(), "bf16", "cpu") == torch.bfloat16
    assert runner.cache_dtype == torch.float16
    assert isinstance(load_runner(small(), RandomWeights(), "bf16", kernels="torch"), LlamaRunner)
    assert adapter_dtype(small(), "float32", "cpu") == torch.float32


@pytest.mark.usefixtures("native")
def test_heads_of_broken_vectors_are_left_to_torch() -> None:
    narrow = small(head_dim=12)
    assert not knows(narrow)
    assert isinstance(load_runner(narrow, RandomWeights(), "float32"), LlamaRunner)
    with pytest.raises(Unsupported, match="native-kernels"):
        load_runner(narrow, RandomWeights(), "float32", kernels="native")


@pytest.mark.usefixtures("native")
def test_weights_take_what_is_stated() -> None:
    """Bytes of each kind, padding of the last panel counted; a tied head is laid out a second time."""
    shape = small(hidden_size=64, intermediate_size=96, heads=8, kv_heads=4, vocab_size=48, layers=1)
    cells = 64 * (128 + 64 + 2 * 96) + 96 * 64
    table = 48 * 64
    for mode, per, scales in (("float32", 4.0, 0), ("bf16", 2.0, 0), ("int8", 1.0, 1)):
        runner = load_runner(shape, RandomWeights(), mode, threads=1)  # type: ignore[arg-type]  # of WEIGHT_MODES
        assert runner.table_bytes == table * (4 if mode == "float32" else 2)
        groups = (128 + 64 + 192 + 48) * 1 + 64 * 2  # 64 columns, or 96
        assert runner.weight_bytes == runner.table_bytes + per * (cells + table) + 4 * scales * groups


@pytest.mark.usefixtures("native")
def test_both_sides_have_structs_of_one_size() -> None:
    assert [library().sg_size_of(index) for index in range(len(STRUCTS))] == [*map(ctypes.sizeof, STRUCTS)]
    assert library().sg_size_of(len(STRUCTS)) == library().sg_size_of(-1) == 0


def test_both_sides_name_the_same_members_in_the_same_order() -> None:
    """As ``kernels.h`` has them; alike members in one order have alike places."""
    structs = re.findall(r"^struct sg_(\w+) \{\n(.*?)^\};", HEADER.read_text(), re.DOTALL | re.MULTILINE)
    assert [name.replace("_", "") for name, _ in structs] == [each.__name__[1:].lower() for each in STRUCTS]
    for (_, body), struct in zip(structs, STRUCTS, strict=True):
        members = []
        for line in re.findall(r"^\s*([^/\n]+?);", body, re.MULTILINE):
            kind, names = re.fullmatch(r"(?:const )?(\w+) (.*)", line).groups()  # type: ignore[union-attr]  # such is the header
            members += [(name.strip("* "), kind, "*" in name) for name in names.split(",")]
        assert [name for name, *_ in struct._fields_] == [name for name, *_ in members]
        for (name, ours, *_), (_, kind, pointer) in zip(struct._fields_, members, strict=True):
            size = 8 if pointer else ctypes.sizeof({**TYPES, "sg_linear": CLinear, "sg_block": CBlock}[kind])
            assert ctypes.sizeof(ours) == size, name
            assert pointer or kind.startswith("sg_") or ours is TYPES[kind], name


def test_both_sides_number_the_formats_alike() -> None:
    numbered = dict(re.findall(r"SG_(\w+) = (\d)", HEADER.read_text()))
    ours = {str(dtype).removeprefix("torch.").upper(): str(number) for dtype, number in FORMATS.items()}
    assert numbered == {**ours, "INT8": str(INT8)}


@pytest.mark.usefixtures("native")
def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a struct's size, or a function that it lacks."""
    monkeypatch.setattr(module, "STRUCTS", (*STRUCTS[:-1], CBlock))
    library.cache_clear()
    with pytest.raises(Unsupported, match="one of another"):
        library()
    monkeypatch.undo()
    monkeypatch.setitem(module._SIGNATURES, "sg_later", (None, ()))
    with pytest.raises(Unsupported, match="one of another"):
        library()
    monkeypatch.undo()
    library.cache_clear()
    library()


def test_where_they_can_be_built_they_are() -> None:
    """The package installs without them, so that their tests could all be skipped and nobody notice."""
    if shutil.which("c++") is None or torch.backends.cpu.get_cpu_capability() not in {"AVX2", "AVX512"}:
        pytest.skip("no C++ compiler here, or no AVX2")
    assert available()

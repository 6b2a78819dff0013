"""The compiled kernels, and their C interface (``kernels.h``) in ctypes.

The extension is built with the package where there is a C++ compiler; without it, or on another processor
than it was written for, the engine runs by torch.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import weakref
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from typing import Final

import torch

from attest.refusal import Unsupported

_EXTENSION = "runtime.engine.run.native._kernels"

FLOAT32: Final = 0
BFLOAT16: Final = 1
FLOAT16: Final = 2
INT8: Final = 3

FORMATS: Final = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}


class CLinear(Structure):
    """``sg_linear``."""

    _fields_ = (
        ("rows", c_int32),
        ("columns", c_int32),
        ("format", c_int32),
        ("reserved", c_int32),
        ("panels", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
    )


class CBlock(Structure):
    """``sg_block``."""

    _fields_ = (
        ("qkv", CLinear),
        ("output", CLinear),
        ("gate_up", CLinear),
        ("down", CLinear),
        ("input_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
    )


class CAdapterTable(Structure):
    """``sg_adapter_table``."""

    _fields_ = (
        ("targets", c_int32),
        ("chunks", c_int32),
        ("chunk", c_int32),
        ("format", c_int32),
        ("chunk_targets", c_void_p),
        ("down", c_void_p),
        ("up", c_void_p),
        ("down_layer", c_int64),
        ("down_unit", c_int64),
        ("up_layer", c_int64),
        ("up_unit", c_int64),
    )


class CModel(Structure):
    """``sg_model``."""

    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("intermediate", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("vocabulary", c_int32),
        ("embedding_format", c_int32),
        ("rms_eps", c_float),
        ("reserved", c_int32),
        ("embedding", c_void_p),
        ("frequencies", c_void_p),
        ("last_norm", c_void_p),
        ("blocks", POINTER(CBlock)),
    )


class CCache(Structure):
    """``sg_cache``."""

    _fields_ = (
        ("pool", c_void_p),
        ("layer_stride", c_int64),
        ("page_size", c_int32),
        ("format", c_int32),
    )


class CStep(Structure):
    """``sg_step``."""

    _fields_ = (
        ("rows", c_int32),
        ("pieces", c_int32),
        ("tokens", c_void_p),
        ("positions", c_void_p),
        ("piece_rows", c_void_p),
        ("piece_pages", c_void_p),
        ("pages", c_void_p),
        ("unit_first", c_void_p),
        ("unit_counts", c_void_p),
        ("units", c_void_p),
        ("tables", POINTER(CAdapterTable)),
    )


class CScratch(Structure):
    """``sg_scratch``."""

    _fields_ = (("memory", c_void_p), ("floats", c_int64))


STRUCTS: Final = (CLinear, CBlock, CAdapterTable, CModel, CCache, CStep, CScratch)

_SIGNATURES: Final = {
    "sg_size_of": (c_int64, (c_int32,)),
    "sg_team_new": (c_void_p, (c_int32,)),
    "sg_team_free": (None, (c_void_p,)),
    "sg_scratch_floats": (c_int64, (POINTER(CModel), POINTER(CStep), c_int32)),
    "sg_embed": (None, (POINTER(CModel), c_void_p, c_int32, c_void_p)),
    "sg_blocks": (
        None,
        (
            c_void_p,
            POINTER(CModel),
            POINTER(CCache),
            POINTER(CStep),
            CScratch,
            c_int32,
            c_int32,
            c_void_p,
        ),
    ),
    "sg_norm": (None, (c_void_p, c_void_p, c_float, c_int32, c_int32, c_void_p)),
    "sg_product": (None, (c_void_p, POINTER(CLinear), c_void_p, c_int32, c_void_p, c_void_p)),
    "sg_pack": (None, (POINTER(CLinear), c_void_p, c_void_p, c_void_p)),
}


def available() -> bool:
    """Whether the kernels are built, and this processor has what they use."""
    return _path() is not None and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels. A call lets other Python threads run.

    Raises:
        Unsupported: ``native-kernels``: there are none here, or of another version.
    """
    path = _path()
    if path is None or not available():
        raise Unsupported("native-kernels", expected="a build of them, and AVX2", got="neither or one")
    loaded = ctypes.CDLL(path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise _of_another_version()
        function.restype, function.argtypes = result, arguments
    if [loaded.sg_size_of(index) for index in range(len(STRUCTS))] != [*map(ctypes.sizeof, STRUCTS)]:
        raise _of_another_version()
    return loaded


def _of_another_version() -> Unsupported:
    return Unsupported(
        "native-kernels", expected="a build of this version (pip install -e .)", got="one of another"
    )


@functools.cache
def _path() -> str | None:
    spec = importlib.util.find_spec(_EXTENSION)
    return None if spec is None else spec.origin


class Team:
    """The kernels' threads. One caller at a time.

    Args:
        threads: the caller's among them.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.handle: int = library().sg_team_new(threads)
        weakref.finalize(self, library().sg_team_free, self.handle)

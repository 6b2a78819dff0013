"""The safetensors container, read strictly and without copying.

The format is small, and an adapter comes from outside: this reader refuses what the usual library lets
pass, such as a name given twice, of which two readers might keep different halves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attest import strict_json
from attest.refusal import Malformed, Unsupported

MAX_HEADER = 8 << 20
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 8
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, repr=False)
class TensorsFile:
    """A parsed file; the tensors are views of the bytes it was parsed from.

    Args:
        metadata: the header's free text members.
        tensors: by name.
    """

    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def __repr__(self) -> str:
        return f"TensorsFile({len(self.tensors)} tensors)"


def parse_tensors(data: bytearray) -> TensorsFile:
    """Parse a whole file.

    Args:
        data: the file; the tensors read from it for as long as they live.

    Raises:
        Malformed: ``adapter-tensors-header`` and the strict reader's ``adapter-tensors-*``,
            ``adapter-tensors-entry`` for a mistyped entry, ``adapter-tensors-offsets`` if the entries do
            not cover the data exactly once.
        Unsupported: ``adapter-tensors-dtype`` for anything but F32, F16 and BF16.
    """
    header, body = _header(data)
    metadata = _metadata(header.pop("__metadata__", {}))
    entries = sorted(((_entry(name, value)) for name, value in header.items()), key=lambda each: each.begin)
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise Malformed("adapter-tensors-offsets", f"{entry.begin} where {end} was due")
        end = entry.end
    if end != len(data) - body:
        raise Malformed("adapter-tensors-offsets", f"{end} bytes named, {len(data) - body} present")
    return TensorsFile(metadata, {entry.name: entry.view(data, body) for entry in entries})


def _header(data: bytearray) -> tuple[dict[str, Any], int]:
    """The header's members, and where the data begins."""
    if len(data) < _LENGTH_BYTES:
        raise Malformed("adapter-tensors-header", f"{len(data)} bytes")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > min(MAX_HEADER, len(data) - _LENGTH_BYTES):
        raise Malformed("adapter-tensors-header", f"a header of {length} bytes")
    body = _LENGTH_BYTES + length
    header = strict_json.loads(bytes(data[_LENGTH_BYTES:body]), name="adapter-tensors", max_bytes=MAX_HEADER)
    if not isinstance(header, dict):
        raise Malformed("adapter-tensors-header", "not an object")
    return header, body


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Malformed("adapter-tensors-header", "metadata that is not text")
    return value


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    def view(self, data: bytearray, body: int) -> Tensor:
        count = math.prod(self.shape)
        if count == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        if (body + self.begin) % self.dtype.itemsize:
            raise Malformed("adapter-tensors-offsets", "data that is not aligned")
        flat = torch.frombuffer(data, dtype=self.dtype, count=count, offset=body + self.begin)
        return flat.view(self.shape)


def _entry(name: str, value: Any) -> _Entry:
    members = strict_json.members_exactly(
        value, frozenset({"dtype", "shape", "data_offsets"}), name="adapter-tensors"
    )
    shape, offsets = members["shape"], members["data_offsets"]
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2 or len(shape) > _MAX_DIMENSIONS:  # noqa: PLR2004 begin and end
        raise Malformed("adapter-tensors-entry", "a shape or offsets that are no sizes")
    dtype = _DTYPES.get(members["dtype"]) if isinstance(members["dtype"], str) else None
    if dtype is None:
        raise Unsupported("adapter-tensors-dtype", expected=", ".join(_DTYPES))
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise Malformed("adapter-tensors-offsets", f"{end - begin} bytes for a shape of {math.prod(shape)}")
    return _Entry(name, dtype, tuple(shape), begin, end)


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 48 for item in value)

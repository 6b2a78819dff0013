"""Read a GGUF file (version 3) from bytes: metadata, tensors, and what identifies the tokenizer.

The file came over the network or from a disk the host controls, so every length in it is a claim:
counts are bounded before anything is allocated, offsets before anything is sliced. Quantised tensors
are expanded by the ``gguf`` package; its own file reader is not used, since it trusts those lengths.

Layout (ggml-org/ggml docs/gguf.md): magic, version, tensor count, key count, keys and values, tensor
descriptions, padding to the alignment, tensor data. All integers are little-endian.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from attest.evidence.reader import Reader
from attest.refusal import Malformed, Unsupported

CLAUSE = "ggml docs/gguf.md"
MAGIC = b"GGUF"
VERSION = 3

# Far above any published model, far below what would exhaust a small machine.
MAX_KEYS = 4096
MAX_TENSORS = 65_536
MAX_STRING = 1 << 20
MAX_ARRAY = 1 << 21
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d"}

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in the file.

    Args:
        name: its GGUF name, e.g. ``"blk.0.attn_q.weight"``.
        shape: outermost dimension first, as torch has it (the file stores the reverse).
        kind: how its values are encoded.
        offset: of its first byte in the file.
        size: in bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    size: int


@dataclass(frozen=True, repr=False)
class GgufFile:
    """A parsed file. Tensors stay quantised in ``data`` until asked for.

    Args:
        metadata: keys to values; arrays are tuples.
        tensors: by name.
        tokenizer_digest: SHA-256 over the raw ``tokenizer.*`` entries in file order.
        data: the whole file.
    """

    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]
    tokenizer_digest: str
    data: memoryview

    def __repr__(self) -> str:
        return f"GgufFile({len(self.metadata)} keys, {len(self.tensors)} tensors, {len(self.data)} bytes)"

    def string(self, key: str, default: str | None = None) -> str:
        """The text under ``key``.

        Raises:
            Malformed: ``gguf-key-missing`` without a default, ``gguf-key-type`` if it is no text.
        """
        value = self._value(key, default)
        if not isinstance(value, str):
            raise Malformed("gguf-key-type", f"{key} is not a string", clause=CLAUSE)
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number under ``key``. Raises as ``string`` does."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Malformed("gguf-key-type", f"{key} is not an integer", clause=CLAUSE)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The finite number under ``key``. Raises as ``string`` does."""
        value = self._value(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise Malformed("gguf-key-type", f"{key} is not a finite number", clause=CLAUSE)
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """The truth value under ``key``. Raises as ``string`` does."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise Malformed("gguf-key-type", f"{key} is not a boolean", clause=CLAUSE)
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """The array of texts under ``key``. Raises as ``string`` does."""
        value = self._value(key, None)
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise Malformed("gguf-key-type", f"{key} is not an array of strings", clause=CLAUSE)
        return tuple(item for item in value if isinstance(item, str))

    def integers(self, key: str) -> tuple[int, ...]:
        """The array of whole numbers under ``key``. Raises as ``string`` does."""
        value = self._value(key, None)
        if not isinstance(value, tuple) or not all(type(item) is int for item in value):
            raise Malformed("gguf-key-type", f"{key} is not an array of integers", clause=CLAUSE)
        return tuple(item for item in value if isinstance(item, int))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor's values as float32, in its shape. Dequantised on every call.

        Raises:
            Malformed: ``gguf-tensor-missing``.
            Unsupported: ``gguf-tensor-type`` for an encoding the ``gguf`` package cannot expand.
        """
        info = self.tensors.get(name)
        if info is None:
            raise Malformed("gguf-tensor-missing", name, clause=CLAUSE)
        raw = np.frombuffer(self.data, dtype=np.uint8, count=info.size, offset=info.offset)
        try:
            values = dequantize(raw.reshape(*info.shape[:-1], -1), info.kind)
        except NotImplementedError as error:
            raise Unsupported("gguf-tensor-type", CLAUSE, got=info.kind.name) from error
        return np.require(values, np.float32, ["C", "W"]).reshape(info.shape)

    def _value(self, key: str, default: Value | None) -> Value:
        value = self.metadata.get(key, default)
        if value is None:
            raise Malformed("gguf-key-missing", key, clause=CLAUSE)
        return value


def parse_gguf(data: bytes | memoryview) -> GgufFile:
    """Parse a whole file.

    Raises:
        Malformed: ``gguf-truncated``, ``gguf-magic``, ``gguf-too-many-keys``, ``gguf-too-many-tensors``,
            ``gguf-string-too-long``, ``gguf-array-too-long``, ``gguf-text``, ``gguf-value-type``,
            ``gguf-duplicate-key``, ``gguf-duplicate-tensor``, ``gguf-alignment``, ``gguf-tensor-shape``,
            ``gguf-tensor-place``.
        Unsupported: ``gguf-version``, ``gguf-tensor-type``.
    """
    reader = Reader(data, "gguf")
    if reader.take(len(MAGIC)) != MAGIC:
        raise Malformed("gguf-magic", clause=CLAUSE)
    version = reader.uint_le(4)
    if version != VERSION:
        raise Unsupported("gguf-version", CLAUSE, expected=str(VERSION), got=str(version))
    tensor_count = _bounded(reader, MAX_TENSORS, "gguf-too-many-tensors")
    key_count = _bounded(reader, MAX_KEYS, "gguf-too-many-keys")
    metadata, tokenizer_digest = _metadata(reader, memoryview(data), key_count)
    tensors = _tensors(reader, tensor_count, metadata)
    return GgufFile(metadata, tensors, tokenizer_digest, memoryview(data))


def _bounded(reader: Reader, limit: int, code: str) -> int:
    start = reader.position
    count = reader.uint_le(8)
    if count > limit:
        raise Malformed(code, f"{count}, at most {limit}", offset=start, clause=CLAUSE)
    return count


def _text(reader: Reader) -> str:
    start = reader.position
    size = _bounded(reader, MAX_STRING, "gguf-string-too-long")
    try:
        return reader.take(size).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("gguf-text", "not UTF-8", offset=start, clause=CLAUSE) from error


def _metadata(reader: Reader, data: memoryview, count: int) -> tuple[dict[str, Value], str]:
    metadata: dict[str, Value] = {}
    tokenizer = hashlib.sha256(b"sealgate-tokenizer-v1\x00gguf\x00")
    for _ in range(count):
        start = reader.position
        key = _text(reader)
        if key in metadata:
            raise Malformed("gguf-duplicate-key", offset=start, clause=CLAUSE)
        metadata[key] = _typed_value(reader)
        if key.startswith("tokenizer."):
            tokenizer.update(data[start : reader.position])
    return metadata, f"sha256:{tokenizer.hexdigest()}"


def _typed_value(reader: Reader) -> Value:
    kind = reader.uint_le(4)
    if kind != _ARRAY:
        return _scalar(reader, kind)
    item_kind = reader.uint_le(4)
    count = _bounded(reader, MAX_ARRAY, "gguf-array-too-long")
    if item_kind == _STRING:
        return tuple(_text(reader) for _ in range(count))
    code = _scalar_code(reader, item_kind)
    values = struct.unpack(f"<{count}{code}", reader.take(count * struct.calcsize(code)))
    return tuple(bool(value) for value in values) if item_kind == _BOOL else values


def _scalar(reader: Reader, kind: int) -> Scalar:
    if kind == _STRING:
        return _text(reader)
    code = _scalar_code(reader, kind)
    value: int | float = struct.unpack(f"<{code}", reader.take(struct.calcsize(code)))[0]
    return bool(value) if kind == _BOOL else value


def _scalar_code(reader: Reader, kind: int) -> str:
    code = _SCALARS.get(kind)
    if code is None:  # also an array in an array: allowed by the format, used by no model
        raise Malformed("gguf-value-type", str(kind), offset=reader.position, clause=CLAUSE)
    return code


def _tensors(reader: Reader, count: int, metadata: Mapping[str, Value]) -> dict[str, TensorInfo]:
    described = [_description(reader) for _ in range(count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise Malformed("gguf-alignment", "not a power of two in range", clause=CLAUSE)
    base = -(-reader.position // alignment) * alignment
    end = reader.position + reader.remaining
    tensors: dict[str, TensorInfo] = {}
    for name, shape, kind, offset in described:
        if name in tensors:
            raise Malformed("gguf-duplicate-tensor", clause=CLAUSE)
        size = _size(shape, kind)
        if offset % alignment or base + offset + size > end:
            raise Malformed("gguf-tensor-place", f"{size} bytes at {base + offset} of {end}", clause=CLAUSE)
        tensors[name] = TensorInfo(name, shape, kind, base + offset, size)
    return tensors


def _description(reader: Reader) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = _text(reader)
    dimensions = reader.uint_le(4)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise Malformed(
            "gguf-tensor-shape", f"{dimensions} dimensions", offset=reader.position, clause=CLAUSE
        )
    shape = tuple(reader.uint_le(8) for _ in range(dimensions))[::-1]
    number = reader.uint_le(4)
    try:
        kind = GGMLQuantizationType(number)
    except ValueError as error:
        raise Unsupported("gguf-tensor-type", CLAUSE, got=str(number)) from error
    return name, shape, kind, reader.uint_le(8)


def _size(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    block_values, block_bytes = GGML_QUANT_SIZES[kind]
    if min(shape) < 1 or shape[-1] % block_values:
        raise Malformed("gguf-tensor-shape", f"{shape} does not fill blocks of {block_values}", clause=CLAUSE)
    return math.prod(shape) // block_values * block_bytes

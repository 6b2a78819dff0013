"""The GGUF reader: agrees with the gguf package on sound files, refuses every lying one."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.refusal import Malformed, Refused, Unsupported
from runtime.model import gguf_file
from runtime.model.gguf_file import GgufFile, parse_gguf
from tests.simulators.tiny_models import raw_gguf, raw_string, write_gguf

UINT32, STRING, ARRAY = 4, 8, 9


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return raw_string(name) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return raw_string(name) + sizes + struct.pack("<IQ", kind, offset)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path.read_bytes()


def agree(ours: GgufFile, theirs: gguf.GGUFReader) -> None:
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.metadata.keys() == fields.keys()
    for name, field in fields.items():
        value = field.contents()
        assert ours.metadata[name] == (tuple(value) if isinstance(value, list) else value)
    assert list(ours.tensors) == [each.name for each in theirs.tensors]
    for each in theirs.tensors:
        expected = gguf.quants.dequantize(each.data, each.tensor_type)
        np.testing.assert_array_equal(ours.tensor(each.name), expected)


def test_agrees_with_the_gguf_package_on_a_tiny_file(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(sound)
    agree(parse_gguf(sound), gguf.GGUFReader(path))


@pytest.mark.model
def test_agrees_with_the_gguf_package_on_the_embedded_model(smollm2_file: Path) -> None:
    """Every key, and every tensor value, of 135 million."""
    agree(parse_gguf(smollm2_file.read_bytes()), gguf.GGUFReader(smollm2_file))


LIES = {
    "gguf-magic": raw_gguf(magic=b"GGML"),
    "gguf-too-many-tensors": raw_gguf(tensors=1 << 60),
    "gguf-too-many-keys": raw_gguf(keys=1 << 60),
    "gguf-string-too-long": raw_gguf(keys=1, body=struct.pack("<Q", 1 << 62)),
    "gguf-array-too-long": raw_gguf(keys=1, body=key(b"a", ARRAY, struct.pack("<IQ", UINT32, 1 << 61))),
    "gguf-text": raw_gguf(keys=1, body=raw_string(b"\xff\xfe")),
    "gguf-value-type": raw_gguf(keys=1, body=key(b"a", 77, b"")),
    "gguf-duplicate-key": raw_gguf(keys=2, body=key(b"a", UINT32, bytes(4)) * 2),
    "gguf-duplicate-tensor": raw_gguf(tensors=2, body=tensor(b"t", (8,), 0, 0) * 2 + bytes(200)),
    "gguf-alignment": raw_gguf(keys=1, body=key(b"general.alignment", UINT32, struct.pack("<I", 3))),
    "gguf-tensor-place": raw_gguf(tensors=1, body=tensor(b"t", (8,), 0, 1 << 40)),
    "gguf-truncated": raw_gguf(keys=1, body=raw_string(b"a")),
}


@pytest.mark.parametrize("code", LIES)
def test_a_lying_header_is_refused(code: str) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_gguf(LIES[code])
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "body",
    [
        tensor(b"t", (), 0, 0),  # no dimension
        tensor(b"t", (1, 1, 1, 1, 1), 0, 0),  # five
        tensor(b"t", (0,), 0, 0),  # empty
        tensor(b"t", (31,), 3, 0),  # a part of a Q4_1 block
    ],
)
def test_a_tensor_of_no_possible_shape_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_gguf(raw_gguf(tensors=1, body=body + bytes(400)))
    assert refusal.value.code == "gguf-tensor-shape"


def test_a_tensor_that_overflows_64_bits_is_refused() -> None:
    """2^31 * 2^31 * 4 bytes would wrap to nothing in C."""
    with pytest.raises(Malformed) as refusal:
        parse_gguf(raw_gguf(tensors=1, body=tensor(b"t", (1 << 31, 1 << 31), 0, 0)))
    assert refusal.value.code == "gguf-tensor-place"


def test_a_tensor_off_the_alignment_is_refused() -> None:
    with pytest.raises(Malformed) as refusal:
        parse_gguf(raw_gguf(tensors=1, body=tensor(b"t", (1,), 0, 4) + bytes(100)))
    assert refusal.value.code == "gguf-tensor-place"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw_gguf(version=2), "gguf-version"),
        (raw_gguf(tensors=1, body=tensor(b"t", (8,), 9999, 0)), "gguf-tensor-type"),
    ],
)
def test_what_this_version_does_not_know_is_unsupported(data: bytes, code: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        parse_gguf(data)
    assert refusal.value.code == code


def test_an_encoding_that_cannot_be_expanded_is_unsupported() -> None:
    """Type 28 is F64, which the gguf package knows and does not expand."""
    file = parse_gguf(raw_gguf(tensors=1, body=tensor(b"t", (8,), 28, 0) + bytes(200)))
    with pytest.raises(Unsupported) as refusal:
        file.tensor("t")
    assert refusal.value.code == "gguf-tensor-type"


@pytest.mark.parametrize("kind", gguf.quants._type_traits)
def test_every_encoding_that_the_gguf_package_expands_is_read(kind: gguf.GGMLQuantizationType) -> None:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    body = tensor(b"t", (block * 2, 3), kind.value, 0)
    data = raw_gguf(tensors=1, body=body)
    data += bytes(-len(data) % 32) + bytes(size * 6)
    values = parse_gguf(data).tensor("t")
    assert values.shape == (3, block * 2)
    assert values.dtype == np.float32
    with pytest.raises(Malformed) as refusal:
        parse_gguf(data[:-1])
    assert refusal.value.code == "gguf-tensor-place"


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(Malformed) as refusal:
        parse_gguf(raw_gguf()).tensor("absent")
    assert refusal.value.code == "gguf-tensor-missing"


@pytest.mark.parametrize("kind", ["string", "integer", "number", "boolean", "strings", "integers"])
def test_keys_are_missing_or_mistyped_with_a_code(kind: str) -> None:
    mistyped = (
        key(b"k", STRING, raw_string(b"x")) if kind not in ("string", "strings") else key(b"k", 7, b"\x01")
    )
    file = parse_gguf(raw_gguf(keys=1, body=mistyped))
    for name, code in (("k", "gguf-key-type"), ("absent", "gguf-key-missing")):
        with pytest.raises(Malformed) as refusal:
            getattr(file, kind)(name)
        assert refusal.value.code == code


def test_a_truth_value_is_no_number_and_infinity_neither() -> None:
    body = key(b"b", 7, b"\x01") + key(b"f", 6, struct.pack("<f", float("inf")))
    file = parse_gguf(raw_gguf(keys=2, body=body))
    for name, kind in (("b", "integer"), ("b", "number"), ("f", "number")):
        with pytest.raises(Malformed):
            getattr(file, kind)(name)


def test_the_tokenizer_digest_covers_the_tokenizer_and_nothing_else(tmp_path: Path) -> None:
    digests = []
    for changes in ({}, {"llama.context_length": 64}, {"tokenizer.chat_template": "x"}):
        write_gguf(tmp_path / "m.gguf", changes=changes)
        digests.append(parse_gguf((tmp_path / "m.gguf").read_bytes()).tokenizer_digest)
    assert digests[0] == digests[1] != digests[2]


def test_every_truncation_of_the_description_is_refused(sound: bytes) -> None:
    data_start = min(info.offset for info in parse_gguf(sound).tensors.values())
    for size in (*range(0, data_start, 97), data_start, len(sound) - 1):
        with pytest.raises(Malformed):
            parse_gguf(sound[:size])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_corruption_leaks_another_error_than_a_refusal(sound: bytes, data: st.DataObject) -> None:
    """Up to eight bytes anywhere before the weights are replaced."""
    end = min(info.offset for info in parse_gguf(sound).tensors.values())
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refused):
        parse_gguf(bytes(damaged))


def test_repr_shows_sizes_only(sound: bytes) -> None:
    assert repr(parse_gguf(sound)).startswith("GgufFile(")
    assert "quick" not in repr(parse_gguf(sound))
    assert gguf_file.VERSION == 3

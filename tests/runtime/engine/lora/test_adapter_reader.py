"""Stock adapters are read as PEFT means them, and hostile ones are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attest.refusal import Malformed, Refused, Unsupported
from runtime.engine.lora.adapter import (
    BASE_DIGEST_MEMBER,
    CONFIG_NAME,
    TENSORS_NAME,
    Adapter,
    AdapterLimits,
    read_adapter,
    read_folder,
)
from runtime.engine.lora.shape import UNIT, BaseShape
from tests.simulators.peft_adapters import PREFIX, adapter_files, lora_tensors, peft_config, raw_tensors

BASE = "sha256:" + "0" * 64
Q0 = f"{PREFIX}.0.self_attn.q_proj"


def read(
    files: dict[str, Any],
    shape: BaseShape,
    *,
    dtype: torch.dtype = torch.float32,
    limits: AdapterLimits | None = None,
) -> Adapter:
    """Read for the test base."""
    return read_adapter(files, shape, base_model_digest=BASE, limits=limits or AdapterLimits(), dtype=dtype)


def linear_of(adapter: Adapter, shape: BaseShape, layer: int, target: str) -> Tensor:
    """The (outputs, inputs) change that an adapter makes to a linear; zeros if none."""
    group = next(each for each in shape.groups if target in each.targets)
    index = group.targets.index(target)
    width = group.outputs[index]
    total = torch.zeros(width, group.inputs)
    weights = adapter.weights.get(group.name)
    if weights is None:
        return total
    first = group.chunk_targets.index(index)
    for unit in range(weights.units):
        down = weights.down[layer, unit][:, index * UNIT : (index + 1) * UNIT].float()
        up = weights.up[layer, unit, first : first + width // group.chunk].float()
        total += up.transpose(1, 2).reshape(width, UNIT) @ down.T
    return total


@pytest.mark.parametrize("rank", [1, 4, 8, 12, 16, 64])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_an_adapter_changes_each_linear_as_peft_does(
    tiny_shape: BaseShape, rank: int, use_rslora: bool
) -> None:
    """B A times the scaling, for every layer and linear, whatever the rank."""
    tensors = lora_tensors(tiny_shape, rank)
    adapter = read(adapter_files(tensors, peft_config(rank, use_rslora=use_rslora)), tiny_shape)
    scaling = 2 * rank / (rank**0.5 if use_rslora else rank)
    assert (adapter.rank, adapter.modules) == (rank, 14)
    for layer in range(2):
        for target in (name for group in tiny_shape.groups for name in group.targets):
            name = f"{PREFIX}.{layer}.{target}.lora_"
            expected = scaling * tensors[f"{name}B.weight"] @ tensors[f"{name}A.weight"]
            torch.testing.assert_close(linear_of(adapter, tiny_shape, layer, target), expected)


def test_patterns_set_ranks_and_alphas_of_single_linears(tiny_shape: BaseShape) -> None:
    """By the end of a name or all of it, the first that fits."""
    tensors = lora_tensors(tiny_shape, 4, ranks={"q_proj": 10, "down_proj": 2})
    config = peft_config(
        4,
        lora_alpha=6,
        rank_pattern={"q_proj": 10, "mlp.down_proj": 2},
        alpha_pattern={"model.layers.1.self_attn.q_proj": 5.5, "q_proj": 30},
    )
    adapter = read(adapter_files(tensors, config), tiny_shape)
    for layer, target, scaling in (
        (0, "self_attn.q_proj", 3.0),
        (1, "self_attn.q_proj", 0.55),
        (0, "mlp.down_proj", 3.0),
        (1, "self_attn.k_proj", 1.5),
    ):
        name = f"{PREFIX}.{layer}.{target}.lora_"
        expected = scaling * tensors[f"{name}B.weight"] @ tensors[f"{name}A.weight"]
        torch.testing.assert_close(linear_of(adapter, tiny_shape, layer, target), expected)


def test_linears_that_are_not_adapted_are_left_alone(tiny_shape: BaseShape) -> None:
    """PEFT's usual targets are two of seven."""
    tensors = lora_tensors(tiny_shape, 4, targets=("q_proj", "v_proj"))
    config = peft_config(4, target_modules=["q_proj", "v_proj"])
    adapter = read(adapter_files(tensors, config), tiny_shape)
    assert adapter.weights.keys() == {"qkv"}
    assert not linear_of(adapter, tiny_shape, 0, "self_attn.k_proj").any()
    assert linear_of(adapter, tiny_shape, 0, "self_attn.v_proj").any()


def test_bfloat16_is_kept_where_scaling_is_exact(tiny_shape: BaseShape) -> None:
    """A power of two as scaling changes no mantissa; another would round, so float32 is taken."""
    tensors = lora_tensors(tiny_shape, 8, dtype=torch.bfloat16)
    exact = read(adapter_files(tensors, peft_config(8)), tiny_shape)
    rounding = read(adapter_files(tensors, peft_config(8, lora_alpha=12)), tiny_shape)
    assert exact.weights["o"].up.dtype == torch.bfloat16
    assert rounding.weights["o"].up.dtype == torch.float32
    name = f"{PREFIX}.1.self_attn.o_proj.lora_"
    product = tensors[f"{name}B.weight"].float() @ tensors[f"{name}A.weight"].float()
    torch.testing.assert_close(linear_of(exact, tiny_shape, 1, "self_attn.o_proj"), 2 * product)
    torch.testing.assert_close(linear_of(rounding, tiny_shape, 1, "self_attn.o_proj"), 1.5 * product)


def test_the_digest_is_of_what_the_adapter_computes(tiny_shape: BaseShape) -> None:
    """Order and members without effect do not count; each weight and the scaling do."""
    tensors = lora_tensors(tiny_shape, 4)
    digest = read(adapter_files(tensors, peft_config(4)), tiny_shape).digest
    backwards = dict(reversed(tensors.items()))
    same = adapter_files(backwards, peft_config(4, base_model_name_or_path="other", lora_dropout=0.5))
    assert read(same, tiny_shape).digest == digest
    scaled = adapter_files(tensors, peft_config(4, lora_alpha=9))
    changed = {name: tensor.clone() for name, tensor in tensors.items()}
    changed[f"{Q0}.lora_A.weight"][0, 0] += 1
    others = {
        read(scaled, tiny_shape).digest,
        read(adapter_files(changed, peft_config(4)), tiny_shape).digest,
        digest,
    }
    assert len(others) == 3


def test_a_bytearray_is_zeroised_after_reading(tiny_shape: BaseShape) -> None:
    """The file's bytes are as secret as the weights."""
    files: dict[str, Any] = adapter_files(lora_tensors(tiny_shape, 4), peft_config(4))
    data = bytearray(files[TENSORS_NAME])
    read({**files, TENSORS_NAME: data}, tiny_shape)
    assert not any(data)


def test_a_stated_base_must_be_this_one(tiny_shape: BaseShape) -> None:
    """Makers may bind an adapter to its base's digest in the tensors' metadata."""
    tensors, config = lora_tensors(tiny_shape, 4), peft_config(4)
    read(adapter_files(tensors, config, metadata={BASE_DIGEST_MEMBER: BASE}), tiny_shape)
    with pytest.raises(Refused, match="adapter-wrong-base"):
        read(adapter_files(tensors, config, metadata={BASE_DIGEST_MEMBER: "sha256:ff"}), tiny_shape)


@pytest.mark.parametrize(
    ("kind", "code", "changes"),
    [
        (Unsupported, "adapter-type", {"peft_type": "IA3"}),
        (Unsupported, "adapter-type", {"peft_type": ["LORA"]}),
        (Unsupported, "adapter-technique", {"use_dora": True}),
        (Unsupported, "adapter-technique", {"modules_to_save": ["lm_head"]}),
        (Unsupported, "adapter-technique", {"fan_in_fan_out": True}),
        (Unsupported, "adapter-technique", {"bias": "all"}),
        (Unsupported, "adapter-technique", {"a_member_of_next_year": 0.5}),
        (Unsupported, "adapter-init-changes-base", {"init_lora_weights": "pissa"}),
        (Unsupported, "adapter-init-changes-base", {"init_lora_weights": []}),
        (Unsupported, "adapter-pattern", {"rank_pattern": {"(a+)+$": 4}}),
        (Malformed, "adapter-config-type", {"rank_pattern": [4]}),
        (Malformed, "adapter-config-type", {"r": 4.0}),
        (Malformed, "adapter-config-type", {"r": True}),
        (Malformed, "adapter-config-type", {"lora_alpha": "8"}),
        (Malformed, "adapter-config-type", {"lora_alpha": 1e30}),
        (Malformed, "adapter-config-type", {"use_rslora": 1}),
        (Malformed, "adapter-config-type", {"target_modules": [1]}),
        (Malformed, "adapter-rank-zero", {"r": 0}),
        (Malformed, "adapter-rank-zero", {"rank_pattern": {"q_proj": -1}}),
        (Refused, "adapter-rank", {"r": 8}),
        (Refused, "adapter-module-untargeted", {"target_modules": ["q_proj"]}),
    ],
)
def test_a_configuration_that_means_something_else_is_refused(
    tiny_shape: BaseShape, kind: type[Refused], code: str, changes: dict[str, Any]
) -> None:
    """Each by its code, and of its kind."""
    files = adapter_files(lora_tensors(tiny_shape, 4), peft_config(4, **changes))
    with pytest.raises(kind) as caught:
        read(files, tiny_shape)
    assert (caught.value.code, type(caught.value)) == (code, kind)


@pytest.mark.parametrize(
    ("code", "config"),
    [
        ("adapter-config-type", b"[]"),
        ("adapter-config-not-json", b"{"),
        ("adapter-config-bad-number", b'{"lora_alpha": NaN}'),
        ("adapter-config-duplicate-member", b'{"r": 4, "r": 64}'),
        ("adapter-config-too-large", b'{"r": "' + b"4" * (1 << 20) + b'"}'),
        ("adapter-config-too-deep", b'{"r": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ],
)
def test_a_configuration_that_is_none_is_refused(tiny_shape: BaseShape, code: str, config: bytes) -> None:
    """By the strict reader's codes."""
    files = adapter_files(lora_tensors(tiny_shape, 4), peft_config(4))
    with pytest.raises(Malformed) as caught:
        read({**files, CONFIG_NAME: config}, tiny_shape)
    assert caught.value.code == code


def _without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def _with(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__setitem__(name, tensor)


def _filled(value: float) -> Tensor:
    tensor = torch.zeros(4, 32)
    tensor[3, 31] = value
    return tensor


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("adapter-pair-incomplete", _without(f"{Q0}.lora_A.weight")),
        ("adapter-pair-incomplete", _without(f"{Q0}.lora_B.weight")),
        ("adapter-module-unknown", _with(f"{PREFIX}.2.self_attn.q_proj.lora_A.weight", torch.ones(4, 32))),
        ("adapter-module-unknown", _with("base_model.model.lm_head.lora_A.weight", torch.ones(4, 32))),
        ("adapter-module-unknown", _with(f"{PREFIX}.0.self_attn.qq_proj.lora_A.weight", torch.ones(4, 32))),
        ("adapter-module-unknown", _with(f"{Q0}.lora_magnitude_vector", torch.ones(32))),
        ("adapter-shape", _with(f"{Q0}.lora_A.weight", torch.ones(4, 33))),
        ("adapter-shape", _with(f"{Q0}.lora_B.weight", torch.ones(31, 4))),
        ("adapter-shape", _with(f"{Q0}.lora_B.weight", torch.ones(32, 5))),
        ("adapter-shape", _with(f"{Q0}.lora_A.weight", torch.ones(128))),
        ("adapter-rank-zero", _with(f"{Q0}.lora_A.weight", torch.ones(0, 32))),
        ("adapter-rank-limit", _with(f"{Q0}.lora_A.weight", torch.ones(65, 32))),
        ("adapter-not-finite", _with(f"{Q0}.lora_A.weight", _filled(float("nan")))),
        ("adapter-not-finite", _with(f"{Q0}.lora_A.weight", _filled(float("inf")))),
        ("adapter-not-finite", _with(f"{Q0}.lora_A.weight", _filled(float("-inf")))),
        ("adapter-not-finite", _with(f"{Q0}.lora_B.weight", _filled(3e38).T.contiguous())),
        ("adapter-tensors-dtype", _with(f"{Q0}.lora_A.weight", torch.ones(4, 32, dtype=torch.int64))),
        ("adapter-empty", dict.clear),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tiny_shape: BaseShape, code: str, change: Callable[[dict[str, Tensor]], None]
) -> None:
    """Each by its code."""
    tensors = lora_tensors(tiny_shape, 4)
    change(tensors)
    with pytest.raises(Refused) as caught:
        read(adapter_files(tensors, peft_config(4)), tiny_shape)
    assert caught.value.code == code


ENTRY = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("adapter-tensors-header", b"\x01"),
        ("adapter-tensors-header", b"\xff" * 64),
        ("adapter-tensors-header", raw_tensors("[]", b"")),
        ("adapter-tensors-header", raw_tensors({"__metadata__": {"a": 1}}, b"")),
        ("adapter-tensors-not-json", raw_tensors("{", b"")),
        ("adapter-tensors-duplicate-member", raw_tensors('{"a":1,"a":2}', b"")),
        ("adapter-tensors-members", raw_tensors({"a": {**ENTRY, "more": 1}}, bytes(8))),
        ("adapter-tensors-entry", raw_tensors({"a": {**ENTRY, "shape": [-1, -2]}}, bytes(8))),
        ("adapter-tensors-entry", raw_tensors({"a": {**ENTRY, "shape": [True, 2]}}, bytes(8))),
        ("adapter-tensors-entry", raw_tensors({"a": {**ENTRY, "data_offsets": [0, 4, 8]}}, bytes(8))),
        ("adapter-tensors-offsets", raw_tensors({"a": {**ENTRY, "shape": [1, 3]}}, bytes(8))),
        ("adapter-tensors-offsets", raw_tensors({"a": ENTRY, "b": ENTRY}, bytes(16))),
        ("adapter-tensors-offsets", raw_tensors({"a": ENTRY}, bytes(9))),
        ("adapter-tensors-offsets", raw_tensors({"a": ENTRY}, bytes(7))),
        ("adapter-tensors-offsets", raw_tensors('{  "a":' + json.dumps(ENTRY) + "}", bytes(8))),
        ("adapter-tensors-dtype", raw_tensors({"a": {**ENTRY, "dtype": "F64"}}, bytes(8))),
        ("adapter-tensors-dtype", raw_tensors({"a": {**ENTRY, "dtype": ["F32"]}}, bytes(8))),
    ],
)
def test_a_container_that_two_readers_might_read_differently_is_refused(
    tiny_shape: BaseShape, code: str, data: bytes
) -> None:
    """Duplicates, overlaps, gaps, and entries that are no entries."""
    with pytest.raises(Refused) as caught:
        read({CONFIG_NAME: json.dumps(peft_config(4)).encode(), TENSORS_NAME: data}, tiny_shape)
    assert caught.value.code == code


def test_more_than_the_limits_is_refused(tiny_shape: BaseShape) -> None:
    """Rank and size, as configured."""
    files = adapter_files(lora_tensors(tiny_shape, 4), peft_config(4))
    with pytest.raises(Refused, match="adapter-rank-limit"):
        read(files, tiny_shape, limits=AdapterLimits(max_rank=3))
    with pytest.raises(Refused, match="adapter-too-large"):
        read(files, tiny_shape, limits=AdapterLimits(max_bytes=len(files[TENSORS_NAME]) - 1))


def test_folders_hold_two_files_and_no_pickle(tiny_shape: BaseShape, tmp_path: Path) -> None:
    """What PEFT saves is read; weights in a pickle are refused beside safe ones too."""
    files = adapter_files(lora_tensors(tiny_shape, 4), peft_config(4))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert read(read_folder(tmp_path, AdapterLimits()), tiny_shape).digest == read(files, tiny_shape).digest
    with pytest.raises(Refused, match="adapter-too-large"):
        read_folder(tmp_path, AdapterLimits(max_bytes=100))
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(Unsupported, match="adapter-pickle"):
        read_folder(tmp_path, AdapterLimits())
    with pytest.raises(Unsupported, match="adapter-pickle"):
        read({**files, "adapter_model.bin": b"\x80\x04"}, tiny_shape)


def test_files_that_are_missing_are_refused(tiny_shape: BaseShape, tmp_path: Path) -> None:
    """In a folder, or among bytes; a folder in a file's place is no file."""
    with pytest.raises(Refused, match="adapter-not-found"):
        read_folder(tmp_path, AdapterLimits())
    (tmp_path / CONFIG_NAME).mkdir()
    with pytest.raises(Refused, match="adapter-not-found"):
        read_folder(tmp_path, AdapterLimits())
    with pytest.raises(Refused, match="adapter-not-found"):
        read({CONFIG_NAME: b"{}"}, tiny_shape)

"""Whatever bytes come, the reader gives an adapter or a refusal."""

from __future__ import annotations

import json
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.refusal import Refused
from runtime.engine.lora.adapter import CONFIG_NAME, TENSORS_NAME, AdapterLimits, read_adapter
from runtime.engine.lora.config import parse_config
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.tensors import parse_tensors
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(cuts=st.lists(st.tuples(st.integers(0, 6000), st.binary(max_size=3)), min_size=1, max_size=3))
def test_damaged_files(tiny_shape: BaseShape, cuts: list[tuple[int, bytes]]) -> None:
    """Bytes overwritten in the header, where the structure is, or anywhere in a small file."""
    files = adapter_files(lora_tensors(tiny_shape, 1, targets=("q_proj",)), peft_config(1))
    data = bytearray(files[TENSORS_NAME])
    for anywhere, change in cuts:
        place = anywhere % len(data)
        data[place : place + len(change)] = change
    try:
        adapter = read_adapter(
            {**files, TENSORS_NAME: data},
            tiny_shape,
            base_model_digest="",
            limits=AdapterLimits(),
            dtype=torch.float32,
        )
    except Refused:
        return
    assert all(bool(torch.isfinite(each.up).all()) for each in adapter.weights.values())


@settings(max_examples=150)
@given(changes=st.dictionaries(st.sampled_from([*peft_config(4), "unheard_of"]), json_values, max_size=4))
def test_odd_configurations(changes: dict[str, Any]) -> None:
    """Members of any type: what is accepted has a scaling for every module."""
    try:
        config = parse_config(json.dumps(peft_config(4, **changes)).encode())
    except Refused:
        return
    assert abs(config.scaling_of("model.layers.0.self_attn.q_proj")) <= 1e6
    assert config.rank_of("model.layers.0.self_attn.q_proj") >= 1


@settings(max_examples=150)
@given(header=json_values | st.dictionaries(st.text(max_size=4), json_values), body=st.binary(max_size=16))
def test_odd_headers(header: Any, body: bytes) -> None:
    """Any JSON as a header, then any bytes."""
    text = json.dumps(header).encode()
    try:
        content = parse_tensors(bytearray(len(text).to_bytes(8, "little") + text + body))
    except Refused:
        return
    assert sum(tensor.nbytes for tensor in content.tensors.values()) == len(body)


def test_the_fuzzed_file_is_sound_when_untouched(tiny_shape: BaseShape) -> None:
    """So that the damage is what is refused."""
    files = adapter_files(lora_tensors(tiny_shape, 1, targets=("q_proj",)), peft_config(1))
    assert set(files) == {CONFIG_NAME, TENSORS_NAME}
    adapter = read_adapter(
        files, tiny_shape, base_model_digest="", limits=AdapterLimits(), dtype=torch.float32
    )
    assert adapter.modules == 2

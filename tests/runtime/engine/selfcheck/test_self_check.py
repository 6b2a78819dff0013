"""An engine that computes something else than the model says is refused, in every weight mode."""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from runtime import cli
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.run import model as runner_module
from runtime.engine.run import weights as weights_module
from runtime.engine.run.model import LlamaRunner
from runtime.engine.run.native import decoder as native_module
from runtime.engine.run.native.decoder import NativeRunner
from runtime.engine.run.native.linear import NativeLinear
from runtime.engine.run.norm import RmsNorm
from runtime.engine.run.runner import Kernels, load_runner
from runtime.engine.run.weights import WEIGHT_MODES, Int8Linear, WeightMode
from runtime.engine.selfcheck import check as check_module
from runtime.engine.selfcheck.check import SelfCheck, fixed_prompts, self_check
from runtime.engine.selfcheck.failure import SelfCheckFailed
from runtime.engine.selfcheck.plan import Plan
from runtime.engine.selfcheck.reference import Reference, ReferenceSource
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import open_model
from runtime.model.rope import rope_frequencies
from tests.simulators.tiny_models import save_folder, tiny_config

PAGE_SIZE = 8


@dataclasses.dataclass
class Loaded:
    """A runner, and what is to come out of it."""

    runner: Any
    reference: Reference
    digest: str

    def check(self) -> SelfCheck:
        """Of the runner as it is now."""
        return self_check(self.runner, self.reference, page_size=PAGE_SIZE, base_model_digest=self.digest)


def load(folder: Path, mode: WeightMode, kernels: Kernels = "auto") -> Loaded:
    opened = open_model(folder)
    prompts = fixed_prompts(opened.tokenizer, opened.context_length)
    source = ReferenceSource(opened.weights, opened.architecture, prompts)
    with torch.inference_mode():
        runner = load_runner(opened.architecture, source, mode, kernels=kernels)
        reference = copy.deepcopy(source.finish())  # float32 norms are otherwise the runner's own
        return Loaded(runner, reference, opened.base_model_digest)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for family in ("llama", "qwen2", "qwen3"):
        made[family] = tmp_path_factory.mktemp(family)
        save_folder(made[family], tiny_config(family))
    return made


@pytest.mark.parametrize("mode", WEIGHT_MODES)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_sound_engine_passes_and_says_so_alike_each_time(
    folders: dict[str, Path], family: str, mode: WeightMode, kernels: Kernels
) -> None:
    first, again = (load(folders[family], mode, kernels).check() for _ in range(2))
    assert first.digest == again.digest
    assert 0 <= first.figures.worst_error < 0.5


def test_the_digest_names_the_weight_mode_and_the_model(folders: dict[str, Path]) -> None:
    digests = {load(folder, mode).check().digest for folder in folders.values() for mode in WEIGHT_MODES}
    assert len(digests) == 9


def test_the_plan_covers_every_row_once_with_pieces_and_decoding(
    folders: dict[str, Path], kernels: Kernels
) -> None:
    loaded = load(folders["llama"], "float32", kernels)
    prompts = loaded.reference.prompts
    plan = Plan(prompts, PAGE_SIZE)
    steps = list(plan.steps(loaded.runner, plan.cache(loaded.runner)))
    rows = torch.cat([rows for rows, _ in steps])
    assert sorted(rows.tolist()) == list(range(sum(map(len, prompts))))
    tokens = torch.tensor([token for prompt in prompts for token in prompt])
    mixed, decoding = steps[1][1], steps[2][1]
    for rows, batch in steps:
        made = batch.token_ids if kernels == "torch" else torch.from_numpy(batch.tokens)
        assert torch.equal(made, tokens[rows])
    if kernels == "native":
        assert len(mixed.piece_rows) - 1 == len(prompts) < mixed.rows
        assert decoding.rows == len(prompts)
        return
    assert mixed.groups
    assert mixed.chunks[0].pages is not None
    assert not decoding.chunks


# -- what may break under torch --------------------------------------------------------------------------


def _block(runner: LlamaRunner, layer: int, **changes: Any) -> None:
    runner._blocks[layer] = dataclasses.replace(runner._blocks[layer], **changes)


class _Bent:
    """A product or a norm whose outputs are changed on the way."""

    def __init__(self, linear: Any, bend: Callable[[Tensor], Tensor]) -> None:
        self._linear, self._bend = linear, bend

    def __call__(self, rows: Tensor) -> Tensor:
        return self._bend(self._linear(rows))


def _wrong_theta(runner: LlamaRunner) -> None:
    shape = runner.architecture
    runner._frequencies = rope_frequencies(dataclasses.replace(shape, rope_theta=shape.rope_theta * 2))


def _swapped_layers(runner: LlamaRunner) -> None:
    runner._blocks[0], runner._blocks[1] = runner._blocks[1], runner._blocks[0]


def _damaged_weight(runner: LlamaRunner) -> None:
    def zeroed(y: Tensor) -> Tensor:
        y[:, 3] = 0
        return y

    _block(runner, 1, down=_Bent(runner._blocks[1].down, zeroed))


def _scaled_weight(runner: LlamaRunner) -> None:
    _block(runner, 2, output=_Bent(runner._blocks[2].output, lambda y: y * 2))


def _permuted_packing(runner: LlamaRunner) -> None:
    _block(runner, 0, gate_up=_Bent(runner._blocks[0].gate_up, lambda y: y.roll(1, dims=1)))


def _reversed_head(runner: LlamaRunner) -> None:
    runner._head = _Bent(runner._head, lambda y: y.flip(1))


def _lost_norm(runner: LlamaRunner) -> None:
    shape = runner.architecture
    weight = torch.ones(shape.hidden_size, dtype=runner.dtype)
    _block(runner, 1, mlp_norm=RmsNorm(weight, shape.rms_eps))


def _wrong_embedding(runner: LlamaRunner) -> None:
    runner._embedding = runner._embedding.roll(1, dims=0)


def _not_a_number(runner: LlamaRunner) -> None:
    _block(runner, 2, qkv=_Bent(runner._blocks[2].qkv, lambda y: y * float("nan")))


def _last_norm(runner: LlamaRunner) -> None:
    runner._norm = _Bent(runner._norm, lambda y: y.flip(1) * 3)


def _one_endless_row(runner: LlamaRunner) -> None:
    def bent(y: Tensor) -> Tensor:
        y[0] = float("inf")
        return y

    runner._norm = _Bent(runner._norm, bent)


def _logits_that_fail_later(runner: Any) -> None:
    """After the products were checked one by one, for rows whose tokens are nearly tied."""
    calls = iter(range(2))

    def bent(y: Tensor) -> Tensor:
        return y * float("nan") if next(calls, 1) else y

    runner._head = _Bent(runner._head, bent)


# -- and in Sealgate's own kernels ------------------------------------------------------------------------


def _panels_of(linear: NativeLinear) -> Tensor:
    """(panels, ..., 16, ...) with the outputs in dimension 2."""
    return linear._panels


def _native_wrong_theta(runner: NativeRunner) -> None:
    shape = runner.architecture
    runner._frequencies.copy_(rope_frequencies(dataclasses.replace(shape, rope_theta=shape.rope_theta * 2)))


def _native_swapped_layers(runner: NativeRunner) -> None:
    """Only as the kernels see them: each product by itself is right."""
    structs = runner._structs
    first = type(structs[0]).from_buffer_copy(structs[0])
    structs[0], structs[1] = structs[1], first


def _native_damaged_weight(runner: NativeRunner) -> None:
    _panels_of(runner._blocks[1].down)[0, :, 3] = 0


def _native_scaled_weight(runner: NativeRunner) -> None:
    output = runner._blocks[2].output
    (output._scales if runner.mode == "int8" else output._panels).mul_(2)


def _native_permuted_packing(runner: NativeRunner) -> None:
    panels = _panels_of(runner._blocks[0].gate_up)
    panels.copy_(panels.roll(1, dims=2))


def _native_swapped_columns(runner: NativeRunner) -> None:
    panels = _panels_of(runner._blocks[0].qkv)
    panels.copy_(panels.flip(1))


def _native_reversed_head(runner: NativeRunner) -> None:
    panels = _panels_of(runner._head)
    panels.copy_(panels.flip(0))


def _native_lost_norm(runner: NativeRunner) -> None:
    runner._blocks[1].mlp_norm.fill_(1)


def _native_wrong_embedding(runner: NativeRunner) -> None:
    runner._embedding.copy_(runner._embedding.roll(1, dims=0))


def _native_not_a_number(runner: NativeRunner) -> None:
    qkv = runner._blocks[2].qkv
    (qkv._scales if runner.mode == "int8" else qkv._panels).fill_(float("nan"))


def _native_last_norm(runner: NativeRunner) -> None:
    runner._last_norm.mul_(3)


def _native_one_endless_row(runner: NativeRunner) -> None:
    def bent(y: Tensor) -> Tensor:
        y[0] = float("inf")
        return y

    runner._normalised = _Bent(runner._normalised, bent)  # type: ignore[method-assign]  # the fault


FAULTS = {
    "torch": [
        *(_wrong_theta, _swapped_layers, _damaged_weight, _scaled_weight, _permuted_packing),
        *(_reversed_head, _lost_norm, _wrong_embedding, _not_a_number, _last_norm),
        *(_one_endless_row, _logits_that_fail_later),
    ],
    "native": [
        *(_native_wrong_theta, _native_swapped_layers, _native_damaged_weight, _native_scaled_weight),
        *(_native_permuted_packing, _native_swapped_columns, _native_reversed_head, _native_lost_norm),
        *(_native_wrong_embedding, _native_not_a_number, _native_last_norm, _native_one_endless_row),
        _logits_that_fail_later,
    ],
}


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_a_fault_after_loading_is_found(folders: dict[str, Path], mode: WeightMode, kernels: Kernels) -> None:
    """Each in a runner of its own that was sound before."""
    missed = []
    for fault in FAULTS[kernels]:
        loaded = load(folders["llama"], mode, kernels)
        loaded.check()
        with torch.inference_mode():
            fault(loaded.runner)
        try:
            loaded.check()
        except SelfCheckFailed:
            continue
        missed.append(fault.__name__)
    assert not missed


def _zeroed(folder: Path, *names: str) -> Path:
    """The folder with these weights all zeros."""
    tensors = load_file(folder / "model.safetensors")
    for name in names:
        tensors[f"model.layers.{name}.weight"].zero_()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_products_of_nothing_are_right_if_they_are_nothing(
    tmp_path: Path, mode: WeightMode, kernels: Kernels
) -> None:
    """A model may have projections that are all zeros: 0 of 0 is no deviation, all else is."""
    save_folder(tmp_path, tiny_config("llama"))
    whole_block = ("1.self_attn.o_proj", "1.mlp.down_proj")
    products = (*(f"2.self_attn.{part}_proj" for part in "qkv"), "2.mlp.gate_proj", "2.mlp.up_proj")
    folder = _zeroed(tmp_path, *whole_block, *products)
    loaded = load(folder, mode, kernels)
    assert math.isfinite(loaded.check().figures.worst_error)
    for layer, name in ((1, "down"), (2, "gate_up")):
        sound = getattr(loaded.runner._blocks[layer], name)
        _block(loaded.runner, layer, **{name: _Bent(sound, lambda y: y + 1e-12)})
        with pytest.raises(SelfCheckFailed, match=f"product {layer}.{name} is off by inf"):
            loaded.check()
        _block(loaded.runner, layer, **{name: sound})
    _block(loaded.runner, 0, down=_Bent(loaded.runner._blocks[0].down, torch.zeros_like))
    with pytest.raises(SelfCheckFailed, match=r"product 0\.down is off by 1,"):
        loaded.check()


def test_a_head_of_nothing_likes_no_token_better(tmp_path: Path) -> None:
    save_folder(tmp_path, tiny_config("llama", tie_word_embeddings=False))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"].zero_()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = load(tmp_path, "float32")
    loaded.check()
    assert set(loaded.reference.margins) == {0.0}


def test_int8_scales_off_by_two_are_found(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight was laid out by twice as many steps as the kernel takes it for."""

    class Miscounted(Int8Linear):
        def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
            super().__init__(weight * 2, bias)

    monkeypatch.setattr(weights_module, "Int8Linear", Miscounted)
    with pytest.raises(SelfCheckFailed, match="product"):
        load(folders["llama"], "int8", "torch").check()


def test_a_mask_that_lets_the_future_in_is_found(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that are read too far, say: every product is right, and the block is not."""
    sound = LlamaRunner.prepare

    def peeking(self: LlamaRunner, step: Any, cache: Any) -> Any:
        chunks = tuple(
            dataclasses.replace(each, mask=None if each.mask is None else torch.zeros_like(each.mask))
            for each in step.chunks
        )
        return sound(self, dataclasses.replace(step, chunks=chunks), cache)

    loaded = load(folders["qwen2"], "float32", "torch")
    monkeypatch.setattr(LlamaRunner, "prepare", peeking)
    with pytest.raises(SelfCheckFailed, match="block 0"):
        loaded.check()


@pytest.mark.usefixtures("native")
def test_pages_in_the_wrong_order_are_found(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the kernels' steps after the first: what was kept is looked for elsewhere."""
    sound = NativeRunner.prepare

    def elsewhere(self: NativeRunner, step: Any, cache: Any) -> Any:
        if step.positions[0] > 0:
            first, end = step.piece_pages[-2:]
            step.pages[first:end] = step.pages[first:end][::-1]
        return sound(self, step, cache)

    loaded = load(folders["qwen2"], "float32", "native")
    monkeypatch.setattr(NativeRunner, "prepare", elsewhere)
    with pytest.raises(SelfCheckFailed, match="block 0"):
        loaded.check()


def test_what_was_recorded_of_a_pinned_model_must_come_out(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both decoders may be wrong alike, and the tokenizer another: the record tells."""
    loaded = load(folders["qwen3"], "float32")
    sound = loaded.check().digest
    monkeypatch.setattr(check_module, "RECORDED", {loaded.digest: {"float32": sound}})
    loaded.check()
    monkeypatch.setattr(check_module, "RECORDED", {loaded.digest: {"float32": sound[:-1] + "g"}})
    with pytest.raises(SelfCheckFailed, match="digest"):
        loaded.check()


def test_the_engine_states_what_it_passed(folders: dict[str, Path]) -> None:
    settings = EngineSettings(mode="bf16", kv_bytes=1 << 20, page_size=PAGE_SIZE)
    engine = ChunkedEngine(open_model(folders["llama"]), settings)
    assert engine.info.self_check == load(folders["llama"], "bf16").check().digest
    figures = engine.stats().telemetry
    assert figures is not None
    assert figures.self_check is not None
    assert figures.self_check.seconds > 0


def test_a_runtime_that_fails_ends_with_a_fault_and_never_listens(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole command: exit code 1, the reason on standard error, no ready line."""
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path))
    sound = runner_module.rotation
    monkeypatch.setattr(runner_module, "rotation", lambda where, turns, dtype: sound(where, turns / 2, dtype))
    monkeypatch.setattr(native_module, "rope_frequencies", lambda shape: rope_frequencies(shape) / 2)
    arguments = ["serve", "--dev", "--model", str(folders["llama"]), "--port", "0"]
    monkeypatch.setattr(sys, "argv", ["runtime", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    assert ended.value.code == 1
    assert "engine-self-check-failed" in output.err
    assert output.out == ""


@pytest.mark.model
@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_the_embedded_model_gives_what_was_recorded(
    smollm2_file: Path, mode: WeightMode, kernels: Kernels
) -> None:
    """The record is of this file, no token is nearly tied, and the worst deviation is far from its bound."""
    loaded = load(smollm2_file, mode, kernels)
    assert loaded.digest in check_module.RECORDED
    assert min(loaded.reference.margins) > 0.02
    assert loaded.check().figures.worst_error < 0.7

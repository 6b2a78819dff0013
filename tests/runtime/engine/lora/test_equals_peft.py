"""The same adapter gives what PEFT gives: logits within rounding, greedy tokens equal.

The adapters are made, saved and run by PEFT itself; here all of them share every step.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables, Placed
from runtime.engine.run.runner import Kernels, load_runner
from runtime.model.loaded import OpenModel, open_model
from tests.simulators.lora_runs import Run, greedy
from tests.simulators.tiny_models import save_folder, tiny_config

ALL = "all-linear"
TINY_KINDS: list[dict[str, Any]] = [
    {"r": 8, "target_modules": ALL},
    {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    {"r": 64, "target_modules": ALL, "use_rslora": True},
    {"r": 1, "target_modules": ["down_proj"], "lora_alpha": 3},
    {"r": 16, "target_modules": ["o_proj", "gate_proj", "k_proj"], "bias": "none"},
    {"r": 5, "target_modules": ALL, "rank_pattern": {"q_proj": 12, "layers.1.mlp.down_proj": 2}},
    {"r": 8, "target_modules": ALL, "alpha_pattern": {"v_proj": 40}, "use_rslora": True},
    {"r": 8, "target_modules": r".*\.(up|gate)_proj", "layers_to_transform": None},
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine several wait for one another longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Peft:
    """A base model under PEFT with adapters ``a0``, ``a1``, ... of the given kinds."""

    def __init__(self, base: Any, kinds: list[dict[str, Any]], **common: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            configs = [peft.LoraConfig(**{"lora_alpha": 16, **common, **kind}) for kind in kinds]
            self.model: Any = peft.get_peft_model(base, configs[0], adapter_name="a0")
            for index, config in enumerate(configs[1:], 1):
                self.model.add_adapter(f"a{index}", config)
        self.count = len(kinds)

    def save(self, folder: Path) -> list[Path]:
        """Each adapter's folder, by PEFT's own writer."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.save_pretrained(str(folder))
        return [folder / f"a{index}" for index in range(self.count)]

    def logits(self, index: int, tokens: list[int]) -> Tensor:
        """(tokens, vocabulary) with one adapter."""
        self.model.set_adapter(f"a{index}")
        with torch.inference_mode():
            logits: Tensor = self.model(torch.tensor([tokens])).logits[0]
        return logits


class Ours:
    """The same adapters, placed for a runner of the same base."""

    def __init__(self, opened: OpenModel, folders: list[Path], units: int, kernels: Kernels = "auto") -> None:
        self.runner = load_runner(opened.architecture, opened.weights, "float32", kernels=kernels)
        self.tables = LoraTables(BaseShape.of(opened.architecture), units, self.runner.adapter_dtype)
        self.store = AdapterStore(
            self.tables, base_model_digest=opened.base_model_digest, budget_bytes=1 << 30
        )
        digests = [self.store.register_folder(folder, tenant="t") for folder in folders]
        self.placed: list[Placed] = [
            self.store.acquire(digest, tenant="t").future.result(60) for digest in digests
        ]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("chunk", [5, 1 << 30])
def test_every_kind_of_adapter_in_one_batch(
    tmp_path: Path, family: str, chunk: int, kernels: Kernels
) -> None:
    """Ranks 1 to 64, any targets, patterns, rsLoRA; prompts cut in chunks or whole; the base among them."""
    base = save_folder(tmp_path / "base", tiny_config(family))
    torch.manual_seed(11)
    peer = Peft(base, TINY_KINDS, init_lora_weights=False)
    ours = Ours(open_model(tmp_path / "base"), peer.save(tmp_path), units=40, kernels=kernels)
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(3, 300, (length,), generator=generator).tolist() for length in (3, 40, 9, 70)]
    runs = [Run(prompts[index % 4], placed) for index, placed in enumerate([*ours.placed, None])]
    for index, (run, result) in enumerate(
        zip(runs, greedy(ours.runner, ours.tables, runs, 12, chunk), strict=True)
    ):
        sequence = [*run.prompt, *result.tokens]
        if run.adapter is None:
            with peer.model.disable_adapter():
                expected = peer.logits(0, sequence)[len(run.prompt) - 1 : -1]
        else:
            expected = peer.logits(index, sequence)[len(run.prompt) - 1 : -1]
        torch.testing.assert_close(result.logits, expected, atol=2e-3, rtol=1e-4)
        assert expected.argmax(-1).tolist() == result.tokens
    ours.store.close()


def test_the_adapters_matter(tmp_path: Path) -> None:
    """Each kind's first logits differ from the base's and the others': the equality above says something."""
    base = save_folder(tmp_path / "base", tiny_config("llama"))
    torch.manual_seed(11)
    ours = Ours(
        open_model(tmp_path / "base"),
        Peft(base, TINY_KINDS, init_lora_weights=False).save(tmp_path),
        units=40,
    )
    runs = [Run([7, 8, 9], placed) for placed in [*ours.placed, None]]
    first = [result.logits[0] for result in greedy(ours.runner, ours.tables, runs, 1)]
    for index, logits in enumerate(first):
        for other in first[:index]:
            assert (logits - other).abs().max() > 0.05
    ours.store.close()


TRAINED = 21
STEPS = 4


@pytest.mark.slow
@pytest.mark.model
def test_twenty_one_trained_adapters_answer_as_under_peft(
    smollm2_file: Path, shared: Path, tmp_path: Path
) -> None:
    """Trained on bank customers' questions, ranks 4 to 16, all in the same steps of the embedded model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = transformers.AutoModelForCausalLM.from_pretrained(
            smollm2_file.parent, gguf_file=smollm2_file.name, dtype=torch.float32
        )
    targets: list[Any] = [ALL, ["q_proj", "v_proj"], ["o_proj", "down_proj"]]
    kinds = [
        {
            "r": (4, 8, 16)[index % 3],
            "target_modules": targets[index // 3 % 3],
            "use_rslora": index % 2 == 1,
        }
        for index in range(TRAINED)
    ]
    peer = Peft(base, kinds)
    opened = open_model("smollm2")
    texts = questions(shared)
    for index in range(TRAINED):
        train(peer.model, f"a{index}", [opened.tokenizer.encode(text)[:40] for text in texts[index::TRAINED]])
    peer.model.eval()
    ours = Ours(opened, peer.save(tmp_path), units=2 * TRAINED)
    prompts = [opened.tokenizer.encode(texts[index].split("\n")[0] + "\n") for index in range(TRAINED)]
    runs = [Run(prompt, placed) for prompt, placed in zip(prompts, ours.placed, strict=True)]
    plain = greedy(ours.runner, ours.tables, [Run(prompt, None) for prompt in prompts], 12)
    results = greedy(ours.runner, ours.tables, runs, 12, chunk=16)
    for index, (run, result) in enumerate(zip(runs, results, strict=True)):
        expected = peer.logits(index, [*run.prompt, *result.tokens])[len(run.prompt) - 1 : -1]
        torch.testing.assert_close(result.logits, expected, atol=2e-2, rtol=1e-3)
        assert expected.argmax(-1).tolist() == result.tokens, f"adapter {index}"
    changed = sum(a.tokens != b.tokens for a, b in zip(plain, results, strict=True))
    assert changed > TRAINED // 2
    ours.store.close()


def questions(shared: Path) -> list[str]:
    """Questions with their category, a like mix for each adapter."""
    with (shared / "data" / "banking77" / "train.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:: 10003 // (TRAINED * STEPS * 4)]
    return [f"{row['text']}\ncategory: {row['category']}" for row in rows]


def train(model: Any, name: str, examples: list[list[int]]) -> None:
    """A few steps on a few questions: enough to answer otherwise than the base."""
    model.set_adapter(name)
    model.train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=5e-3)
    for step in range(STEPS):
        batch = examples[step * 4 : step * 4 + 4]
        width = max(map(len, batch))
        ids = torch.tensor([each + [0] * (width - len(each)) for each in batch])
        labels = torch.tensor([each + [-100] * (width - len(each)) for each in batch])
        loss = model(ids, attention_mask=(labels >= 0).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

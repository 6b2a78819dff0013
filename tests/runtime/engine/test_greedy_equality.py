"""Greedy output equals transformers' token for token, on the very same dequantised weights.

transformers read and dequantised the file by its own code, in float32 as the engine does here; what it said
to a few prompts is kept in ``tests/vectors/greedy``. ``test_greedy_hundreds`` asks it anew, and more.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch

from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel, open_model
from tests.simulators.greedy_answers import (
    NEAR_TIE,
    STORED,
    Known,
    differences,
    generated,
    load,
    save,
    wrong,
)
from tests.simulators.tiny_models import save_folder, tiny_config

POSITION = 30 * 2 * 3 * 64 * 4
"""Bytes of one position's keys and values."""


@pytest.fixture(scope="module")
def known(smollm2: OpenModel) -> list[Known]:
    stored = load()
    assert stored.base_model_digest == smollm2.base_model_digest
    lengths = sorted(len(each.prompt) for each in stored.answers)
    assert len(lengths) >= 20
    assert lengths[0] < 32
    assert lengths[-1] > 512
    return stored.answers


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(smollm2: OpenModel) -> AsyncIterator[ChunkedEngine]:
    engine = ChunkedEngine(smollm2, EngineSettings("float32"))
    await engine.start()
    yield engine
    await engine.stop()


async def answer(engine: ChunkedEngine, name: str, prompt: list[int], tokens: int = 12) -> list[int]:
    params = SamplingParams(tokens, temperature=0, ignore_eos=True)
    request = GenerateRequest(name, "tenant", tuple(prompt), params)
    return [output.token_id async for output in engine.generate(request)]


def agree(outputs: list[list[int]], known: list[Known]) -> None:
    """All equal; what follows two tokens that were level is nobody's mistake, and rare."""
    found = differences(outputs, known)
    assert not wrong(found)
    assert len(found) <= 1


@pytest.mark.model
@pytest.mark.asyncio(loop_scope="module")
async def test_alone_then_together_then_found_in_the_cache(engine: ChunkedEngine, known: list[Known]) -> None:
    """Long prompts are read in pieces while others decode; the second time only their ends are read."""
    few = known[::6]
    agree([await answer(engine, f"alone {i}", each.prompt) for i, each in enumerate(few)], few)
    agree(await asyncio.gather(*[answer(engine, str(i), each.prompt) for i, each in enumerate(known)]), known)
    long = [each for each in known if len(each.prompt) > 100]
    read = engine.stats().prompt_tokens
    agree(await asyncio.gather(*[answer(engine, f"{i}!", each.prompt) for i, each in enumerate(long)]), long)
    assert engine.stats().prompt_tokens - read <= 16 * len(long)


@pytest.mark.model
async def test_in_small_pieces_with_too_few_pages(smollm2: OpenModel, known: list[Known]) -> None:
    """Tiny budgets: prompts are read in many pieces between the others' tokens, and some of them again."""
    few = sorted((each for each in known if len(each.prompt) < 60), key=lambda each: len(each.prompt))[-8:]
    settings = EngineSettings(
        "float32",
        page_size=1,
        kv_bytes=POSITION * 88,
        max_running=16,
        prefix_cache=False,
        budget=BudgetSettings(step_rows=40),
    )
    engine = ChunkedEngine(smollm2, settings)
    await engine.start()
    outputs = await asyncio.gather(*[answer(engine, str(i), each.prompt) for i, each in enumerate(few)])
    stats = engine.stats()
    engine.verify()
    await engine.stop()
    agree(outputs, few)
    assert stats.preemptions > 0


@pytest.mark.model
@pytest.mark.asyncio(loop_scope="module")
async def test_the_end_of_sequence_is_handed_out_and_ends(smollm2: OpenModel, engine: ChunkedEngine) -> None:
    prompt = smollm2.tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    request = GenerateRequest("r", "tenant", tuple(prompt), SamplingParams(100, temperature=0))
    outputs = [output async for output in engine.generate(request)]
    assert smollm2.tokenizer.decode([each.token_id for each in outputs]) == "The capital of France is Paris."
    assert outputs[-1].token_id in smollm2.tokenizer.eos_ids
    assert [each.finish_reason for each in outputs] == [None] * (len(outputs) - 1) + ["stop"]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
async def test_folder_models_through_the_engine(tmp_path: Path, family: str) -> None:
    """Random models that transformers wrote and answers here and now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = save_folder(tmp_path, tiny_config(family))
    random = torch.Generator().manual_seed(5)
    prompts = [torch.randint(3, 300, (n,), generator=random).tolist() for n in (1, 2, 9, 70, 150)]
    expected = [generated(reference, [prompt], 40)[0].tokens for prompt in prompts]
    engine = ChunkedEngine(open_model(tmp_path), EngineSettings("float32"))
    await engine.start()
    outputs = await asyncio.gather(*[answer(engine, str(i), each, 40) for i, each in enumerate(prompts)])
    await engine.stop()
    assert outputs == expected


def test_a_token_that_is_not_level_with_another_is_wrong() -> None:
    """What is let pass is bounded: so near, and nothing else."""
    known = Known([1], [5, 6, 7], [2.0, NEAR_TIE, NEAR_TIE * 1.1])
    assert differences([[5, 6, 7]], [known]) == []
    near, far, first = (differences([tokens], [known]) for tokens in ([5, 9, 9], [5, 6, 9], [9, 6, 7]))
    assert (near[0].at, far[0].at, first[0].at) == (1, 2, 0)
    assert wrong(near) == []
    assert wrong([*far, *first]) == [*far, *first]
    agree([[5, 9, 9]], [known])
    with pytest.raises(AssertionError):
        agree([[5, 9, 9]] * 2, [known] * 2)


def test_answers_are_kept_as_they_were(tmp_path: Path) -> None:
    """Written and read again."""
    stored = load()
    save(stored, tmp_path / "kept" / "again.json")
    assert load(tmp_path / "kept" / "again.json") == stored
    assert STORED.stat().st_size < 100_000

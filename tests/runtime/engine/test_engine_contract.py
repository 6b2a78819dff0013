"""What every engine owes the API above it, whichever it is.

One suite, run with each engine that is installed here; ``make test-vllm`` runs it with vLLM, in an
environment of vLLM's own. The model is the embedded one, in float32, where engines differ by rounding alone.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
import torch

from runtime.engine.backends.vllm import VllmEngine, VllmSettings
from runtime.engine.base import Engine, EngineRefusal, GenerateRequest, SamplingParams, TokenOutput
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel, open_model
from tests.simulators.tiny_models import save_folder, tiny_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

HAS_VLLM = importlib.util.find_spec("vllm") is not None
WHY = "vLLM is not installed here: make test-vllm"
CONTEXT, MAX_RUNNING, MAX_WAITING = 512, 4, 16
PROMPT = tuple(3 + i * 7 % 200 for i in range(40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model on disk, and transformers' own of it."""
    path = tmp_path_factory.mktemp("contract")
    config = tiny_config(
        "llama", hidden_size=128, intermediate_size=192
    )  # heads of 32: vLLM's smallest on a CPU
    return path, save_folder(path, config)


def _sealgate(opened: OpenModel) -> Engine:
    settings = EngineSettings(
        "float32", threads=1, kv_bytes=8 << 20, max_running=MAX_RUNNING, max_waiting=MAX_WAITING
    )
    return ChunkedEngine(opened, settings)


def _vllm(opened: OpenModel) -> Engine:
    settings = VllmSettings(
        "float32",
        threads=1,
        kv_bytes=8 << 20,
        max_running=MAX_RUNNING,
        max_waiting=MAX_WAITING,
        compiled=False,
    )
    return VllmEngine(opened, settings)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(_sealgate, id="sealgate"),
        pytest.param(_vllm, id="vllm", marks=pytest.mark.skipif(not HAS_VLLM, reason=WHY)),
    ],
)
def make(request: pytest.FixtureRequest) -> Callable[[OpenModel], Engine]:
    """Makes the engine under test."""
    made: Callable[[OpenModel], Engine] = request.param
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(make: Callable[[OpenModel], Engine], folder: Any) -> AsyncIterator[Engine]:
    """One engine for all tests: another's may take a minute to start."""
    started = make(open_model(folder[0]))
    await started.start()
    yield started
    await started.stop()


def request(
    name: str = "r",
    *,
    prompt: tuple[int, ...] = PROMPT,
    tokens: int = 12,
    tenant: str = "tenant",
    **changes: Any,
) -> GenerateRequest:
    """Greedy, past every end, unless told otherwise."""
    outer = {
        key: changes.pop(key) for key in ("adapter_digest", "deadline", "guide", "priority") if key in changes
    }
    params = SamplingParams(**{"max_tokens": tokens, "temperature": 0, "ignore_eos": True, **changes})
    return GenerateRequest(name, tenant, prompt, params, **outer)


async def outputs(engine: Engine, asked: GenerateRequest) -> list[TokenOutput]:
    return [output async for output in engine.generate(asked)]


async def ids(engine: Engine, asked: GenerateRequest) -> list[int]:
    return [output.token_id for output in await outputs(engine, asked)]


async def refusal(engine: Engine, asked: GenerateRequest) -> EngineRefusal:
    with pytest.raises(EngineRefusal) as refused:
        await outputs(engine, asked)
    return refused.value


def likeliest(reference: Any, prompt: tuple[int, ...], output: list[int]) -> tuple[list[int], torch.Tensor]:
    """What transformers would have chosen in place of each token, and its log-probabilities there."""
    with torch.inference_mode():
        logits = reference(torch.tensor([[*prompt, *output]])).logits[0, len(prompt) - 1 : -1]
    return list(logits.argmax(-1).tolist()), torch.log_softmax(logits.double(), -1)


async def test_it_says_what_it_is(engine: Engine, folder: Any) -> None:
    info = engine.info
    assert info.backend.split()[0] in ("sealgate", "vllm")
    assert (info.model_name, info.context_length, info.dtype) == (folder[0].name, CONTEXT, "float32")


async def test_greedy_tokens_are_transformers_own_alone_and_together(engine: Engine, folder: Any) -> None:
    prompts = [tuple(3 + (i * k + k) % 200 for i in range(5 + 31 * k)) for k in range(1, 5)]
    asked = [request(str(k), prompt=prompt, tokens=16) for k, prompt in enumerate(prompts)]
    together = await asyncio.gather(*[ids(engine, each) for each in asked])
    for prompt, each, got in zip(prompts, asked, together, strict=True):
        assert likeliest(folder[1], prompt, got)[0] == got
        assert await ids(engine, each) == got  # alone, and after a hit of the prefix cache


async def test_tokens_come_one_by_one_and_the_last_says_why(engine: Engine) -> None:
    got = await outputs(engine, request(tokens=5))
    assert [each.finish_reason for each in got] == [None] * 4 + ["length"]
    assert (await outputs(engine, request(tokens=1)))[0].finish_reason == "length"


async def test_a_stop_token_ends_and_is_handed_out(engine: Engine) -> None:
    everything = await ids(engine, request())
    stop = everything[5]
    got = await outputs(engine, request(stop_token_ids=(stop,)))
    assert [each.token_id for each in got] == everything[: everything.index(stop) + 1]
    assert got[-1].finish_reason == "stop"


async def test_the_models_own_end_ends_unless_ignored(engine: Engine) -> None:
    # Drawn hot from a random model every token comes up sooner or later, so among so many an end does.
    hot = {"temperature": 2.0, "top_p": 1.0, "tokens": 400}
    got: list[list[TokenOutput]] = []
    for seed in range(16):
        got += [await outputs(engine, request(seed=seed, ignore_eos=False, **hot))]
        ends = [each for each in got[-1] if each.token_id == 2]
        assert got[-1][-1].finish_reason == ("stop" if ends else "length")
        assert all(each is got[-1][-1] for each in ends)
        if ends:
            break
    assert got[-1][-1].finish_reason == "stop"
    assert len(await ids(engine, request(seed=len(got) - 1, **hot))) == 400


async def test_a_seed_repeats_and_another_differs(engine: Engine) -> None:
    drawn = {"temperature": 2.0, "tokens": 24}
    first = await ids(engine, request(seed=7, **drawn))
    assert await ids(engine, request(seed=7, **drawn)) == first
    assert await ids(engine, request(seed=8, **drawn)) != first
    assert await ids(engine, request(seed=2**64 - 1, **drawn)) == await ids(
        engine, request(seed=2**64 - 1, **drawn)
    )


async def test_filters_leave_the_likeliest_alone(engine: Engine) -> None:
    greedy = await ids(engine, request())
    for filters in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-6}):
        assert await ids(engine, request(temperature=2.0, seed=1, **filters)) == greedy


async def test_penalties_change_what_repeats(engine: Engine) -> None:
    loop = request(prompt=(9, 9, 9, 9), tokens=60)
    plain = await ids(engine, loop)
    penalised = await ids(
        engine, request(prompt=(9, 9, 9, 9), tokens=60, presence_penalty=2, frequency_penalty=2)
    )
    assert len(set(penalised)) > len(set(plain))
    assert penalised[0] == plain[0]  # nothing was generated yet, and the prompt does not count


async def test_logprobs_are_the_models_own(engine: Engine, folder: Any) -> None:
    got = await outputs(engine, request(tokens=6, logprobs=3, temperature=2.0, seed=3))
    tokens = [each.token_id for each in got]
    expected = likeliest(folder[1], PROMPT, tokens)[1]
    for row, each in enumerate(got):
        assert each.logprob == pytest.approx(float(expected[row, each.token_id]), abs=2e-3)
        assert each.top_logprobs is not None
        assert [token for token, _ in each.top_logprobs] == expected[row].topk(3).indices.tolist()
        assert [value for _, value in each.top_logprobs] == sorted(
            (value for _, value in each.top_logprobs), reverse=True
        )
    none = await outputs(engine, request(tokens=2, logprobs=0))
    assert [each.top_logprobs for each in none] == [(), ()]
    assert all(each.logprob is not None and math.isfinite(each.logprob) for each in none)
    assert (await outputs(engine, request(tokens=1)))[0].logprob is None


async def test_a_prompt_is_scored_from_where_it_was_asked(engine: Engine, folder: Any) -> None:
    got = await outputs(engine, request(tokens=2, prompt_logprobs=2, prompt_logprobs_from=30))
    with torch.inference_mode():
        logits = folder[1](torch.tensor([PROMPT])).logits[0]
    expected = torch.log_softmax(logits.double(), -1)
    scored = got[0].prompt_logprobs
    assert scored is not None
    assert len(scored) == len(PROMPT) - 30
    for place, (logprob, rank, top) in enumerate(scored, start=30):
        before = int((expected[place - 1] > expected[place - 1, PROMPT[place]]).sum())
        assert rank - 1 == pytest.approx(before, abs=1)  # next to one as likely
        assert logprob == pytest.approx(float(expected[place - 1, PROMPT[place]]), abs=2e-3)
        assert [token for token, _ in top] == expected[place - 1].topk(2).indices.tolist()
    assert got[1].prompt_logprobs is None


async def test_the_whole_context_is_usable_and_no_more(engine: Engine) -> None:
    prompt = tuple(3 + i % 200 for i in range(CONTEXT - 8))
    assert len(await ids(engine, request(prompt=prompt, tokens=8))) == 8
    refused = await refusal(engine, request(prompt=prompt, tokens=9))
    assert refused.code == "context_length_exceeded"
    assert str(CONTEXT) in refused.detail


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(prompt=()), "invalid_parameter"),
        (request(prompt=(320,)), "invalid_parameter"),
        (request(prompt=(-1,)), "invalid_parameter"),
        (request(adapter_digest="sha256:" + "0" * 64), "adapter_not_found"),
        (request(deadline=time.monotonic() - 1), "deadline_exceeded"),
    ],
)
async def test_what_cannot_run_is_refused(engine: Engine, asked: GenerateRequest, code: str) -> None:
    assert (await refusal(engine, asked)).code == code
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)


async def test_a_name_that_runs_is_not_taken_twice(engine: Engine) -> None:
    stream = engine.generate(request("same", tokens=300))
    await anext(stream)
    assert (await refusal(engine, request("same"))).code == "duplicate_request"
    await stream.aclose()
    assert len(await ids(engine, request("same"))) == 12


async def test_who_finds_no_place_is_told_at_once(engine: Engine) -> None:
    everyone = MAX_RUNNING + MAX_WAITING + 2
    tasks = [
        asyncio.create_task(ids(engine, request(str(i), tokens=30, tenant=str(i)))) for i in range(everyone)
    ]
    got = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [each for each in got if isinstance(each, EngineRefusal)]
    assert {each.code for each in refused} == {"engine_overloaded"}
    assert sum(isinstance(each, list) and len(each) == 30 for each in got) == everyone - len(refused)
    assert 2 <= len(refused) <= 2 + MAX_RUNNING  # those at the door count as waiting until the next step


async def test_giving_up_frees_the_memory(engine: Engine) -> None:
    before = engine.stats().cancelled
    # Each takes most of the context, and the cache holds few such: were they kept, the last would starve.
    for turn in range(12):
        prompt = tuple(3 + (i * 11 + turn) % 200 for i in range(400))
        stream = engine.generate(request(str(turn), prompt=prompt, tokens=100))
        await anext(stream)
        await stream.aclose()
    assert engine.stats().cancelled == before + 12
    crowd = [request(f"c{i}", prompt=(5 + i,) * 400, tokens=100) for i in range(MAX_RUNNING)]
    async with asyncio.timeout(60):
        assert [len(got) for got in await asyncio.gather(*[ids(engine, each) for each in crowd])] == [100] * 4
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)


async def test_a_cancelled_task_leaves_others_alone(engine: Engine) -> None:
    expected = await ids(engine, request(tokens=40))
    kept = asyncio.create_task(ids(engine, request("kept", tokens=40)))
    doomed = [
        asyncio.create_task(ids(engine, request(str(i), prompt=(8,) * 90, tokens=300))) for i in range(3)
    ]
    await asyncio.sleep(0.05)
    for task in doomed:
        task.cancel()
    for task in doomed:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await kept == expected


async def test_a_deadline_ends_what_runs(engine: Engine) -> None:
    asked = request(tokens=470)
    began = time.monotonic()
    await outputs(engine, asked)
    before = engine.stats()
    late = time.monotonic() + (time.monotonic() - began) / 4  # however fast it is: well before the end
    assert (await refusal(engine, replace(asked, deadline=late))).code == "deadline_exceeded"
    assert engine.stats().failed == before.failed + 1
    assert 0 < engine.stats().completion_tokens - before.completion_tokens < 470


async def test_counters_add_up(engine: Engine) -> None:
    before = engine.stats()
    await asyncio.gather(*[ids(engine, request(str(i), prompt=(50 + i,) * 20, tokens=5)) for i in range(3)])
    after = engine.stats()
    assert after.finished - before.finished == 3
    assert after.completion_tokens - before.completion_tokens == 15
    assert after.prompt_tokens - before.prompt_tokens == 60
    assert after.steps > before.steps
    assert (after.running, after.waiting) == (0, 0)


async def test_two_tenants_share_no_computed_prompt(engine: Engine) -> None:
    prompt = tuple(3 + (i * 13) % 200 for i in range(300))

    async def computed(tenant: str) -> int:
        before = engine.stats().prompt_tokens
        await ids(engine, request(prompt=prompt, tokens=1, tenant=tenant))
        return engine.stats().prompt_tokens - before

    assert await computed("first") == 300
    assert await computed("first") < 300
    assert await computed("second") == 300


async def test_stopping_ends_everyone_and_refuses_who_comes_later(
    make: Callable[[OpenModel], Engine], folder: Any
) -> None:
    engine = make(open_model(folder[0]))
    assert (await refusal(engine, request())).code == "engine_stopped"
    await engine.start()
    tasks = [asyncio.create_task(ids(engine, request(str(i), tokens=450))) for i in range(6)]
    stream = engine.generate(request("seen", tokens=450))
    await anext(stream)
    await engine.stop()
    for task in tasks:
        with pytest.raises(EngineRefusal) as refused:
            await task
        assert refused.value.code == "engine_stopped"
    with pytest.raises(EngineRefusal) as refused:
        async for _ in stream:
            pass
    assert refused.value.code == "engine_stopped"
    assert (await refusal(engine, request())).code == "engine_stopped"
    await engine.stop()
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)


async def test_the_folder_in_memory_is_gone_when_the_engine_stands(engine: Engine) -> None:
    if isinstance(engine, VllmEngine):
        assert not engine._folder.exists()
    else:
        assert engine.info.backend == "sealgate"

"""Whatever is asked, the engine answers or refuses it by a code, and serves the next one as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.base import EngineRefusal, GenerateRequest, SamplingParams, TokenOutput
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import open_model
from tests.simulators.tiny_models import save_folder, tiny_config

VOCABULARY, CONTEXT = 320, 512
CODES = {"invalid_parameter", "context_length_exceeded", "adapter_not_found", "deadline_exceeded"}
NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 5e-324, 1e-300, 1e308, 1.0, 2.0, -2.0])
WHOLE = st.integers(-3, 40) | st.sampled_from([-(1 << 63), 1 << 31, (1 << 63) - 1, 1 << 64])

params = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 6) | WHOLE},
    optional={
        "temperature": NUMBERS,
        "top_p": NUMBERS,
        "top_k": WHOLE,
        "min_p": NUMBERS,
        "seed": WHOLE,
        "presence_penalty": NUMBERS,
        "frequency_penalty": NUMBERS,
        "logprobs": WHOLE,
        "ignore_eos": st.booleans(),
        "stop_token_ids": st.lists(WHOLE, max_size=3).map(tuple),
        "prompt_logprobs": WHOLE,
        "prompt_logprobs_from": WHOLE,
    },
)
requests = st.fixed_dictionaries(
    {
        "prompt_token_ids": st.lists(st.integers(0, VOCABULARY - 1) | WHOLE, max_size=40).map(tuple)
        | st.just((7,) * (CONTEXT + 1)),
    },
    optional={
        "label_domain": st.text(max_size=4),
        "adapter_digest": st.text(max_size=8),
        "priority": WHOLE,
        "weight": NUMBERS,
        "deadline": st.just(0.0) | st.just(1e18) | NUMBERS,
    },
)

odd_but_allowed = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 6)},
    optional={
        "temperature": st.floats(0, allow_infinity=False) | st.sampled_from([5e-324, 1e-300, 1e-38, 1e308]),
        "top_p": st.floats(0, 1, exclude_min=True) | st.just(5e-324),
        "top_k": st.integers(0, 1 << 64),
        "min_p": st.floats(0, 1),
        "seed": st.integers(-(1 << 64), 1 << 64),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "logprobs": st.integers(0, 20),
        "ignore_eos": st.booleans(),
        "stop_token_ids": st.lists(WHOLE, max_size=3).map(tuple),
        "prompt_logprobs": st.integers(0, 20),
        "prompt_logprobs_from": st.integers(1, 1 << 64),
    },
)


class Served:
    """An engine and the loop that it is asked from."""

    def __init__(self, engine: ChunkedEngine, runner: asyncio.Runner) -> None:
        self.engine, self._runner = engine, runner
        self._asked = 0
        self.usual = self.ask({"prompt_token_ids": (5, 6, 7)}, {"max_tokens": 4, "temperature": 0.0})

    def ask(self, request: dict[str, Any], params: dict[str, Any]) -> list[TokenOutput] | str:
        """The tokens, or the code of the refusal."""
        self._asked += 1
        try:
            asked = GenerateRequest(str(self._asked), "t", params=SamplingParams(**params), **request)
            return self._runner.run(self._outputs(asked))
        except EngineRefusal as refusal:
            return refusal.code

    async def _outputs(self, asked: GenerateRequest) -> list[TokenOutput]:
        async with aclosing(self.engine.generate(asked)) as outputs:
            return [output async for output in outputs]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("model")
    save_folder(folder, tiny_config("llama"))
    engine = ChunkedEngine(open_model(folder), EngineSettings("float32", kv_bytes=1 << 22, threads=1))
    with asyncio.Runner() as runner:
        runner.run(engine.start())
        yield Served(engine, runner)
        runner.run(engine.stop())


def check(served: Served, found: list[TokenOutput] | str, most: int) -> None:
    """An answer or a known code; and the next request is answered as if this one had never been."""
    if isinstance(found, str):
        assert found in CODES
    else:
        assert 1 <= len(found) <= most
        assert all(0 <= output.token_id < VOCABULARY for output in found)
        assert found[-1].finish_reason in {"stop", "length"}
    assert served.ask({"prompt_token_ids": (5, 6, 7)}, {"max_tokens": 4, "temperature": 0.0}) == served.usual
    served.engine.verify()
    assert (served.engine.stats().running, served.engine.stats().failed) == (0, 0)


@settings(max_examples=60)
@given(request=requests, params=params)
def test_any_request(served: Served, request: dict[str, Any], params: dict[str, Any]) -> None:
    check(served, served.ask(request, params), params["max_tokens"])


@settings(max_examples=60)
@given(prompt=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40), params=odd_but_allowed)
def test_what_is_allowed_is_answered(served: Served, prompt: list[int], params: dict[str, Any]) -> None:
    """However odd: draws at a temperature of 1e308 or of nearly nothing, sets of hardly any token."""
    found = served.ask({"prompt_token_ids": tuple(prompt)}, params)
    assert not isinstance(found, str), found
    check(served, found, params["max_tokens"])

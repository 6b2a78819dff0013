"""The API on the embedded model: real tokens, real text."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from attest.protocol import paths
from runtime.api.served import ServedModel
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel
from runtime.model.tokenizer import IncrementalDecoder
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime

pytestmark = pytest.mark.model

COLOURS = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture
async def client(smollm2: OpenModel) -> AsyncGenerator[SealingClient]:
    engine = ChunkedEngine(smollm2, EngineSettings(threads=2))
    served = ServedModel(
        engine=engine,
        tokenizer=smollm2.tokenizer,
        new_decoder=lambda: IncrementalDecoder(smollm2.tokenizer),
        base_model_digest=smollm2.base_model_digest,
        tokenizer_digest=smollm2.tokenizer_digest,
        created=int(time.time()),
    )
    runtime = await StubRuntime.started(served=served)
    yield runtime.client()
    await engine.stop()


async def ask(client: SealingClient, **members: Any) -> InnerAnswer:
    request = {"model": "smollm2", "messages": COLOURS, "max_tokens": 24, **members}
    return await client.call("POST", paths.CHAT_PATH, request)


def text_of(answer: InnerAnswer) -> str:
    return "".join(event["choices"][0]["delta"].get("content", "") for event in answer.events)


async def test_streamed_and_whole_are_the_same_answer(client: SealingClient) -> None:
    whole = (await ask(client, temperature=0)).json()
    content = whole["choices"][0]["message"]["content"]
    assert any(colour in content.lower() for colour in ("red", "blue", "green", "yellow"))
    assert text_of(await ask(client, temperature=0, stream=True)) == content
    assert whole["usage"]["prompt_tokens"] == 34


async def test_a_stop_string_across_tokens(client: SealingClient) -> None:
    """Cut in the middle of one word, beginning in the middle of another."""
    whole = (await ask(client, temperature=0)).json()["choices"][0]["message"]["content"]
    stop = whole[12:27]
    answer = await ask(client, temperature=0, stop=stop, stream=True)
    assert text_of(answer) == whole[:12]
    assert answer.events[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_seed_repeats_all_answers_and_they_differ_from_each_other(client: SealingClient) -> None:
    one, two = [
        [choice["message"]["content"] for choice in (await ask(client, seed=5, n=3)).json()["choices"]]
        for _ in range(2)
    ]
    assert one == two
    assert len(set(one)) == 3


async def test_the_likeliest_token_leads_its_log_probabilities(client: SealingClient) -> None:
    answer = await ask(client, temperature=0, logprobs=True, top_logprobs=3, max_tokens=4)
    for entry in answer.json()["choices"][0]["logprobs"]["content"]:
        tops = entry["top_logprobs"]
        assert (tops[0]["token"], tops[0]["logprob"]) == (entry["token"], entry["logprob"])
        assert tops[0]["logprob"] >= tops[1]["logprob"] >= tops[2]["logprob"]


async def test_a_prompt_beyond_the_context(client: SealingClient) -> None:
    answer = await ask(client, messages=[{"role": "user", "content": "word " * 9000}])
    assert (answer.status, answer.error_code) == (400, "context_length_exceeded")
    assert "8192 tokens" in answer.json()["error"]["message"]

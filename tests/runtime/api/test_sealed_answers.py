"""What comes back through the seal, and its receipt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from attest.channel.padding import padded_content
from attest.protocol import paths
from attest.protocol.openai.answers import (
    ChatAnswer,
    ChatChunk,
    CompletionAnswer,
    ErrorAnswer,
    ModelList,
)
from tests.simulators.sealing_client import SealingClient, opened, running
from tests.simulators.stub_runtime import StubRuntime, stub_engine

QUESTION = {"model": "stub", "messages": [{"role": "user", "content": "Hi"}]}


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; two seconds at most."""
    async with asyncio.timeout(2):
        while not holds():  # noqa: ASYNC110 - the engine under test offers no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture
async def runtime() -> StubRuntime:
    return await StubRuntime.started()


@pytest.fixture
def client(runtime: StubRuntime) -> SealingClient:
    return runtime.client()


@pytest.mark.parametrize("config", [0, 1])
async def test_a_whole_chat_answer_with_its_receipt(runtime: StubRuntime, config: int) -> None:
    """Under the default suite and under the interoperable one."""
    client = runtime.client(config=config)
    parts = client.seal("POST", paths.CHAT_PATH, json.dumps(QUESTION).encode())
    answer = opened(parts.opener, (await client.send(parts.sealed)).body)
    chat = ChatAnswer.model_validate_json(answer.body)
    assert chat.choices[0].message.content == "Hello, world"
    assert chat.choices[0].finish_reason == "stop"
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens) == (20, 12, 32)
    receipt = client.verified(parts, answer)
    assert (receipt.model, receipt.backend, receipt.finish_reason) == ("stub", "stub", "stop")
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (20, 12)


async def test_a_streamed_chat_answer_with_its_receipt(client: SealingClient) -> None:
    body = json.dumps({**QUESTION, "stream": True, "stream_options": {"include_usage": True}}).encode()
    parts = client.seal("POST", paths.CHAT_PATH, body)
    answer = opened(parts.opener, (await client.send(parts.sealed)).body)
    assert answer.headers["content-type"] == paths.MEDIA_EVENT_STREAM
    chunks = [ChatChunk.model_validate(event) for event in answer.events]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello, world"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 32
    assert all(event["usage"] is None for event in answer.events[:-1])
    assert client.verified(parts, answer).completion_tokens == 12


async def test_without_being_asked_a_stream_says_nothing_of_usage(client: SealingClient) -> None:
    answer = await client.chat("Hi", stream=True)
    assert all("usage" not in event for event in answer.events)


@pytest.mark.parametrize("route", [paths.CHAT_PATH, paths.COMPLETIONS_PATH])
async def test_streamed_events_have_the_size_that_padding_wants_already(
    client: SealingClient, route: str
) -> None:
    """Whatever a token says, the channel adds two bytes to its event and the network sees 512."""
    prompt: dict[str, Any] = {"prompt": "Hi"} if route == paths.COMPLETIONS_PATH else QUESTION
    runtime = await StubRuntime.started(stub_engine('a 猫 🙂 " \n z'))
    request = {**prompt, "model": "stub", "stream": True, "stream_options": {"include_usage": True}}
    answer = await runtime.client().call("POST", route, request)
    events = [event + b"\n\n" for event in answer.body.split(b"\n\n")][:-2]
    assert len(events) > 5
    assert {len(padded_content("bucket", event)) for event in events} == {512}
    assert {len(event) for event in events} == {510}
    request["stream_options"] = {"include_obfuscation": False}
    answer = await client.call("POST", route, request)
    assert all("obfuscation" not in event for event in answer.events)


async def test_streamed_pieces_arrive_while_the_engine_works() -> None:
    """The first event is out long before the last token is made."""
    runtime = await StubRuntime.started(stub_engine("abc", token_interval_s=0.05))
    client = runtime.client()
    body = json.dumps({**QUESTION, "stream": True}).encode()
    parts = client.seal("POST", paths.CHAT_PATH, body)
    async with running(runtime.app, "POST", paths.SEALED_PATH, parts.sealed, paths.MEDIA_SEALED_REQUEST) as (
        exchange,
        task,
    ):
        plain = b"".join(parts.opener.feed(await exchange.next_body()))
        assert plain != b""
        assert not task.done()
        assert runtime.engine.stats().running == 1
        await asyncio.wait_for(asyncio.shield(task), 5)


async def test_hanging_up_stops_the_engine_at_once() -> None:
    runtime = await StubRuntime.started(stub_engine("x" * 1000, token_interval_s=0.01))
    client = runtime.client()
    parts = client.seal("POST", paths.CHAT_PATH, json.dumps({**QUESTION, "stream": True}).encode())
    async with running(runtime.app, "POST", paths.SEALED_PATH, parts.sealed, paths.MEDIA_SEALED_REQUEST) as (
        exchange,
        _,
    ):
        await exchange.next_body()
        await exchange.next_body()
    stats = runtime.engine.stats()
    assert (stats.running, stats.cancelled) == (0, 1)
    assert stats.completion_tokens < 20


async def test_hanging_up_before_the_first_token_stops_the_engine_too() -> None:
    runtime = await StubRuntime.started(stub_engine("x", first_token_s=60))
    client = runtime.client()
    parts = client.seal("POST", paths.CHAT_PATH, json.dumps({**QUESTION, "n": 3}).encode())
    async with running(runtime.app, "POST", paths.SEALED_PATH, parts.sealed, paths.MEDIA_SEALED_REQUEST):
        await until(lambda: runtime.engine.stats().running == 3)
    stats = runtime.engine.stats()
    assert (stats.running, stats.cancelled) == (0, 3)


async def test_several_answers_to_one_question(client: SealingClient) -> None:
    whole = ChatAnswer.model_validate_json((await client.chat("Hi", n=3)).body)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert {choice.message.content for choice in whole.choices} == {"Hello, world"}
    assert whole.usage.completion_tokens == 36
    assert whole.usage.prompt_tokens == 20
    texts = ["", "", ""]
    answer = await client.chat("Hi", n=3, stream=True)
    for event in answer.events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["Hello, world"] * 3
    assert client.receipt(answer).completion_tokens == 36


async def test_the_length_limit(client: SealingClient) -> None:
    answer = await client.chat("Hi", max_tokens=5)
    choice = answer.json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "length")
    assert client.receipt(answer).finish_reason == "length"
    preferred = await client.chat("Hi", max_tokens=9, max_completion_tokens=2)
    assert preferred.json()["choices"][0]["message"]["content"] == "He"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_ends_the_engine_and_is_not_shown(stream: bool) -> None:
    runtime = await StubRuntime.started(stub_engine("one STOP two" + "x" * 500))
    answer = await runtime.client().chat("Hi", stop=["ST", "OP t"], stream=stream)
    if stream:
        choices = [event["choices"][0] for event in answer.events]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        reason = choices[-1]["finish_reason"]
    else:
        text = answer.json()["choices"][0]["message"]["content"]
        reason = answer.json()["choices"][0]["finish_reason"]
    assert (text, reason) == ("one ", "stop")
    stats = runtime.engine.stats()
    assert (stats.running, stats.completion_tokens) == (0, 6)


async def test_characters_of_several_tokens_are_never_torn() -> None:
    text = "grüß 猫 🙂"
    runtime = await StubRuntime.started(stub_engine(text))
    answer = await runtime.client().chat("Hi", stream=True)
    pieces = [event["choices"][0]["delta"].get("content", "") for event in answer.events]
    assert "".join(pieces) == text
    assert "🙂" in pieces


async def test_log_probabilities_of_a_chat(client: SealingClient) -> None:
    answer = await client.chat("Hi", logprobs=True, top_logprobs=1, max_tokens=2)
    logprobs = ChatAnswer.model_validate_json(answer.body).choices[0].logprobs
    assert logprobs is not None
    assert [entry.token for entry in logprobs.content] == ["H", "e"]
    assert logprobs.content[0].bytes == [72]
    assert logprobs.content[0].top_logprobs[0].token == "H"
    streamed = await client.chat("Hi", logprobs=True, top_logprobs=0, max_tokens=2, stream=True)
    entries = [entry for event in streamed.events for entry in event["choices"][0]["logprobs"]["content"]]
    assert [entry["token"] for entry in entries] == ["H", "e"]
    assert entries[0]["top_logprobs"] == []


async def test_plain_completions(client: SealingClient) -> None:
    request = {"model": "stub", "prompt": ["ab", "c"], "n": 2, "logprobs": 1, "max_tokens": 3}
    whole = CompletionAnswer.model_validate_json(
        (await client.call("POST", paths.COMPLETIONS_PATH, request)).body
    )
    assert [choice.text for choice in whole.choices] == ["Hel"] * 4
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 12)
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (["H", "e", "l"], [0, 1, 2])
    assert logprobs.top_logprobs == [{"H": 0.0}, {"e": 0.0}, {"l": 0.0}]
    tokens = await client.call(
        "POST", paths.COMPLETIONS_PATH, {"model": "stub", "prompt": [[97], [98, 99]], "stream": True}
    )
    chunks = [CompletionAnswer.model_validate(event) for event in tokens.events]
    texts = {0: "", 1: ""}
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == {0: "Hello, world", 1: "Hello, world"}


async def test_streamed_offsets_go_on_where_the_last_piece_ended(client: SealingClient) -> None:
    request = {"model": "stub", "prompt": "a", "logprobs": 0, "max_tokens": 3, "stream": True}
    answer = await client.call("POST", paths.COMPLETIONS_PATH, request)
    offsets = [event["choices"][0]["logprobs"]["text_offset"] for event in answer.events]
    assert offsets == [[0], [1], [2]]


async def test_models(client: SealingClient) -> None:
    listed = await client.call("GET", paths.MODELS_PATH)
    entry = ModelList.model_validate_json(listed.body).data[0]
    assert (entry.id, entry.context_length) == ("stub", 4096)
    assert client.receipt(listed).model is None
    one = await client.call("GET", f"{paths.MODELS_PATH}/stub")
    assert one.json() == entry.model_dump()
    missing = await client.call("GET", f"{paths.MODELS_PATH}/gpt-9")
    assert (missing.status, missing.error_code) == (404, "model_not_found")


async def test_the_inner_api_describes_itself(client: SealingClient) -> None:
    document = (await client.call("GET", paths.OPENAPI_PATH)).json()
    assert set(document["paths"]) == {
        *(paths.MODELS_PATH, paths.CHAT_PATH, paths.COMPLETIONS_PATH, paths.EMBEDDINGS_PATH),
        *paths.TOKENIZE_PATHS,
        *paths.DETOKENIZE_PATHS,
    }


BAD: list[tuple[str, Any, int, str]] = [
    ("POST", b"{", 400, "invalid_json"),
    ("POST", b"\xff", 400, "invalid_json"),
    ("POST", b"[]", 400, "invalid_type"),
    ("POST", {**QUESTION, "model": "gpt-9"}, 404, "model_not_found"),
    ("POST", {**QUESTION, "temperature": "hot"}, 400, "invalid_type"),
    ("POST", {**QUESTION, "temperature": 3}, 400, "invalid_value"),
    ("POST", {**QUESTION, "colour": "red"}, 400, "unknown_parameter"),
    ("POST", {**QUESTION, "functions": [{}]}, 400, "unsupported_parameter"),
    ("POST", {"model": "stub"}, 400, "missing_parameter"),
    ("GET", QUESTION, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "value", "status", "code"), BAD)
async def test_bad_requests_get_sealed_errors_with_receipts(
    client: SealingClient, method: str, value: Any, status: int, code: str
) -> None:
    answer = await client.call(method, paths.CHAT_PATH, value)
    error = ErrorAnswer.model_validate_json(answer.body).error
    assert (answer.status, error.code) == (status, code)
    receipt = client.receipt(answer)
    assert (receipt.status, receipt.completion_tokens, receipt.finish_reason) == (status, 0, None)


async def test_an_unknown_route(client: SealingClient) -> None:
    answer = await client.call("GET", "/v1/secrets")
    assert (answer.status, answer.error_code) == (404, "route_not_found")


async def test_another_media_type(client: SealingClient) -> None:
    answer = await client.call("POST", paths.CHAT_PATH, QUESTION, headers=((b"content-type", b"text/plain"),))
    assert (answer.status, answer.error_code) == (415, "unsupported_media_type")


async def test_a_prompt_that_is_too_long_is_told_the_numbers() -> None:
    runtime = await StubRuntime.started(stub_engine(context=64))
    client = runtime.client()
    answer = await client.chat("x" * 100)
    assert (answer.status, answer.error_code) == (400, "context_length_exceeded")
    assert "64 tokens" in answer.json()["error"]["message"]
    assert "118 tokens" in answer.json()["error"]["message"]
    answer = await client.chat("Hi", max_tokens=50)
    message = answer.json()["error"]["message"]
    assert "70 (20 in the messages, 50 to generate)" in message
    request = {"model": "stub", "prompt": "x" * 60, "max_tokens": 5}
    answer = await client.call("POST", paths.COMPLETIONS_PATH, request)
    assert "65 (60 in the prompt, 5 to generate)" in answer.json()["error"]["message"]


@pytest.mark.parametrize("prompt", ["", [257], [2**31 - 1]])
async def test_prompts_that_are_none(client: SealingClient, prompt: Any) -> None:
    answer = await client.call("POST", paths.COMPLETIONS_PATH, {"model": "stub", "prompt": prompt})
    assert (answer.status, answer.error_code) == (400, "invalid_value")
    assert answer.json()["error"]["param"] == "prompt"


async def test_a_long_prompt_is_tokenised_all_the_same(client: SealingClient) -> None:
    runtime = await StubRuntime.started(stub_engine(context=1 << 17))
    answer = await runtime.client().chat("y" * 50_000)
    assert answer.json()["usage"]["prompt_tokens"] == 50_018


async def test_an_engine_that_stops_before_the_first_token(runtime: StubRuntime) -> None:
    await runtime.engine.stop()
    answer = await runtime.client().chat("Hi", stream=True)
    assert (answer.status, answer.error_code) == (503, "engine_stopped")
    assert answer.headers["retry-after"] == "1"


async def test_an_engine_that_stops_in_the_middle_ends_the_stream_with_an_error() -> None:
    runtime = await StubRuntime.started(stub_engine("abcdef", token_interval_s=0.02))
    asking = asyncio.create_task(runtime.client().chat("Hi", stream=True))
    await until(lambda: runtime.engine.stats().completion_tokens >= 2)
    await runtime.engine.stop()
    answer = await asking
    last = answer.body.decode().removesuffix("\n\n").split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_stopped"
    assert b"[DONE]" not in answer.body

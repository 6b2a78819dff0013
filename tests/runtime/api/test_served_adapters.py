"""Adapters asked for by name: each answer is its own adapter's, whoever else is served, and says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from attest.protocol import paths
from attest.protocol.openai.answers import ErrorAnswer, ModelEntry, ModelList
from attest.refusal import Refused
from runtime.engine.lora.adapter import CONFIG_NAME, TENSORS_NAME
from runtime.engine.lora.shape import BaseShape
from runtime.model.loaded import OpenModel
from tests.simulators.adapter_folders import BAD, BASE, digest_of, save_adapter, served_with, tiny_base
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime

SOUND = ("bank", "legal", "tone")
TOKENS = 16


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OpenModel]:
    where = tmp_path_factory.mktemp("models")
    return where, tiny_base(where)


class World:
    """A runtime over a folder of adapters, and a tenant of it."""

    def __init__(self, where: Path, opened: OpenModel, folder: Path) -> None:
        self.where, self.opened, self.folder = where, opened, folder
        self.shape = BaseShape.of(opened.architecture)
        self.runtime: StubRuntime
        self.client: SealingClient
        for seed, name in enumerate(SOUND):
            save_adapter(folder / name, self.shape, seed, rank=(4, 8, 16)[seed])

    async def start(self, **values: Any) -> None:
        """With further settings of adapters."""
        served = served_with(self.where, self.folder, **{"max_rank": 16, **values})
        self.runtime = await StubRuntime.started(served=served)
        self.client = self.runtime.client()

    async def ask(self, model: str, prompt: str = "the quick brown", **members: Any) -> InnerAnswer:
        """A completion by an adapter, or by the base."""
        request = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, **members}
        return await self.client.call("POST", paths.COMPLETIONS_PATH, {"ignore_eos": True, **request})

    async def text(self, model: str, prompt: str = "the quick brown") -> str:
        """Its text."""
        return str((await self.ask(model, prompt)).json()["choices"][0]["text"])


@pytest.fixture
async def world(base: tuple[Path, OpenModel], tmp_path: Path) -> AsyncIterator[World]:
    world = World(*base, tmp_path)
    await world.start()
    yield world
    await world.runtime.engine.stop()


async def test_base_and_adapters_at_once_are_each_as_alone(world: World) -> None:
    names = [BASE, *SOUND]
    alone = {name: await world.text(name) for name in names}
    assert len(set(alone.values())) == len(names)
    mixed = await asyncio.gather(*(world.text(name) for name in names * 4))
    assert mixed == [alone[name] for name in names * 4]


async def test_answer_and_receipt_name_what_was_loaded(world: World) -> None:
    for name in SOUND:
        answer = await world.ask(name)
        digest = digest_of(world.folder / name, world.opened)
        receipt = world.client.receipt(answer)
        assert answer.headers[paths.ADAPTER_HEADER] == receipt.adapter_digest == digest
        assert (receipt.model, answer.json()["model"]) == (name, name)
        assert receipt.base_model_digest == world.opened.base_model_digest
        assert answer.json()["system_fingerprint"].endswith(f"_{digest[7:23]}")
    plain = await world.ask(BASE)
    assert paths.ADAPTER_HEADER not in plain.headers
    assert world.client.receipt(plain).adapter_digest is None


async def test_streamed_answers_are_of_the_adapter_too(world: World) -> None:
    whole = await world.text("legal")
    answer = await world.ask("legal", stream=True)
    assert "".join(event["choices"][0]["text"] for event in answer.events) == whole
    assert {event["model"] for event in answer.events} == {"legal"}
    assert answer.headers[paths.ADAPTER_HEADER] == world.client.receipt(answer).adapter_digest


async def test_models_lists_adapters_and_reads_none_of_them(world: World) -> None:
    async def listed() -> list[ModelEntry]:
        answer = await world.client.call("GET", paths.MODELS_PATH)
        return ModelList.model_validate_json(answer.body).data

    first, *adapters = await listed()
    assert (first.id, first.parent, first.max_adapter_rank) == (BASE, None, 16)
    assert (first.context_length, first.max_output_tokens, first.max_logprobs) == (
        world.opened.context_length,
        world.opened.context_length - 1,
        20,
    )
    assert [(each.id, each.parent, each.adapter_digest) for each in adapters] == [
        (name, BASE, None) for name in SOUND
    ]
    page = await world.client.call("GET", f"{paths.MODELS_PATH}/tone")
    entry = ModelEntry.model_validate_json(page.body)
    assert (entry.adapter_digest, entry.adapter_rank) == (digest_of(world.folder / "tone", world.opened), 16)
    assert (await listed())[-1] == entry


async def test_bad_adapters_are_refused_exactly_and_disturb_nobody(world: World) -> None:
    for name, (_, make) in BAD.items():
        make(world.folder / name, world.shape)
    alone = {name: await world.text(name) for name in SOUND}
    bad, *rest = await asyncio.gather(
        asyncio.gather(*(world.ask(name) for name in BAD)), *(world.text(name) for name in SOUND * 3)
    )
    assert rest == [alone[name] for name in SOUND * 3]
    for answer, (code, _) in zip(bad, BAD.values(), strict=True):
        error = ErrorAnswer.model_validate_json(answer.body).error
        assert (answer.status, error.code, error.param) == (400, "adapter_failed", "model")
        assert f"({code}" in error.message
        assert world.client.receipt(answer).adapter_digest is None
        assert paths.ADAPTER_HEADER not in answer.headers
    assert "at most 16" in bad[list(BAD).index("high-rank")].json()["error"]["message"]


@pytest.mark.parametrize("name", ["nobody", "../bank", "bank/", "bank/../bank", ".", "BANK", "b" * 256])
async def test_unknown_names_are_not_found(world: World, name: str) -> None:
    """At once: no request of another's is in its way, and nothing outside of the folder is looked at."""
    answer = await world.ask(name)
    assert (answer.status, answer.error_code) == (404, "model_not_found")
    assert BASE in answer.json()["error"]["message"]


async def test_an_adapter_cannot_take_the_bases_name(world: World) -> None:
    before = await world.text(BASE)
    save_adapter(world.folder / BASE, world.shape, 9)
    assert await world.text(BASE) == before
    listed = (await world.client.call("GET", paths.MODELS_PATH)).json()["data"]
    assert [entry["id"] for entry in listed].count(BASE) == 1


async def test_a_folder_put_there_later_is_served(world: World) -> None:
    assert (await world.ask("later")).status == 404
    save_adapter(world.folder / "later", world.shape, 40)
    assert (await world.ask("later")).status == 200


async def test_a_replaced_folder_is_another_adapter(world: World) -> None:
    before = await world.ask("bank")
    save_adapter(world.folder / "bank", world.shape, 77)
    after = await world.ask("bank")
    assert before.headers[paths.ADAPTER_HEADER] != after.headers[paths.ADAPTER_HEADER]
    assert after.headers[paths.ADAPTER_HEADER] == digest_of(world.folder / "bank", world.opened)
    assert before.json()["choices"][0]["text"] != after.json()["choices"][0]["text"]


async def test_the_same_adapter_under_two_names(world: World) -> None:
    """Replacing one of the two leaves the other as it is."""
    save_adapter(world.folder / "twin", world.shape, 0, rank=4)
    text = await world.text("bank")
    assert await world.text("twin") == text
    save_adapter(world.folder / "twin", world.shape, 78)
    assert await world.text("twin") != text
    assert await world.text("bank") == text


async def test_weights_swapped_unseen_are_refused_when_they_are_loaded_again(
    base: tuple[Path, OpenModel], tmp_path: Path
) -> None:
    """The host changes an adapter and hides it from the file system: its digest tells."""
    world = World(*base, tmp_path)
    # Memory for one adapter at a time, so that each one displaces the last.
    await world.start(memory_bytes=2 * 2 * world.shape.unit_size * 4)
    assert (await world.ask("tone")).status == 200
    weights = world.folder / "tone" / TENSORS_NAME
    seen = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    with weights.open("r+b") as stream:
        stream.write(data)
    os.utime(weights, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    save_adapter(world.folder / "other", world.shape, 5, rank=16)
    assert (await world.ask("other")).status == 200
    answer = await world.ask("tone")
    assert (answer.status, answer.error_code) == (400, "adapter_failed")
    assert "adapter-digest" in answer.json()["error"]["message"]
    await world.runtime.engine.stop()


async def test_a_pipe_in_place_of_weights_keeps_nobody_waiting(world: World) -> None:
    folder = save_adapter(world.folder / "pipe", world.shape, 3)
    (folder / TENSORS_NAME).unlink()
    os.mkfifo(folder / TENSORS_NAME)
    answer = await asyncio.wait_for(world.ask("pipe"), 5)
    assert "adapter-not-found" in answer.json()["error"]["message"]
    (folder / CONFIG_NAME).unlink()
    os.mkfifo(folder / CONFIG_NAME)
    assert (await asyncio.wait_for(world.ask("pipe"), 5)).status == 404


@pytest.mark.parametrize(
    ("values", "code"),
    [({"memory_bytes": 1000}, "adapter-memory"), ({"folder": Path("/nowhere")}, "adapter-folder")],
)
def test_what_could_serve_no_adapter_does_not_start(
    base: tuple[Path, OpenModel], tmp_path: Path, values: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        served_with(base[0], tmp_path, **values)
    assert refused.value.code == code

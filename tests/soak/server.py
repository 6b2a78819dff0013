"""The runtime under test: the real engine with an adapter store behind the inner API, in plain HTTP.

    python -m tests.soak.server FOLDER_OF_ADAPTERS [--mode bf16] [--threads N]

Two doors are added for the soak. ``x-adapter`` and ``x-tenant`` say who asks and with which adapter, as the
sealed side would; ``GET /soak`` says how engine and store stand and checks the engine's books. Prints one
JSON line with the port when it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.api.asgi import ClientGone, header, read_body, respond
from runtime.api.exchange import SCOPE_KEY, Exchange
from runtime.api.inner import InnerApp
from runtime.api.served import ServedModel
from runtime.engine.base import EngineInfo, EngineStats, GenerateRequest, TokenOutput
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.lora.adapter import AdapterLimits, read_folder
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables
from runtime.engine.run.runner import adapter_dtype
from runtime.engine.settings import EngineSettings
from runtime.listening import server_config
from runtime.model.loaded import open_model
from runtime.model.tokenizer import IncrementalDecoder
from tests.soak.load import TENANTS

ADAPTER: ContextVar[str | None] = ContextVar("adapter")
MAX_BODY = 1 << 20
PLACES = 24  # sequences at once; their adapters do not all fit the tables at once
UNITS = 32
HOT_BYTES = 96 << 20  # about a fifth of two hundred adapters: the rest is read again when asked for
KV_BYTES = 192 << 20  # about 4,000 positions: pages run out at bursts


class WithAdapter:
    """An engine whose requests run with the adapter that the door was told of.

    Args:
        engine: runs them.
    """

    def __init__(self, engine: ChunkedEngine) -> None:
        self._engine = engine

    @property
    def info(self) -> EngineInfo:
        """The engine's."""
        return self._engine.info

    async def start(self) -> None:
        """Start the engine."""
        await self._engine.start()

    async def stop(self) -> None:
        """Stop the engine."""
        await self._engine.stop()

    def stats(self) -> EngineStats:
        """The engine's."""
        return self._engine.stats()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenOutput]:
        """Run a request with its adapter."""
        asked = replace(request, adapter_digest=ADAPTER.get())
        async with aclosing(self._engine.generate(asked)) as outputs:
            async for output in outputs:
                yield output


def door(inner: ASGIApp, engine: ChunkedEngine, store: AdapterStore) -> ASGIApp:
    """Who asks goes in by headers; ``/soak`` tells how things stand."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/soak":
            engine.verify()
            figures = {"engine": asdict(engine.stats()), "store": asdict(store.stats())}
            counts = store.counts().values()
            for name in ("acquired", "loaded", "placed", "evicted", "failed"):
                figures["store"][name] = sum(getattr(each, name) for each in counts)
            await respond(send, 200, json.dumps(figures).encode(), "application/json")
            return
        ADAPTER.set(header(scope, b"x-adapter").decode() or None)
        tenant = header(scope, b"x-tenant").decode()
        scope[SCOPE_KEY] = Exchange(tenant=tenant, label_id="none", receipt_id=uuid.uuid4().hex)
        with suppress(ClientGone):
            await until_gone(inner, scope, receive, send)

    return app


async def until_gone(inner: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, but not to a client that has gone: as the sealed side does."""
    body: Message = {"type": "http.request", "body": await read_body(receive, MAX_BODY), "more_body": False}

    async def once() -> Message:
        return body

    async def work() -> None:
        await inner(scope, once, send)

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(work()), asyncio.create_task(wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def folders(where: Path) -> list[Path]:
    """The adapters' folders, in the order of their numbers."""
    return sorted(where.iterdir(), key=lambda folder: int(folder.name))


def registered(store: AdapterStore, folder: Path) -> str:
    """An adapter that every tenant may name; its digest."""
    digest = store.register_folder(folder, tenant="tenant-0")
    for tenant in range(1, TENANTS):
        store.register(digest, partial(read_folder, folder, AdapterLimits()), tenant=f"tenant-{tenant}")
    return digest


async def serve(arguments: argparse.Namespace) -> None:
    """Until the process is ended."""
    opened = open_model("smollm2")
    tokenizer, shape = opened.tokenizer, BaseShape.of(opened.architecture)
    settings = EngineSettings(
        arguments.mode,
        threads=arguments.threads,
        kv_bytes=KV_BYTES,
        max_running=PLACES,
        max_waiting=256,
        max_wait_s=30,
    )
    tables = LoraTables(shape, UNITS, adapter_dtype(opened.architecture, arguments.mode, "cpu"))
    store = AdapterStore(tables, base_model_digest=opened.base_model_digest, budget_bytes=HOT_BYTES)
    digests = [registered(store, folder) for folder in folders(arguments.adapters)]
    engine = ChunkedEngine(opened, settings, adapters=(store, LoraBatches(tables)))
    served = ServedModel(
        WithAdapter(engine),
        tokenizer,
        lambda: IncrementalDecoder(tokenizer),
        opened.base_model_digest,
        opened.tokenizer_digest,
        0,
    )
    del opened
    await engine.start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    app = door(InnerApp(served, max_body_bytes=MAX_BODY), engine, store)
    server = uvicorn.Server(server_config(app, lifespan="off"))
    line = {"port": listener.getsockname()[1], "pid": os.getpid(), "adapters": digests}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])
    await engine.stop()
    store.close()


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapters", type=Path)
    parser.add_argument("--mode", default="bf16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

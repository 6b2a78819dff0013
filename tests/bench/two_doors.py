"""One engine behind two doors: the sealed outer API, and the inner API in plain HTTP.

    python -m tests.bench.two_doors --engine stub|sealgate [--first-token-s S] [--interval-s S] [--tokens N]

For benchmarks only: the plain door is what the seal is compared with, in the same process, on one engine.
Prints one JSON line with both ports when it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import sys
import uuid
from typing import Literal

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from attest.mock.attester import MockAttester
from attest.mock.installation import installed_machine
from gateway.cli.dev_world import IMAGE, REGION
from runtime import settings as runtime_settings
from runtime.api.exchange import SCOPE_KEY, Exchange
from runtime.api.inner import InnerApp
from runtime.dev import stub_model
from runtime.engine.stub import StubSettings
from runtime.listening import server_config
from runtime.loading import load_served_model
from runtime.serve import compose
from runtime.settings import ModelSettings, ServeSettings

MAX_BODY_BYTES = 8 << 20


def plain(inner: ASGIApp) -> ASGIApp:
    """The inner API as anybody would serve it without a seal: no key, no receipt."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[SCOPE_KEY] = Exchange(tenant="plain", label_id="none", receipt_id=uuid.uuid4().hex)
            await inner(scope, receive, send)

    return app


def server(app: ASGIApp, lifespan: Literal["on", "off"]) -> tuple[uvicorn.Server, socket.socket]:
    """A server as the product's, on a free loopback port; the engine's life hangs on one of the two."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return uvicorn.Server(server_config(app, lifespan=lifespan)), listener


async def serve(arguments: argparse.Namespace) -> None:
    """Both doors until the process is ended."""
    if arguments.engine == "stub":
        pace = StubSettings(
            token_ids=tuple(b"word "),
            tokens=arguments.tokens,
            first_token_s=arguments.first_token_s,
            token_interval_s=arguments.interval_s,
        )
        served = stub_model("smollm2", pace)
    else:
        served = load_served_model(ModelSettings("smollm2"))
    settings = ServeSettings(region=REGION, runtime_image=IMAGE)
    machine = installed_machine(runtime_settings.home(), settings.tee, settings.gpus)
    outer = compose(served, MockAttester(machine), settings)
    inner = plain(InnerApp(served, max_body_bytes=MAX_BODY_BYTES))
    sealed_server, sealed_socket = server(outer, "on")
    plain_server, plain_socket = server(inner, "off")
    tasks = [
        asyncio.create_task(sealed_server.serve(sockets=[sealed_socket])),
        asyncio.create_task(plain_server.serve(sockets=[plain_socket])),
    ]
    while not (sealed_server.started and plain_server.started):  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.05)
    gc.collect()
    gc.freeze()  # as AnnouncingServer does
    ports = {"sealed": sealed_socket.getsockname()[1], "plain": plain_socket.getsockname()[1]}
    sys.stdout.write(json.dumps({"ready": True, **ports}) + "\n")
    sys.stdout.flush()
    await asyncio.gather(*tasks)


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("stub", "sealgate"), default="stub")
    parser.add_argument("--first-token-s", type=float, default=0.0)
    parser.add_argument("--interval-s", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=16)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

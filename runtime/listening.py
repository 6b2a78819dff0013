"""A listening socket with a server behind it that says as little as possible."""

from __future__ import annotations

import gc
import json
import logging
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal

import uvicorn
from starlette.types import ASGIApp

from runtime.settings import ServeSettings

_BACKLOG: Final = 2048
_GRACE_S: Final = 5
_KEEP_ALIVE_S: Final = 60


class AnnouncingServer(uvicorn.Server):
    """uvicorn, printing one JSON line on standard output when it listens.

    Args:
        config: of uvicorn.
        ready: further members of that line.
        listener: the socket.
    """

    def __init__(self, config: uvicorn.Config, ready: Mapping[str, Any], listener: socket.socket) -> None:
        super().__init__(config)
        self._ready = ready
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if not self.should_exit:
            # What is here now stays to the end: the collector need not go through it again and again.
            gc.collect()
            gc.freeze()
            line = {"ready": True, "port": self._listener.getsockname()[1], **self._ready}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def server_config(
    app: ASGIApp, *, protocol: type[Any] | str = "h11", lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """How a runtime is served: by parsers without memory errors, and saying as little as possible.

    Args:
        app: what to serve.
        protocol: uvicorn's HTTP protocol class.
        lifespan: whether starting and stopping ``app`` is the server's to do.
    """
    return uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",  # by default uvicorn takes uvloop where it is installed
        ws="none",
        proxy_headers=False,  # the host's word on who asks is worth nothing
        log_config=None,
        access_log=False,  # who asks when is more than the host's log needs
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan=lifespan,
    )


def listen(
    app: ASGIApp,
    settings: ServeSettings,
    *,
    model: str,
    mock: bool,
    ready: Mapping[str, Any] | None = None,
    protocol: type[Any] | str = "h11",
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the outer app.
        settings: where to listen.
        model: the name that clients ask for.
        mock: whether the TEE is the mock one.
        ready: further members of the ready line.
        protocol: uvicorn's HTTP protocol class.

    Raises:
        OSError: the port is taken.
    """
    facts = {"model": model, "tee": settings.tee, "gpus": settings.gpus, "mock": mock, **(ready or {})}
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG) as listener:
        # Accepted sockets inherit it; asyncio sets it itself only where the protocol was named. Without it a
        # streamed event waits for the peer's delayed acknowledgement, 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            AnnouncingServer(server_config(app, protocol=protocol), facts, listener).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again once it has shut down
            return

"""``sealgate gateway``: the gateway as a process."""

from __future__ import annotations

import gc
import json
import socket
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette

from gateway.app import create_app
from gateway.cli.failure import Failure
from gateway.cli.output import Output
from gateway.cli.processes import interruptible
from gateway.settings import Settings, load_settings

_BACKLOG = 2048
_KEEP_ALIVE_S = 60  # an application that pauses between requests keeps its connection
_GRACE_S = 5
"""How long running answers may take to end after SIGTERM before they are cut off."""


def serve(flags: dict[str, Any], *, as_json: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        flags: settings given on the command line.
        as_json: print the ready line on standard output instead of a sentence.

    Raises:
        Failure: if the port is taken or a file that the gateway rests on is missing.
    """
    output = Output(as_json=as_json)
    settings = load_settings(flags)
    try:
        app = create_app(settings)
    except FileNotFoundError as error:
        raise Failure(
            f"no file {error.filename}",
            "a gateway trusts nobody by default: write a trust file and reference values (docs/reference/), "
            "or let 'sealgate up' write the development pair",
            code="no_trust",
        ) from error
    with listen(settings.host, settings.port) as listener, interruptible():
        server = AnnouncingServer(app, settings, listener, output)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again once it has shut down
            output.tell("[faint]stopped[/]")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        Failure: ``port_taken`` or ``cannot_listen``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Failure(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            "another gateway may be running; choose another port with --port",
            code="cannot_listen",
        ) from error
    # Accepted sockets inherit it; asyncio sets it itself only where the protocol was named. Without it a
    # streamed event waits for the application's delayed acknowledgement, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class AnnouncingServer(uvicorn.Server):
    """uvicorn, saying when it is ready.

    Args:
        app: what to serve.
        settings: where.
        listener: the socket, already listening.
        output: where to say so.
    """

    def __init__(self, app: Starlette, settings: Settings, listener: socket.socket, output: Output) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",  # named, so that a missing one is an error and not a slower gateway
                loop="uvloop",
                ws="none",
                proxy_headers=False,  # nothing here goes by the caller's address
                log_level="warning",
                access_log=False,  # it would name paths and clients; the audit log is the record
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
                lifespan="on",
            )
        )
        self._settings = settings
        self._port = listener.getsockname()[1]
        self._output = output

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if self.should_exit:
            return
        # What is here now stays to the end: the collector need not go through it again and again.
        gc.collect()
        gc.freeze()
        url = f"http://{self._settings.host}:{self._port}"
        if self._output.as_json:
            ready = {"ready": True, "url": url, "port": self._port, "runtime_url": self._settings.runtime_url}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
        else:
            self._output.tell(f"[good]{self._output.symbols.good}[/] gateway at {url}/v1, Ctrl-C stops it")

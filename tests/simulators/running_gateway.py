"""A gateway on a real loopback port, over files in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from gateway.app import create_app
from gateway.identity.api_keys import ApiKeyStore
from gateway.settings import Settings


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that listens.

    Args:
        url: where.
        api_key: one that is valid.
        key_id: its id.
        settings: in force.
    """

    url: str
    api_key: str
    key_id: str
    settings: Settings

    @property
    def authorization(self) -> dict[str, str]:
        """The header that the key makes."""
        return {"authorization": f"Bearer {self.api_key}"}

    def log_entries(self) -> list[dict[str, Any]]:
        """Every entry of the audit log, parsed."""
        lines = self.settings.audit_file.read_text().splitlines()
        return [json.loads(line)["entry"] for line in lines]


def write_settings(
    folder: Path, runtime_url: str, trust: TrustRoots, reference: ReferenceValues, **values: Any
) -> tuple[Settings, str, str]:
    """Everything that a gateway needs in ``folder``: settings, an API key and its id."""
    (folder / "trust.toml").write_text(trust.toml())
    (folder / "reference.toml").write_text(reference.toml())
    settings = Settings(home=folder, runtime_url=runtime_url, **{"allow_mock": True, **values})
    keys = ApiKeyStore(settings.keys_file)
    new = keys.create("tests", groups=("testers",), now=datetime.now(UTC))
    keys.close()
    return settings, new.secret, new.info.id


@asynccontextmanager
async def running_gateway(
    folder: Path, runtime_url: str, trust: TrustRoots, reference: ReferenceValues, **values: Any
) -> AsyncIterator[RunningGateway]:
    """Start a gateway in this event loop."""
    settings, api_key, key_id = write_settings(folder, runtime_url, trust, reference, **values)
    async with listening(create_app(settings)) as url:
        yield RunningGateway(url, api_key, key_id, settings)


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve ``app`` with uvicorn on a free loopback port of this event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # asyncio sets this only where the protocol number is known, which a bare listener does not tell.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            if serving.done():
                await serving
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving

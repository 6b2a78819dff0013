"""The stock openai npm client, streamed, against a gateway before a runtime as it ships."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from attest.mock.vendor import MockVendor
from tests.conftest import ROOT
from tests.simulators.real_runtime import MODEL, TEXT, RealRuntime
from tests.simulators.running_gateway import running_gateway

FOLDER = ROOT / "tests" / "npm"
LENGTH = 12
"""What client.mjs asks for, in tokens; the stub's are bytes."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client and its script in a folder of their own; skips where there is no node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on this machine")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", ".npmrc", "client.mjs"):
        shutil.copy(FOLDER / name, folder)
    return folder


async def run(folder: Path, *command: str, **variables: str) -> str:
    """Standard output of a command that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_stream_models_whole_answer_and_error(
    installed: Path, tmp_path: Path, vendor: MockVendor
) -> None:
    """What works with the Python client works with this one, receipt header and error codes too."""
    await run(installed, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    runtime = RealRuntime(vendor)
    async with (
        runtime.running() as url,
        running_gateway(tmp_path, url, runtime.trust, runtime.reference) as gateway,
    ):
        output = await run(
            installed,
            "node",
            "client.mjs",
            SEALGATE_URL=f"{gateway.url}/v1",
            SEALGATE_KEY=gateway.api_key,
            SEALGATE_MODEL=MODEL,
        )
    seen = json.loads(output)
    expected = TEXT.decode()[:LENGTH]
    assert seen["models"] == [MODEL]
    assert seen["text"] == seen["wholeText"] == expected
    assert seen["chunks"] >= len(expected)
    assert seen["finishReason"] == "length"
    assert seen["receiptId"].startswith("rcpt-")
    assert seen["error"] == {"status": 404, "code": "model_not_found"}

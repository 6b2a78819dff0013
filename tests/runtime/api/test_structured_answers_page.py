"""What the page on structured answers shows runs as it stands: stock client, gateway, embedded model."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from attest.mock.vendor import MockVendor
from runtime.model.loaded import open_model
from tests.simulators.guided_model import guided_model
from tests.simulators.real_runtime import RealRuntime
from tests.simulators.running_gateway import running_gateway

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "structured-answers.md"


@pytest.mark.model
@pytest.mark.usefixtures("smollm2_file")
async def test_the_pages_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    runtime = RealRuntime(MockVendor.create(), served=guided_model(open_model("smollm2")))
    found: dict[str, Any] = {}
    async with (
        runtime.running() as url,
        running_gateway(tmp_path, url, runtime.trust, runtime.reference) as gateway,
    ):
        monkeypatch.setenv("OPENAI_BASE_URL", f"{gateway.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", gateway.api_key)
        for block in blocks:
            await asyncio.to_thread(exec, compile(block, str(PAGE), "exec"), found)
        await asyncio.to_thread(found["client"].close)
    await asyncio.sleep(0.1)  # connections of servers that have ended are closed in the loop's next turns
    assert len(found["person"].name) <= 40
    assert isinstance(found["person"].age, int)
    (call,) = found["message"].tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments).keys() == {"city"}
    assert capsys.readouterr().out.strip() == found["told"].choices[0].message.content.strip()

"""A model of random weights behind the seal, and transformers' own of the same, to hold scores against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attest.protocol import paths
from runtime.api.served import ServedModel
from runtime.loading import load_served_model
from runtime.settings import ModelSettings
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime
from tests.simulators.tiny_models import save_folder, tiny_config


@dataclass
class Scored:
    """Both.

    Args:
        served: the model behind the seal.
        client: a tenant of it.
        model: of transformers.
    """

    served: ServedModel
    client: SealingClient
    model: Any

    async def ask(self, path: str = paths.COMPLETIONS_PATH, **members: Any) -> InnerAnswer:
        """One request, greedy."""
        request = {"model": self.served.name, "temperature": 0, **members}
        return await self.client.call("POST", path, request)

    def expected(self, ids: list[int]) -> torch.Tensor:
        """(tokens - 1, vocabulary): the log-probabilities at each place after the first."""
        with torch.inference_mode():
            return torch.log_softmax(self.model(torch.tensor([ids])).logits[0, :-1].float(), dim=-1)


@asynccontextmanager
async def scored_model(folder: Path) -> AsyncIterator[Scored]:
    """Such a model, running.

    Args:
        folder: where it may be written.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the reference's rows are few
    model = save_folder(folder / "tiny", tiny_config("llama"))
    served = load_served_model(ModelSettings(str(folder / "tiny"), weights="float32", threads=1))
    runtime = await StubRuntime.started(served=served)
    yield Scored(served, runtime.client(), model)
    await served.engine.stop()
    torch.set_num_threads(threads)

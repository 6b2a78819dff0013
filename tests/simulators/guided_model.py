"""The embedded model behind the API, with all that holds its answers to a form."""

from __future__ import annotations

import time

from runtime.api.served import ServedModel
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.guide.guides import Guides, vocabulary
from runtime.guide.limits import GuideLimits
from runtime.model.loaded import OpenModel
from runtime.model.tokenizer import IncrementalDecoder


def guided_model(opened: OpenModel, limits: GuideLimits | None = None) -> ServedModel:
    """Serve ``opened``; the engine is still to be started."""
    tokenizer = opened.tokenizer
    return ServedModel(
        engine=ChunkedEngine(opened, EngineSettings(threads=2)),
        tokenizer=tokenizer,
        new_decoder=lambda: IncrementalDecoder(tokenizer),
        base_model_digest=opened.base_model_digest,
        tokenizer_digest=opened.tokenizer_digest,
        created=int(time.time()),
        guides=Guides(vocabulary(tokenizer.backend, tokenizer.eos_ids), limits),
    )

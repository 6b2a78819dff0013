"""Load what is to be served. What torch is needed for is imported once it is known to be wanted."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.api.served import ServedEmbedder, ServedModel
from runtime.settings import ModelSettings

if TYPE_CHECKING:
    from runtime.engine.base import Engine
    from runtime.model.loaded import OpenModel, Progress


def load_served_model(model: ModelSettings, *, progress: Progress | None = None) -> ServedModel:
    """Load a pulled model, or one at a path, behind the engine, and the embedding model beside it.

    The embedding model is read first: what is wrong with it shows before the minutes that the other may take.

    Raises:
        Refused: ``model-not-pulled``, ``model-not-found``, ``model-digest-mismatch``; ``adapter-folder``,
            ``adapter-memory``; ``model-kind``.
        Unsupported: ``native-kernels``, ``vllm-not-installed``, ``vllm-weights``.
    """
    embedder = load_embedding_model(model)
    load = _vllm_model if model.engine == "vllm" else _own_model
    return replace(load(model, progress), embedder=embedder)


def _own_model(model: ModelSettings, progress: Progress | None) -> ServedModel:
    """The model behind Sealgate's engine."""
    # torch takes seconds to import: not before it is known that a model is wanted.
    from runtime.engine.chunked import ChunkedEngine  # noqa: PLC0415
    from runtime.engine.lora.catalogue import open_adapters  # noqa: PLC0415
    from runtime.engine.settings import EngineSettings  # noqa: PLC0415
    from runtime.guide.guides import Guides, vocabulary  # noqa: PLC0415
    from runtime.model.loaded import open_model  # noqa: PLC0415

    opened = open_model(model.name, progress=progress)
    settings = EngineSettings(
        model.weights, kernels=model.kernels, threads=model.threads, max_running=model.max_batch
    )
    catalogue, store = None, None
    if model.adapters is not None:
        catalogue, store = open_adapters(model.adapters, opened, settings)
    served = _served(ChunkedEngine(opened, settings, adapters=store), opened)
    guides = Guides(vocabulary(opened.tokenizer.backend, opened.tokenizer.eos_ids))
    return replace(served, guides=guides, adapters=catalogue)


def _vllm_model(model: ModelSettings, progress: Progress | None) -> ServedModel:
    """The same model behind vLLM, which holds answers to no form and runs no adapter here."""
    from runtime.engine.backends.vllm import VllmEngine, VllmSettings  # noqa: PLC0415 torch, as above
    from runtime.model.loaded import open_model  # noqa: PLC0415 the same

    opened = open_model(model.name, progress=progress)
    settings = VllmSettings(model.weights, threads=model.threads, max_running=model.max_batch)
    return _served(VllmEngine(opened, settings), opened)


def _served(engine: Engine, opened: OpenModel) -> ServedModel:
    """An engine and what is said of its model; nothing of ``opened`` is kept that holds weights."""
    from runtime.model.tokenizer import IncrementalDecoder  # noqa: PLC0415 as above

    tokenizer = opened.tokenizer
    return ServedModel(
        engine=engine,
        tokenizer=tokenizer,
        new_decoder=lambda: IncrementalDecoder(tokenizer),
        base_model_digest=opened.base_model_digest,
        tokenizer_digest=opened.tokenizer_digest,
        created=int(time.time()),
    )


def load_embedding_model(model: ModelSettings) -> ServedEmbedder | None:
    """The embedding model, if one is wanted.

    Raises:
        Refused: as for the other model, and ``model-kind``.
        Unsupported, Malformed: the folder is not one that is run here.
        SelfCheckFailed: it does not compute what the model says.
    """
    if model.embedding_model is None:
        return None
    from runtime.embed.embedder import load_embedder  # noqa: PLC0415 torch, as above

    return load_embedder(model.embedding_model, threads=model.threads)

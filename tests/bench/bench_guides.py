"""What holding answers to a form costs, on the embedded model and Sealgate's engine. Prints one JSON object.

    python -m tests.bench.bench_guides [--repeats 5] [--threads 2]

Decoding: tokens per second of 1 and of 8 answers of the same length to the same prompts, free and under each
form, in turns; a ratio of 1 is the speed of free answers of the same repeat. The forms outlast the answers.
Compiling: milliseconds for a form that is new, one that this tenant has used before, the longest that the
event loop stood still meanwhile, and of one answer's masks the middle and the dearest.
``sealgate model pull smollm2`` comes first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from importlib import metadata
from typing import Any, Final

import numpy as np

from runtime import settings
from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.guide.form import Callable, CallsForm, ChoiceForm, Form, JsonForm, RegexForm
from runtime.guide.guides import Guides, vocabulary
from runtime.guide.limits import GuideLimits
from runtime.model.loaded import open_model
from runtime.model.store import stored_model

STREAMS: Final = (1, 8)
TOKENS: Final = 32
MASKS: Final = 150

PERSON: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 2},
    },
    "required": ["name", "age", "colours"],
}
TOOLS: Final = tuple(Callable(f"function_{number}", PERSON) for number in range(16))

LASTING: Final[dict[str, Form | None]] = {
    "free": None,
    "schema": JsonForm({"type": "array", "items": PERSON, "minItems": 100}),
    "expression": RegexForm(r"([a-z]{1,12} ){400}"),
    "tools, none called": CallsForm(TOOLS, required=False, most=16),
    "any letters (costly)": RegexForm(r"(\p{L}| ){2000,4000}"),
}
FORMS: Final[dict[str, Form]] = {
    "person": JsonForm(PERSON),
    "choice of two": ChoiceForm(("yes", "no")),
    "16 tools": CallsForm(TOOLS, required=False, most=16),
    "300 properties": JsonForm({"properties": {f"p{number}": {"type": "string"} for number in range(300)}}),
    "enum of 5000": JsonForm({"enum": [f"value {number}" for number in range(5000)]}),
    "100 tools of 20": CallsForm(
        tuple(
            Callable(
                f"f{a}",
                {"properties": {f"p{b}": {"type": "string", "pattern": "^[a-z]{3,80}$"} for b in range(20)}},
            )
            for a in range(100)
        ),
        required=False,
        most=16,
    ),
    "any letters (costly)": RegexForm(r"(\p{L}| ){1,5000}"),
    "multiple of 9973": JsonForm({"type": "integer", "multipleOf": 9973}),
}


async def decoded_per_s(engine: ChunkedEngine, guides: Guides, form: Form | None, streams: int) -> float:
    """Tokens per second from the first token of the last answer to the end."""
    compiled = None if form is None else await guides.compiled(form, tenant="bench")

    async def answer(index: int) -> list[float]:
        request = GenerateRequest(
            request_id=f"{index}",
            tenant="bench",
            prompt_token_ids=tuple(range(100 + index, 116 + index)),
            params=SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=form is None),
            guide=None if compiled is None else compiled.guide(),
        )
        return [time.perf_counter() async for _ in engine.generate(request)]

    times = await asyncio.gather(*map(answer, range(streams)))
    if any(len(each) != TOKENS for each in times):
        raise SystemExit("an answer ended early")
    began = max(each[0] for each in times)
    ended = max(each[-1] for each in times)
    return sum(at > began for each in times for at in each) / (ended - began)


async def decoding(
    engine: ChunkedEngine, guides: Guides, repeats: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by streams and form, each beside free answers of the same repeat."""
    speeds: dict[tuple[int, str], list[float]] = {}
    for _ in range(repeats):
        for streams in STREAMS:
            for name, form in LASTING.items():
                speed = await decoded_per_s(engine, guides, form, streams)
                speeds.setdefault((streams, name), []).append(speed)
    return {
        str(streams): {
            name: {
                "tokens_per_s": round(statistics.median(speeds[streams, name]), 1),
                "of_free": round(
                    statistics.median(
                        a / b for a, b in zip(speeds[streams, name], speeds[streams, "free"], strict=True)
                    ),
                    3,
                ),
            }
            for name in LASTING
        }
        for streams in STREAMS
    }


async def compiling(guides: Guides, form: Form, vocabulary_size: int, repeats: int) -> dict[str, float]:
    """Milliseconds; each repeat is a tenant for whom the form is new."""
    new, again, still = [], [], []
    for repeat in range(repeats):
        heart = asyncio.create_task(longest_gap())
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        compiled = await guides.compiled(form, tenant=f"tenant {repeat}")
        new.append(time.perf_counter() - began)
        heart.cancel()
        still.append(await heart)
        began = time.perf_counter()
        await guides.compiled(form, tenant=f"tenant {repeat}")
        again.append(time.perf_counter() - began)
    masks = []
    guide, draw = compiled.guide(), np.random.default_rng(7)
    for _ in range(MASKS):
        began = time.perf_counter()
        mask = guide.allowed()
        masks.append(time.perf_counter() - began)
        bits = np.unpackbits(np.frombuffer(mask or b"", dtype=np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits[:vocabulary_size])
        if len(allowed) < 2:  # nothing, or the end alone
            break
        guide.advance(int(draw.choice(allowed)))
    figures = {
        "new": statistics.median(new),
        "again": statistics.median(again),
        "loop_stood_still": max(still),
        "mask_middle": statistics.median(masks),
        "mask_dearest": max(masks),
    }
    return {name: round(seconds * 1000, 3) for name, seconds in figures.items()}


async def longest_gap() -> float:
    """Seconds between two turns of the event loop, at most, until cancelled."""
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return longest


async def measured(repeats: int, threads: int) -> dict[str, Any]:
    """Everything."""
    opened = open_model(stored_model(settings.home(), "smollm2").weights)
    tokens = vocabulary(opened.tokenizer.backend, opened.tokenizer.eos_ids)
    size = opened.architecture.vocab_size
    guides = Guides(tokens, GuideLimits(patience_s=120))
    engine = ChunkedEngine(opened, EngineSettings(threads=threads))
    del opened
    await engine.start()
    try:
        return {
            "llguidance": metadata.version("llguidance"),
            "weights": engine.info.dtype,
            "threads": threads,
            "repeats": repeats,
            "tokens": TOKENS,
            "decoding": await decoding(engine, guides, repeats),
            "compiling_ms": {
                name: await compiling(guides, form, size, repeats) for name, form in FORMS.items()
            },
        }
    finally:
        await engine.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measured(arguments.repeats, arguments.threads)), indent=2))


if __name__ == "__main__":
    main()

"""Many adapters of the embedded model, decoding together. Prints one JSON object.

Run: python -m tests.bench.bench_lora [--mode bf16] [--adapters 1,10,100,1000] [--parts steps loads cold peft]

Batches of 32 rows decode one token per step; a request lasts 64 steps, and the next takes its row with an
adapter chosen at random, so that adapters are placed while others run, as they are in service. The cases
take turns, a stretch of steps each, and what is compared are medians. All adapters are of rank 8 on all
linears.

    steps    a step of 32 rows and of one, against the number of adapters
    cold     from asking for an adapter to its being ready: from memory, and from disk
    loads    how long steps take while adapters are loaded and placed without pause
    peft     the same batch in PEFT: 64 adapters, rows of one batch by ``adapter_names``, in float32, which
             is its fastest on CPUs without bfloat16: a decoding step, and a whole ``generate``

With one thread the clock is the process's own time, placing included, which other programs on the
machine sway little; with more it is the wall's, and the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from runtime.engine.lora.adapter import CONFIG_NAME, TENSORS_NAME
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.lease import Lease
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables
from runtime.engine.run.batch import Piece
from runtime.engine.run.runner import Runner, load_runner
from runtime.model.loaded import open_model
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config

RANK, ROWS, REQUEST_STEPS, CONTEXT, PAGE = 8, 32, 64, 128, 16
MOST_ROWS, PEER_ADAPTERS, READ_AT_ONCE = 64, 64, 1024
PROMPT, GENERATED = 64, 16
PARTS = ("steps", "loads", "cold", "peft")
TENANT = "bench"


class Folders:
    """PEFT folders of one set of weights and as many scalings, thus digests, as are asked for."""

    def __init__(self, shape: BaseShape, where: Path) -> None:
        self._where = where
        self._files = adapter_files(lora_tensors(shape, RANK, scale=0.01), peft_config(RANK))
        (where / TENSORS_NAME).write_bytes(self._files[TENSORS_NAME])

    def make(self, index: int) -> Path:
        """The folder of one adapter."""
        folder = self._where / str(index)
        folder.mkdir()
        config = peft_config(RANK, lora_alpha=8 + index / 1000)
        (folder / CONFIG_NAME).write_text(json.dumps(config))
        os.link(self._where / TENSORS_NAME, folder / TENSORS_NAME)
        return folder


class Rows:
    """The rows of one case, each on an adapter of its own choice until its request ends."""

    def __init__(self, store: AdapterStore, digests: list[str], rows: int) -> None:
        self._store, self._digests, self._random = store, digests, random.Random(len(digests))  # noqa: S311 a load
        self.leases = [self._lease() for _ in range(rows)]
        self._next = self._lease()
        self._steps = 0

    def _lease(self) -> Lease | None:
        if not self._digests:
            return None
        return self._store.acquire(self._random.choice(self._digests), tenant=TENANT)

    def spans(self) -> Iterator[Any]:
        """One row each."""
        for lease in self.leases:
            yield (lease.future.result() if lease else None, 1)

    def step(self) -> None:
        """Requests end evenly spread; the next one's adapter was asked for when the one before it began."""
        self._steps += len(self.leases)
        while self._steps >= REQUEST_STEPS:
            self._steps -= REQUEST_STEPS
            row = self._random.randrange(len(self.leases))
            old, self.leases[row], self._next = self.leases[row], self._next, self._lease()
            if old is not None:
                old.release()

    def end(self) -> None:
        """Give everything back."""
        for lease in (*self.leases, self._next):
            if lease is not None:
                lease.future.result()
                lease.release()


class Decoding:
    """A runner whose rows all stand at the same place of a filled cache."""

    def __init__(self, runner: Runner, tables: LoraTables) -> None:
        pages = -(-(CONTEXT + 1) // PAGE)
        self._runner = runner
        self._cache = runner.cache(1 + pages * MOST_ROWS, PAGE)
        self._tables = [range(1 + row * pages, 1 + (row + 1) * pages) for row in range(MOST_ROWS)]
        self._batches = LoraBatches(tables)
        self.clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def step(self, rows: Rows) -> float:
        """One token for each row; its seconds."""
        return self._run(rows, [9], CONTEXT)

    def generate(self, rows: Rows, prompt: int, tokens: int) -> float:
        """Read a prompt in each row, then generate; its seconds."""
        seconds = 0.0
        at_once = max(1, READ_AT_ONCE // prompt)
        for first in range(0, len(rows.leases), at_once):
            seconds += self._run(rows, [9] * prompt, 0, slice(first, first + at_once))
        return seconds + sum(self._run(rows, [9], prompt + token) for token in range(tokens - 1))

    def _run(self, rows: Rows, tokens: list[int], start: int, part: slice = slice(None)) -> float:
        began = self.clock()
        tables = self._tables[: len(rows.leases)][part]
        step = self._runner.batch([Piece(tokens, start, pages, 1) for pages in tables], self._cache)
        spans = [(placed, len(tokens)) for placed, _ in list(rows.spans())[part]]
        hidden = self._runner.forward(step, self._cache, self._batches.of(spans))
        self._runner.logits(hidden).argmax(-1).tolist()
        return self.clock() - began


def throughput(
    decoding: Decoding, store: AdapterStore, digests: list[str], counts: list[int], *, rows: int, repeats: int
) -> dict[str, Any]:
    """Steps of each case by turns."""
    cases = {"base": Rows(store, [], rows)}
    cases |= {str(count): Rows(store, digests[:count], rows) for count in counts}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for name, case in cases.items():
                for step in range(10):
                    elapsed = decoding.step(case)
                    case.step()
                    if repeat and step:  # the first of a turn finds another case's weights in the caches
                        seconds[name].append(elapsed)
    for case in cases.values():
        case.end()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = str(counts[0])
    return {
        name: {
            "step_ms_p50": round(medians[name] * 1000, 2),
            "step_ms_p10": round(statistics.quantiles(values, n=10)[0] * 1000, 2),
            "step_ms_p99": round(statistics.quantiles(values, n=100)[98] * 1000, 2),
            "tokens_per_s": round(rows / medians[name], 1),
            "over_base": round(medians[name] / medians["base"] - 1, 3),
            "over_one_adapter": round(medians[name] / medians[first] - 1, 3),
        }
        for name, values in seconds.items()
    }


def cold(decoding: Decoding, store: AdapterStore, digests: list[str], times: int) -> dict[str, float]:
    """Milliseconds from asking to ready: from memory and from disk (in the system's file cache)."""

    def ready(digest: str) -> float:
        start = decoding.clock()
        lease = store.acquire(digest, tenant=TENANT)
        lease.future.result()
        elapsed = decoding.clock() - start
        lease.release()
        return elapsed * 1000

    for digest in digests:
        ready(digest)
    from_memory = [ready(digest) for digest in digests[:times]]  # displaced from the tables by those after
    store._keeper.submit(store._hot.clear).result()
    from_disk = [ready(digest) for digest in digests[times : 2 * times]]
    return {
        "from_memory_ms_p50": round(statistics.median(from_memory), 2),
        "from_memory_ms_min": round(min(from_memory), 2),
        "from_disk_ms_p50": round(statistics.median(from_disk), 2),
        "from_disk_ms_min": round(min(from_disk), 2),
    }


def loads(
    decoding: Decoding, store: AdapterStore, digests: list[str], *, steps: int, rows: int = 16
) -> dict[str, Any]:
    """Steps of running requests while others' adapters come and go, from memory or from disk, and without."""
    running = Rows(store, digests[:rows], rows)
    others = digests[rows:]
    seconds: dict[str, list[float]] = {"quiet": [], "from memory": [], "from disk": []}
    counted: dict[str, int] = {}
    with torch.inference_mode():
        for turn in range(4 * len(seconds)):
            case = list(seconds)[turn % len(seconds)]
            stop = threading.Event()
            loader = threading.Thread(target=_load, args=(store, others, stop, case, counted))
            if case != "quiet":
                loader.start()
            seconds[case] += [decoding.step(running) for _ in range(steps)][1:]
            stop.set()
            if case != "quiet":
                loader.join()
    running.end()
    return {
        case: {
            "step_ms_p50": round(statistics.median(values) * 1000, 2),
            "step_ms_p99": round(statistics.quantiles(values, n=100)[98] * 1000, 2),
            "loads_per_s": round(counted.get(case, 0) / sum(values), 1),
        }
        for case, values in seconds.items()
    }


def _load(
    store: AdapterStore, digests: list[str], stop: threading.Event, case: str, counted: dict[str, int]
) -> None:
    """Ask for one adapter after the other, twenty a second at most; from disk once it has left memory."""
    chance = random.Random(3)  # noqa: S311 a load
    while not stop.wait(0.05):
        digest = chance.choice(digests)
        if case == "from disk":
            store._keeper.submit(store._hot.drop, digest).result()
        lease = store.acquire(digest, tenant=TENANT)
        lease.future.result()
        lease.release()
        counted[case] = counted.get(case, 0) + 1


def against_peft(
    decoding: Decoding, store: AdapterStore, digests: list[str], folders: list[Path], repeats: int
) -> dict[str, Any]:
    """Rows of one batch over 64 adapters, here and in PEFT's mixed batch, by turns."""
    peer = _peer(folders)
    chooser = random.Random(1)  # noqa: S311 a load
    figures: dict[str, Any] = {}
    for rows in (ROWS, MOST_ROWS):
        names = [f"a{chooser.randrange(len(folders))}" for _ in range(rows)]
        case = Rows(store, digests[: len(folders)], rows)
        times: dict[str, list[float]] = {"step": [], "peft_step": [], "generate": [], "peft_generate": []}
        with torch.inference_mode():
            past = peer(torch.full((rows, CONTEXT), 9), adapter_names=names, use_cache=True).past_key_values
            for _ in range(repeats):
                start = decoding.clock()
                output = peer(
                    torch.full((rows, 1), 9), adapter_names=names, past_key_values=past, use_cache=True
                )
                output.logits.argmax(-1).tolist()
                times["peft_step"].append(decoding.clock() - start)
                times["step"] += [decoding.step(case) for _ in range(3)]
            del past, output
            for _ in range(2):
                start = decoding.clock()
                _generate(peer, names)
                times["peft_generate"].append(decoding.clock() - start)
                times["generate"].append(decoding.generate(case, PROMPT, GENERATED))
        case.end()
        middle = {name: statistics.median(values) for name, values in times.items()}
        figures[f"batch_{rows}"] = {
            **{f"{name}_ms": round(value * 1000, 1) for name, value in middle.items()},
            "step_times_faster": round(middle["peft_step"] / middle["step"], 2),
            "generate_times_faster": round(middle["peft_generate"] / middle["generate"], 2),
        }
    return figures


def _generate(peer: Any, names: list[str]) -> None:
    """What a user of PEFT calls."""
    peer.generate(
        input_ids=torch.full((len(names), PROMPT), 9),
        attention_mask=torch.ones((len(names), PROMPT), dtype=torch.long),
        adapter_names=names,
        max_new_tokens=GENERATED,
        min_new_tokens=GENERATED,
        do_sample=False,
        pad_token_id=2,
    )


def _peer(folders: list[Path]) -> Any:
    """The base with all adapters, in transformers and PEFT."""
    import peft  # noqa: PLC0415 seconds, and only for the comparison
    import transformers  # noqa: PLC0415 likewise

    from runtime import settings  # noqa: PLC0415 likewise
    from runtime.model.store import stored_model  # noqa: PLC0415 likewise

    weights = stored_model(settings.home(), "smollm2").weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = transformers.AutoModelForCausalLM.from_pretrained(
            weights.parent, gguf_file=weights.name, dtype=torch.float32
        )
        peer: Any = peft.PeftModel.from_pretrained(base, folders[0], adapter_name="a0")
        for index, folder in enumerate(folders[1:], 1):
            peer.load_adapter(folder, adapter_name=f"a{index}")
    return peer.eval()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--adapters", default="1,10,100,1000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mode", default="bf16")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    opened = open_model("smollm2")
    runner = load_runner(opened.architecture, opened.weights, options.mode)
    shape = BaseShape.of(opened.architecture)
    tables = LoraTables(shape, 4 * ROWS, runner.adapter_dtype)
    counts = [int(count) for count in options.adapters.split(",")]
    with ExitStack() as stack:
        folders = Folders(shape, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        store = AdapterStore(
            tables, base_model_digest=opened.base_model_digest, budget_bytes=8 << 30, dtype=torch.bfloat16
        )
        stack.callback(store.close)
        start = time.perf_counter()
        made = [folders.make(index) for index in range(max(*counts, PEER_ADAPTERS))]
        digests = [store.register_folder(folder, tenant=TENANT) for folder in made]
        registering = time.perf_counter() - start
        decoding = Decoding(runner, tables)
        figures: dict[str, Any] = {
            "threads": options.threads,
            "clock": decoding.clock.__name__,
            "mode": options.mode,
            "adapters": {
                "rank": RANK,
                "hot": store.stats().hot,
                "hot_bytes": store.stats().hot_bytes,
                "tables_bytes": tables.memory_bytes,
                "register_ms": round(registering / len(digests) * 1000, 1),
            },
        }
        if "steps" in options.parts:
            for rows in (ROWS, 1):
                figures[f"batch_{rows}"] = throughput(
                    decoding, store, digests, counts, rows=rows, repeats=options.repeats
                )
        if "loads" in options.parts:
            figures["loads"] = loads(decoding, store, digests[: 2 * tables.units], steps=30)
        if "cold" in options.parts and len(digests) > 2 * tables.units:
            figures["cold"] = cold(decoding, store, digests[: 2 * tables.units], 20)
        if "peft" in options.parts:
            figures["peft_64_adapters"] = against_peft(
                decoding, store, digests, made[:PEER_ADAPTERS], options.repeats
            )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

"""What leaves by /metrics: right figures, none of one tenant or request, and a format that parses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.digest import sha256_digest
from attest.protocol import paths
from runtime.api.embedder_metrics import embedder_families
from runtime.api.engine_metrics import PAGE_GRAINS, STEP_GRAIN, TOKEN_GRAIN
from runtime.api.metrics import RuntimeMetrics
from runtime.embed.figures import EmbedderFigures, EmbedderMeter
from runtime.engine.base import EngineInfo, EngineStats
from runtime.engine.telemetry import (
    AdapterFigure,
    AdaptersFigures,
    Meter,
    PageFigures,
    SelfCheckFigures,
    Telemetry,
)
from tests.simulators.sealing_client import ask
from tests.simulators.stub_runtime import StubRuntime, stub_engine

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="[^"\\\n]*",?)+)\})? (-?[0-9.e+-]+)')
MODEL = "/srv/customers/acme/merger-model"
DIGESTS = tuple(sha256_digest(b"%d" % index) for index in range(16))


class Figures:
    """An engine that says what a test wants it to."""

    def __init__(self, stats: EngineStats) -> None:
        self.info = EngineInfo("sealgate", MODEL, 4096, "bf16")
        self.now = stats

    def stats(self) -> EngineStats:
        """As it was told."""
        return self.now


def adapters() -> AdaptersFigures:
    return AdaptersFigures(
        registered=1000,
        hot=40,
        placed=20,
        pinned=3,
        waiting=2,
        tables_bytes=1 << 30,
        failed_loads=4,
        every=AdapterFigure(900, 800, 40 * 9_000_000),
        busiest={digest: AdapterFigure(3, 2, 9_000_000) for digest in DIGESTS},
    )


def telemetry(**changes: Any) -> Telemetry:
    meter = Meter()
    meter.token(0.2, first=True)
    for _ in range(100):
        meter.token(0.03, first=False)
        meter.stepped(0.03, 1, 1)
    meter.refusals["engine_overloaded"] += 2
    figures = Telemetry.of(
        meter,
        rows_limit=1024,
        pages=PageFigures(1000, 16, 300, 200, 5000, 1000),
        adapters=adapters(),
        self_check=SelfCheckFigures(0.25, 0.125),
    )
    return replace(figures, **changes)


def stats(**changes: Any) -> EngineStats:
    counts = {field.name: 0 for field in fields(EngineStats) if field.name != "telemetry"}
    return EngineStats(**{**counts, "telemetry": telemetry(), **changes})


def embedder(**changes: Any) -> EmbedderFigures:
    meter = EmbedderMeter()
    with meter.request():
        meter.passed(TOKEN_GRAIN, TOKEN_GRAIN, 0.03)
    return replace(meter.read(SelfCheckFigures(0.5, 0.25)), **changes)


def metrics(now: EngineStats, embeds: EmbedderFigures | None = None, **options: Any) -> RuntimeMetrics:
    beside = SimpleNamespace(figures=lambda: embeds or embedder())
    return RuntimeMetrics(Figures(now), beside, **options)  # type: ignore[arg-type]  # only figures are asked for


def samples(page: str) -> dict[tuple[str, str], float]:
    """The page's samples by name and labels; fails on a line that is none."""
    found: dict[tuple[str, str], float] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        key = (match[1], match[2] or "")
        assert key not in found
        found[key] = float(match[3])
    return found


def families(page: str) -> Iterator[tuple[str, str]]:
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            yield name, kind


def test_the_page_is_prometheus_text() -> None:
    """Help, type, then samples of that name; counters end in _total; buckets rise to the count."""
    page = metrics(stats(prompt_tokens=1000)).render()
    name = kind = ""
    for line in page.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert len(line.split()) > 4
        elif line.startswith("# TYPE "):
            _, _, typed, kind = line.split()
            assert typed == name
            assert (kind == "counter") == name.endswith("_total")
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None
            assert match[1].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") == name
    found = samples(page)
    for histogram in (name for name, kind in families(page) if kind == "histogram"):
        buckets = [value for (each, _), value in found.items() if each == f"{histogram}_bucket"]
        assert all(low <= high for low, high in pairwise(buckets))
        assert buckets[-1] == found[f"{histogram}_count", ""]
        assert found[f"{histogram}_bucket", 'le="+Inf"'] == buckets[-1]


def test_every_family_is_documented_and_every_documented_one_is_exported() -> None:
    exported = set(families(metrics(stats()).render()))
    documented = set(re.findall(r"^\| `(sealgate_\w+)`[^|]*\| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert exported == documented


def test_figures_are_those_of_the_engine() -> None:
    now = stats(running=3, waiting=5, finished=7, preemptions=2, prompt_tokens=2 * TOKEN_GRAIN)
    found = samples(metrics(now).render())
    assert found["sealgate_engine_requests_running", ""] == 3
    assert found["sealgate_engine_requests_waiting", ""] == 5
    assert found["sealgate_engine_requests_total", 'outcome="finished"'] == 7
    assert found["sealgate_engine_preemptions_total", ""] == 2
    assert found["sealgate_engine_prompt_tokens_total", ""] == 2 * TOKEN_GRAIN
    assert found["sealgate_engine_refusals_total", 'code="engine_overloaded"'] == 2
    assert found["sealgate_engine_time_to_first_token_seconds_count", ""] == 1
    assert found["sealgate_engine_time_to_first_token_seconds_bucket", 'le="0.2"'] == 1
    assert found["sealgate_engine_time_between_tokens_seconds_count", ""] == STEP_GRAIN  # of 100
    assert found["sealgate_engine_time_between_tokens_seconds_sum", ""] == pytest.approx(0.03 * STEP_GRAIN)
    assert found["sealgate_engine_kv_pages", 'state="used"'] == 300
    assert found["sealgate_engine_kv_pages", 'state="free"'] == 500
    assert found["sealgate_engine_adapter_evictions_total", ""] == 800
    assert found["sealgate_engine_busiest_adapter_loads", 'adapter="other"'] == 900 - 16 * 3
    assert found["sealgate_engine_self_check_error_ratio", ""] == 0.125


def test_figures_are_those_of_the_embedder() -> None:
    refused = embedder(
        requests={"finished": 5, "cancelled": 2, "failed": 1}, refusals={"engine_overloaded": 3}, waiting=4
    )
    found = samples(metrics(stats(), refused).render())
    assert found["sealgate_embedder_requests_waiting", ""] == 4
    assert found["sealgate_embedder_requests_total", 'outcome="cancelled"'] == 2
    assert found["sealgate_embedder_refusals_total", 'code="engine_overloaded"'] == 3
    assert found["sealgate_embedder_texts_total", ""] == TOKEN_GRAIN
    assert found["sealgate_embedder_tokens_total", ""] == TOKEN_GRAIN
    assert found["sealgate_embedder_request_seconds_count", ""] == 1
    assert found["sealgate_embedder_self_check_error_ratio", ""] == 0.25
    alone = RuntimeMetrics(Figures(stats())).render()  # type: ignore[arg-type]  # as above
    assert "embedder" not in alone


@given(texts=st.integers(0, STEP_GRAIN - 1), tokens=st.integers(0, TOKEN_GRAIN - 1))
def test_one_small_request_for_embeddings_changes_no_count_but_of_requests(texts: int, tokens: int) -> None:
    """Neither how many texts it held nor how long they were."""
    one, another = EmbedderMeter(), EmbedderMeter()
    one.passed(texts, tokens, 0.01)
    another.passed(1, 1, 0.02)
    shown = [list(embedder_families(meter.read(SelfCheckFigures(0.5, 0.25)))) for meter in (one, another)]
    assert shown[0] == shown[1]


@given(tokens=st.integers(0, TOKEN_GRAIN - 1), steps=st.integers(0, STEP_GRAIN - 1), pages=st.integers(0, 19))
def test_one_short_request_changes_no_count_of_tokens_steps_or_pages(
    tokens: int, steps: int, pages: int
) -> None:
    """Read before and after, the page does not tell how long a request was: the padding hides that."""
    meter = Meter()
    for _ in range(steps):
        meter.token(0.02, first=False)
        meter.stepped(0.02, 1, 1)
    some = Telemetry.of(meter, rows_limit=1024, pages=PageFigures(1000, 16, pages, pages, tokens, tokens))
    before = replace(
        stats(telemetry=Telemetry.of(Meter(), rows_limit=1024, pages=PageFigures(1000, 16, 0, 0, 0, 0)))
    )
    after = stats(prompt_tokens=tokens, completion_tokens=tokens, steps=steps, telemetry=some)
    assert 1000 // PAGE_GRAINS == 20
    assert metrics(after).render() == metrics(before).render()


def test_a_page_stands_for_its_period() -> None:
    """Asking in a loop does not show the moment at which a count rises."""
    time = [100.0]
    engine = Figures(stats())
    metric = RuntimeMetrics(engine, period_s=2.0, clock=lambda: time[0])  # type: ignore[arg-type]  # as above
    first = metric.render()
    engine.now = stats(running=1)
    metric.count("sealed", "200")
    time[0] += 1.99
    assert metric.render() == first
    time[0] += 0.01
    later = samples(metric.render())
    assert later["sealgate_engine_requests_running", ""] == 1
    assert later["sealgate_runtime_requests_total", 'route="sealed",outcome="200"'] == 1


def test_no_name_of_an_adapter_or_model_goes_out() -> None:
    """Not even a part of a digest: whoever has the adapter's files could recognise it."""
    page = metrics(stats()).render()
    for digest in DIGESTS:
        hexadecimal = digest.removeprefix("sha256:")
        assert not any(hexadecimal[at : at + 8] in page for at in range(len(hexadecimal) - 7))
    for part in ("sha256", "acme", "merger", "customers"):
        assert part not in page


def test_pseudonyms_last_as_long_as_the_process_and_mean_nothing_in_another() -> None:
    def names(metric: RuntimeMetrics) -> set[str]:
        return {
            labels
            for name, labels in samples(metric.render())
            if name == "sealgate_engine_busiest_adapter_loads"
        }

    one, other = metrics(stats(), period_s=0.0), metrics(stats(), period_s=0.0)
    assert names(one) == names(one)
    assert len(names(one)) == 17
    assert names(one) & names(other) == {'adapter="other"'}


async def test_tenants_and_content_are_not_on_the_page_of_a_running_runtime() -> None:
    """Two tenants ask; the page counts them together, and names neither."""
    runtime = await StubRuntime.started(stub_engine("the answer is forty-two"))
    clients = [runtime.client(), runtime.client()]
    question = {"model": "stub", "messages": [{"role": "user", "content": "what is the secret plan"}]}
    for client in clients:
        answer = await client.call("POST", paths.CHAT_PATH, question)
        assert answer.status == 200
    page = (await ask(runtime.app, "GET", paths.METRICS_PATH)).body.decode()
    found = samples(page)
    assert found["sealgate_engine_requests_total", 'outcome="finished"'] == 2
    assert found["sealgate_engine_time_to_first_token_seconds_count", ""] == 2
    for client in clients:
        assert client.signer.thumbprint not in page
        assert client.signer.thumbprint[:8] not in page
    for word in ("secret", "forty", "tenant", "label"):
        assert word not in page

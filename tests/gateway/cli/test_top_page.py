"""The page of metrics that ``runtime top`` reads: all that a runtime writes, and nothing that harms."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.top.figures import figures
from gateway.cli.top.page import MAX_LABEL, MAX_PAGE_BYTES, MAX_VALUE, Histogram, Page
from runtime.api import exposition

NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
VALUES = st.integers(0, int(MAX_VALUE)) | st.floats(0, MAX_VALUE)
TEXTS = st.text(max_size=12).filter(str.isprintable)
UP = "sealgate_runtime_uptime_seconds 3\n"


@given(
    name=NAMES,
    single=VALUES,
    label=NAMES,
    several=st.dictionaries(TEXTS, VALUES, max_size=6),
    pair=st.tuples(TEXTS, TEXTS),
)
def test_what_the_exporter_writes_is_read_back(
    name: str, single: float, label: str, several: Mapping[str, float], pair: tuple[str, str]
) -> None:
    """Numbers of any size, and labels with quotes, backslashes, commas and braces."""
    two = exposition.Sample(7, tuple(zip(("a", "b"), pair, strict=True)))
    page = Page(
        exposition.page(
            [
                exposition.single(f"{name}_s", "gauge", 'Any help, {also} "this".', single),
                exposition.labelled(f"{name}_l", "counter", "Help.", label, several),
                exposition.Family(f"{name}_t", "counter", "Help.", (two,)),
            ]
        )
    )
    assert page.value(f"{name}_s") == single
    assert page.by(f"{name}_l", label) == several
    assert page.value(f"{name}_t", a=pair[0], b=pair[1]) == 7
    assert page.labels(f"{name}_t") == dict(zip(("a", "b"), pair, strict=True))
    assert page.value("absent") is None
    assert page.histogram("absent") is None
    assert page.labels("absent") == {}


@given(
    bounds=st.lists(st.floats(0.001, 100), min_size=1, max_size=8, unique=True).map(sorted),
    data=st.data(),
)
def test_a_histogram_is_read_back(bounds: list[float], data: st.DataObject) -> None:
    size = len(bounds) + 1
    counts = data.draw(st.lists(st.integers(0, 1000), min_size=size, max_size=size))
    family = exposition.histogram("h", "Help.", bounds, accumulate(counts), 12.5)
    assert Page(exposition.page([family])).histogram("h") == Histogram(
        (*bounds, math.inf), tuple(counts), 12.5
    )


@given(
    counts=st.lists(st.integers(0, 50), min_size=3, max_size=3),
    part=st.floats(0.01, 1),
)
def test_a_quantile_lies_in_the_bucket_that_holds_it(counts: list[int], part: float) -> None:
    values = [0.5] * counts[0] + [1.5] * counts[1] + [9.0] * counts[2]
    found = Histogram((1.0, 2.0, math.inf), tuple(counts), sum(values)).quantile(part)
    if not values:
        assert found is None
        return
    exact = values[max(0, math.ceil(part * len(values)) - 1)]
    low, high = {0.5: (0.0, 1.0), 1.5: (1.0, 2.0), 9.0: (2.0, 2.0)}[exact]
    assert found is not None
    assert low <= found <= high


def test_a_quantile_is_of_what_came_in_between() -> None:
    before, now = Histogram((1.0, math.inf), (90, 0), 9.0), Histogram((1.0, math.inf), (90, 10), 59.0)
    assert now.since(before) == Histogram((1.0, math.inf), (0, 10), 50.0)
    assert now.since(before).quantile(0.5) == 1.0
    assert now.since(None) is now
    assert now.since(Histogram((2.0, math.inf), (1, 1), 1.0)) is now


@pytest.mark.parametrize(
    "text",
    [
        "x" * (MAX_PAGE_BYTES + 1),
        "<html>It works!</html>",
        "name",
        "name one",
        "name 1 2 3",
        "name{ 1",
        'name{a="b} 1',
        'name{a="b"c="d"} 1',
        "name{a=b} 1",
        'name{a="b",,} 1',
        'name{="b"} 1',
        'name{1a="b"} 1',
        f'name{{a="{"b" * (MAX_LABEL + 1)}"}} 1',
        'name{a="\x1b[2J"} 1',
        'name{a="\\n"} 1',
        'name{a="\u202e"} 1',
        "name NaN",
        "name +Inf",
        "name -1",
        "name 1e16",
        "name 1e999",
        "name 1e",
        "näme 1",
    ],
    ids=range(23),
)
def test_what_no_runtime_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"page|value|label|float"):
        Page(f"{UP}{text}\n")


@pytest.mark.parametrize("bound", ["NaN", "-Inf", "-1", "x", "1e300", ""])
def test_a_histogram_without_ascending_bounds_is_refused(bound: str) -> None:
    text = f'h_bucket{{le="{bound}"}} 1\nh_bucket{{le="+Inf"}} 1\n'
    with pytest.raises(ValueError, match=r"value|float"):
        Page(text).histogram("h")


LINES = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{} {}".format,
        st.sampled_from(
            [
                *("sealgate_engine_kv_pages", "sealgate_engine_refusals_total", "sealgate_engine_info"),
                *("sealgate_engine_step_seconds_bucket", "sealgate_engine_step_rows_total"),
                *("sealgate_engine_busiest_adapter_loads", "sealgate_runtime_uptime_seconds"),
            ]
        ),
        st.sampled_from(["", '{state="used"}', '{le="1"}', '{le="+Inf"}', '{adapter="[/x]"}', '{code="a"}'])
        | st.text(max_size=8),
        st.sampled_from(["0", "1", "9e15", "1e15", "0.5", "-3", "nan", "inf", "1_0", "1e400"]),
    ),
)


@given(now=st.lists(LINES, max_size=12), before=st.lists(LINES, max_size=12))
def test_no_page_raises_anything_but_a_value_error(now: list[str], before: list[str]) -> None:
    try:
        found = figures(Page("\n".join([UP, *now])), Page("\n".join([UP, *before])))
    except ValueError:
        return
    assert found.up_s >= 0


@pytest.mark.parametrize(
    "line",
    [
        "a" * 1_000_000,
        f"n{{{'a' * 1_000_000}}} 1",
        'n{a="' + "\\\\" * 500_000 + "} 1",
        "n{" + "} 1" * 300_000,
    ],
    ids=["name", "label", "escapes", "braces"],
)
def test_a_page_of_one_hostile_line_is_read_in_linear_time(line: str) -> None:
    """Where the time grew with the square of the length these would take hours."""
    began = time.process_time()
    with pytest.raises(ValueError, match=r"page|label"):
        Page(line)
    assert time.process_time() - began < 5

"""What a client is told when the engine does not run its request."""

from __future__ import annotations

import json

import pytest

from runtime.api.errors import ApiError
from runtime.engine.base import EngineRefusal


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("engine_overloaded", 429),
        ("engine_stopped", 503),
        ("engine_failed", 500),
        ("deadline_exceeded", 504),
        ("guide_failed", 400),
        ("adapter_not_found", 404),
        ("adapter_failed", 400),
        ("duplicate_request", 409),
        ("invalid_parameter", 400),
        ("context_length_exceeded", 400),
        ("one_that_is_new", 500),
    ],
)
def test_each_code_has_its_status_and_shows_no_detail(code: str, status: int) -> None:
    error = ApiError.of_engine(EngineRefusal(code, "canary-55d1"))
    assert (error.status, error.code) == (status, code)
    assert json.loads(error.body())["error"]["code"] == code
    assert b"canary" not in error.body()


@pytest.mark.parametrize(("said", "told"), [(None, 1), (0.2, 1), (1.2, 2), (40.0, 40)])
def test_a_full_engine_says_when_to_come_back(said: float | None, told: int) -> None:
    refusal = EngineRefusal("engine_overloaded", "", said)
    assert ApiError.of_engine(refusal).retry_after_s == told


def test_what_waiting_does_not_help_says_no_time() -> None:
    assert ApiError.of_engine(EngineRefusal("invalid_parameter")).retry_after_s is None

"""What the policy tests ask about: a verified runtime, and a prompt that it may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from policies.decision import DecisionRequest, RuntimeFacts, send_prompt
from policies.labels import enclave_atom, labelled

READER = enclave_atom("sha256:" + "a" * 64)


@pytest.fixture
def ask() -> Callable[..., DecisionRequest]:
    """Builds an allowed request; ``runtime`` takes changes to its facts, the rest changes to the request."""

    def build(*, runtime: dict[str, Any] | None = None, **changes: Any) -> DecisionRequest:
        facts = {
            "runtime_id": "sha256:" + "b" * 64,
            "atoms": frozenset({READER}),
            "attested": True,
            "vendor": "amd",
            "is_mock": False,
            "region": "eu",
            "model": "smollm2",
        }
        request = {
            "key_id": "key_1",
            "groups": ("support",),
            "label": labelled({"org:acme": [READER]}),
            "purpose": "inference",
            "stream": True,
            "max_tokens": 100,
            "allow_mock": False,
        }
        return send_prompt(runtime=RuntimeFacts(**(facts | (runtime or {}))), **(request | changes))

    return build

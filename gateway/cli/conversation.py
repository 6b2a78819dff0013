"""Speaking to a gateway as an application does: requests, server-sent events, OpenAI-shaped errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from attest.protocol import paths
from gateway.cli.failure import Exit, Failure

_REFUSED = frozenset({"runtime_refused", "runtime_misbehaved", "receipt_refused", "policy_denied"})


@dataclass(frozen=True)
class ChatOptions:
    """How to ask.

    Args:
        model: which model; None asks for the only one.
        system: system prompt.
        max_tokens: longest answer.
        temperature: 0 is greedy.
    """

    model: str | None = None
    system: str | None = None
    max_tokens: int = 512
    temperature: float = 0.7


@dataclass(repr=False)
class Answer:
    """One answer as it arrives.

    Args:
        facts: what it rests on, by name, from the response's headers.
        text: the answer so far.
        finish_reason: why it ended.
        completion_tokens: as counted by the runtime, if it said so.
    """

    facts: dict[str, str]
    text: str = ""
    finish_reason: str | None = None
    completion_tokens: int | None = None

    def __repr__(self) -> str:
        return f"Answer({len(self.text)} characters, {self.finish_reason})"

    def read(self, lines: Iterator[str]) -> Iterator[str]:
        """The pieces of text, from the lines of server-sent events.

        Raises:
            Failure: if the gateway reports an error inside the stream, or the stream ends without its end.
        """
        for line in lines:
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            piece = self._take(json.loads(data))
            if piece:
                yield piece
        raise interrupted()

    def _take(self, event: dict[str, Any]) -> str:
        if "error" in event:
            raise _from_gateway(event)
        if event.get("usage"):
            self.completion_tokens = event["usage"].get("completion_tokens")
        for choice in event.get("choices", ()):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            piece = choice.get("delta", {}).get("content") or ""
            self.text += piece
            return str(piece)
        return ""


@dataclass(repr=False)
class Conversation:
    """A client of one gateway, and what has been said.

    Args:
        client: speaks to the gateway, key included.
        model: the model's name.
        options: how to ask.
    """

    client: httpx2.Client
    model: str
    options: ChatOptions
    messages: list[dict[str, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Conversation({len(self.messages)} messages)"

    @contextmanager
    def ask(self, prompt: str) -> Iterator[tuple[Answer, Iterator[str]]]:
        """Send one prompt; the answer is kept as history once it has come whole.

        Raises:
            Failure: whatever the gateway says.
        """
        if self.options.system and not self.messages:
            self.messages.append({"role": "system", "content": self.options.system})
        asked = [*self.messages, {"role": "user", "content": prompt}]
        body = {
            "model": self.model,
            "messages": asked,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.options.max_tokens,
            "temperature": self.options.temperature,
        }
        with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != httpx2.codes.OK:
                response.read()
                raise _from_response(response)
            answer = Answer(read_facts(response.headers))
            yield answer, answer.read(response.iter_lines())
        self.messages = [*asked, {"role": "assistant", "content": answer.text}]


def read_facts(headers: Mapping[str, str]) -> dict[str, str]:
    """What an answer rests on, from its headers."""
    names = {
        "tee": paths.TEE_HEADER,
        "receipt": paths.RECEIPT_ID_HEADER,
        "statement": paths.STATEMENT_HEADER,
        "label": paths.LABEL_ID_HEADER,
    }
    return {name: headers[header] for name, header in names.items() if header in headers}


def only_model(client: httpx2.Client) -> str:
    """The gateway's only model; its adapters are asked for by name.

    Raises:
        Failure: if there are more to choose from, or whatever the gateway says.
    """
    response = client.get("/v1/models")
    if response.status_code != httpx2.codes.OK:
        raise _from_response(response)
    names = [model["id"] for model in response.json()["data"] if model.get("parent") is None]
    if len(names) != 1:
        raise Failure(
            f"there are {len(names)} models",
            f"choose with --model: {', '.join(names)}",
            code="usage",
            exit_code=Exit.USAGE,
        )
    return str(names[0])


def interrupted() -> Failure:
    """What to say of an answer that did not end."""
    return Failure(
        "the answer broke off",
        "discard what arrived: nothing vouches for it; the gateway's log says why",
        code="gateway_interrupted",
    )


def _from_response(response: httpx2.Response) -> Failure:
    try:
        return _from_gateway(response.json())
    except ValueError:
        return Failure(
            f"HTTP {response.status_code} without an error that can be read",
            "is this really a Sealgate gateway?",
            code="not_a_gateway",
        )


def _from_gateway(document: dict[str, Any]) -> Failure:
    error = document.get("error") or {}
    code = str(error.get("code") or "unknown")
    refusal = error.get("refusal")
    message = str(error.get("message") or "the gateway reports an error")
    first, _, rest = message.partition(". ")
    return Failure(
        f"{code}: {first}" + (f" [{refusal}]" if refusal else ""),
        *([rest] if rest else []),
        code=code,
        exit_code=Exit.REFUSED if code in _REFUSED else Exit.FAULT,
    )

"""``sealgate chat``: ask through the gateway, as any application would, and see what the answer rests on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from rich.markup import escape

from attest.protocol import paths
from gateway.cli.check_table import shorten
from gateway.cli.failure import Exit, Failure
from gateway.cli.keys import borrowed_key
from gateway.cli.output import Output
from gateway.settings import Settings, load_settings

MAX_PROMPT_BYTES = 1024 * 1024
_BORROWED_NAME = "sealgate chat"
_READ_S = 300.0  # between two pieces of an answer; a slow CPU reads a long prompt first
_REFUSED = frozenset({"runtime_refused", "runtime_misbehaved", "receipt_refused", "policy_denied"})
# A model's text must not drive the terminal: every control character but newline and tab is dropped.
_UNPRINTABLE = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))


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
        raise _interrupted()

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


def chat(
    prompt: str | None, options: ChatOptions, *, gateway_url: str | None = None, as_json: bool = False
) -> None:
    """Ask once, or hold a conversation if a person is at the terminal and gave no prompt.

    Raises:
        Failure: whatever went wrong, with what to do.
    """
    output = Output(as_json=as_json)
    settings = load_settings()
    url = (gateway_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    asked = _prompt(prompt)
    with _api_key(settings) as key, _client(url, key) as client, _saying_unreachable(url):
        conversation = Conversation(client, options.model or _only_model(client), options)
        if asked is not None:
            _once(conversation, asked, output)
        else:
            _converse(conversation, output)


def read_facts(headers: Mapping[str, str]) -> dict[str, str]:
    """What an answer rests on, from its headers."""
    names = {
        "tee": paths.TEE_HEADER,
        "receipt": paths.RECEIPT_ID_HEADER,
        "statement": paths.STATEMENT_HEADER,
        "label": paths.LABEL_ID_HEADER,
    }
    return {name: headers[header] for name, header in names.items() if header in headers}


def show_facts(answer: Answer, output: Output) -> None:
    """One block under the answer, on standard error, so that a pipe gets the answer alone."""
    if answer.facts.get("tee") == "MOCK":
        output.tell(
            "[mock] MOCK [/] [faint]a software TEE answered: nothing is protected from its machine[/]"
        )
    parts = [f"{name} {shorten(value)}" for name, value in answer.facts.items() if name != "tee"]
    if answer.completion_tokens is not None:
        parts.append(f"{answer.completion_tokens} tokens")
    output.tell(f"[faint]{escape(' · '.join(parts) if _unicode(output) else ' | '.join(parts))}[/]")


def _unicode(output: Output) -> bool:
    return output.symbols.good != "ok"


def _once(conversation: Conversation, prompt: str, output: Output) -> None:
    with conversation.ask(prompt) as (answer, pieces):
        _print_pieces(pieces, quiet=output.as_json)
    if output.as_json:
        output.document(
            {
                "ok": True,
                "model": conversation.model,
                "content": answer.text,
                "finish_reason": answer.finish_reason,
                "completion_tokens": answer.completion_tokens,
                **answer.facts,
            }
        )
    else:
        show_facts(answer, output)


def _converse(conversation: Conversation, output: Output) -> None:
    output.tell(f"[faint]talking to {escape(conversation.model)}; Ctrl-D ends[/]")
    while True:
        try:
            prompt = output.stderr.input("[brand]>[/] ").strip()
        except EOFError:
            output.tell()
            return
        if not prompt:
            continue
        with conversation.ask(prompt) as (answer, pieces):
            _print_pieces(pieces, quiet=False)
        show_facts(answer, output)


def _print_pieces(pieces: Iterator[str], *, quiet: bool) -> None:
    terminal = sys.stdout.isatty()
    for piece in pieces:
        if not quiet:
            sys.stdout.write(printable(piece) if terminal else piece)
            sys.stdout.flush()
    if not quiet:
        sys.stdout.write("\n")
        sys.stdout.flush()


def printable(text: str) -> str:
    """``text`` without the control characters that could drive a terminal."""
    return text.translate(_UNPRINTABLE)


def _prompt(argument: str | None) -> str | None:
    """The prompt, or None for a conversation."""
    if argument is not None and argument != "-":
        return argument
    if argument is None and sys.stdin.isatty():
        return None
    data = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    if len(data) > MAX_PROMPT_BYTES:
        raise Failure(
            f"the prompt is longer than {MAX_PROMPT_BYTES} bytes",
            "shorten it",
            code="usage",
            exit_code=Exit.USAGE,
        )
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise Failure(
            "standard input is not UTF-8 text", "convert it first", code="usage", exit_code=Exit.USAGE
        ) from error
    if not text:
        raise Failure("the prompt is empty", "sealgate chat 'a question'", code="usage", exit_code=Exit.USAGE)
    return text


@contextmanager
def _api_key(settings: Settings) -> Iterator[str]:
    key = os.environ.get("SEALGATE_API_KEY")
    if key:
        yield key
        return
    if not settings.keys_file.exists():
        raise Failure(
            "no API key",
            "set SEALGATE_API_KEY, or run this where the gateway keeps its keys (SEALGATE_HOME)",
            code="no_api_key",
        )
    with borrowed_key(settings.keys_file, _BORROWED_NAME) as borrowed:
        yield borrowed


def _client(url: str, key: str) -> httpx2.Client:
    return httpx2.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx2.Timeout(10.0, read=_READ_S),
        trust_env=False,  # a proxy from the environment would read the prompt
    )


def _only_model(client: httpx2.Client) -> str:
    response = client.get("/v1/models")
    if response.status_code != httpx2.codes.OK:
        raise _from_response(response)
    names = [model["id"] for model in response.json()["data"]]
    if len(names) != 1:
        raise Failure(
            f"there are {len(names)} models",
            f"choose with --model: {', '.join(names)}",
            code="usage",
            exit_code=Exit.USAGE,
        )
    return str(names[0])


@contextmanager
def _saying_unreachable(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise Failure(
            f"no gateway answers at {url}",
            "'sealgate up' starts one with a runtime; 'sealgate gateway' starts one alone",
            code="gateway_unreachable",
        ) from error
    except httpx2.TransportError as error:
        raise _interrupted() from error


def _interrupted() -> Failure:
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

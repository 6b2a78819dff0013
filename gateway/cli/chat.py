"""``sealgate chat``: ask through the gateway, as any application would, and see what the answer rests on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from rich.markup import escape

from gateway.cli.check_table import shorten
from gateway.cli.conversation import Answer, ChatOptions, Conversation, interrupted, only_model
from gateway.cli.failure import Exit, Failure
from gateway.cli.keys import borrowed_key
from gateway.cli.output import Output
from gateway.settings import Settings, load_settings

MAX_PROMPT_BYTES = 1024 * 1024
_BORROWED_NAME = "sealgate chat"
_READ_S = 300.0  # between two pieces of an answer; a slow CPU reads a long prompt first
# A model's text must not drive the terminal: every control character but newline and tab is dropped.
_UNPRINTABLE = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))


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
        conversation = Conversation(client, options.model or only_model(client), options)
        if asked is not None:
            _once(conversation, asked, output)
        else:
            _converse(conversation, output)


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
        raise interrupted() from error

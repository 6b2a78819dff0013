"""What an application does: the stock ``openai`` client, pointed at the gateway and otherwise untouched."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, DefaultHttpxClient, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from gateway.cli.failure import Failure

_TIMEOUT_S = 120


@dataclass(repr=False)
class Asked:
    """One question and what came of it.

    Args:
        text: what was streamed before the end or the error.
        accepted: whether the stream ended as an answer ends: the client took it for one.
        code: the gateway's error code, if it reported an error.
        refusal: the code of the check that refused, if one did.
        headers: of the response, if there was one.
        first_token_s: seconds to the first piece of text.
        total_s: seconds to the end.
        pieces: pieces of text.
    """

    text: str = ""
    accepted: bool = False
    code: str | None = None
    refusal: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    first_token_s: float | None = None
    total_s: float = 0.0
    pieces: int = 0

    def __repr__(self) -> str:
        return f"Asked({len(self.text)} characters, accepted={self.accepted}, code={self.code})"


class Tap:
    """Hashes what goes over the wire between application and gateway, and changes nothing."""

    def __init__(self) -> None:
        self.request_digest = ""
        self._answer = hashlib.sha256()

    @property
    def answer_digest(self) -> str:
        """``sha256:`` of the answer's bytes so far."""
        return f"sha256:{self._answer.hexdigest()}"

    def hook(self, response: httpx2.Response) -> None:
        """For the client's event hook ``response``: called before the answer is read."""
        self.request_digest = f"sha256:{hashlib.sha256(response.request.read()).hexdigest()}"
        self._answer = hashlib.sha256()
        if not isinstance(response.stream, httpx2.SyncByteStream):
            raise TypeError("a blocking client streams blocking bytes")
        response.stream = _TappedStream(response.stream, self._answer.update)


class _TappedStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, tell: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._tell = tell

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            self._tell(data)
            yield data

    def close(self) -> None:
        self._stream.close()


def client(port: int, key: str, tap: Tap | None = None) -> OpenAI:
    """The stock client. It is told not to retry, so that one question is one question.

    Args:
        port: of the gateway on this machine.
        key: API key.
        tap: hashes what goes over the wire.
    """
    hooks = {} if tap is None else {"response": [tap.hook]}
    return OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key=key,
        max_retries=0,
        timeout=_TIMEOUT_S,
        http_client=DefaultHttpxClient(event_hooks=hooks),
    )


def spare_loopback_the_proxy() -> None:
    """Keep a proxy that the environment names from carrying what goes to this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        before = os.environ.get(name)
        os.environ[name] = ",".join(filter(None, (before, "127.0.0.1", "localhost")))


def ask(
    stock: OpenAI,
    model: str,
    prompt: str,
    *,
    max_tokens: int,
    on_text: Callable[[str], None] = lambda _: None,
) -> Asked:
    """Ask, streaming and greedy; an error of the API is an outcome here, not an exception.

    Raises:
        Failure: if the gateway itself cannot be reached: that would say nothing about the runtime.
    """
    asked = Asked()
    started = time.monotonic()
    try:
        stream = stock.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            temperature=0,
            stream=True,
        )
        asked.headers = _lower(stream.response.headers)
        with stream:
            _read(stream, asked, on_text, started)
    except APIConnectionError as error:
        raise Failure("the gateway does not answer", code="gateway_unreachable") from error
    except APIError as error:
        _note(error, asked)
    asked.total_s = time.monotonic() - started
    return asked


def _read(
    stream: Stream[ChatCompletionChunk], asked: Asked, on_text: Callable[[str], None], started: float
) -> None:
    finished = False
    for chunk in stream:
        for choice in chunk.choices:
            text = choice.delta.content or ""
            if text:
                asked.first_token_s = asked.first_token_s or time.monotonic() - started
                asked.pieces += 1
                asked.text += text
                on_text(text)
            finished = finished or choice.finish_reason is not None
    # The stock client takes a stream that merely stops for one that ended; an answer has a finish reason.
    asked.accepted = finished


def _note(error: APIError, asked: Asked) -> None:
    body = error.body if isinstance(error.body, dict) else {}
    asked.code = error.code or body.get("code") or type(error).__name__
    asked.refusal = body.get("refusal")
    if isinstance(error, APIStatusError):
        asked.headers = _lower(error.response.headers)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

"""``sealgate chat`` against a gateway that says what a test wants it to say."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.chat import printable
from gateway.identity.api_keys import ApiKeyStore
from tests.gateway.cli.conftest import Ran

Command = Callable[..., Ran]
FACTS = {"Sealgate-TEE": "MOCK", "Sealgate-Receipt-Id": "rcpt-7", "Sealgate-Statement": "sha256:" + "ab" * 32}


def event(text: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, **more}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


WHOLE = event("Hello ") + event("world") + event(None, finish_reason="stop") + b"data: [DONE]\n\n"
REFUSED = {
    "error": {"code": "receipt_refused", "message": "No receipt. Discard it.", "refusal": "receipt-signature"}
}


class FakeGateway(ThreadingHTTPServer):
    """Answers with ``status`` and ``body``, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body = WHOLE
        self.models = ["m"]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    server: FakeGateway

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": name} for name in self.server.models]}).encode())

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        self.reply(self.server.status, self.server.body)

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**FACTS, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with FakeGateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("SEALGATE_PORT", str(server.server_port))
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def chat(sealgate: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("SEALGATE_API_KEY", "sg-key")
    return lambda *arguments: sealgate("chat", *arguments)


def test_the_answer_alone_on_standard_output(chat: Command, gateway: FakeGateway) -> None:
    ran = chat("hi")
    assert ran.code == 0
    assert ran.out == "Hello world\n"
    assert "MOCK" in ran.err
    assert "rcpt-7" in ran.err
    assert gateway.keys == ["Bearer sg-key"]


def test_json_holds_answer_and_facts(chat: Command, gateway: FakeGateway) -> None:
    document = chat("hi", "--json", "--system", "be kind", "--temperature", "0").document
    assert document["content"] == "Hello world"
    assert document["tee"] == "MOCK"
    assert document["receipt"] == "rcpt-7"
    assert [message["role"] for message in gateway.asked[0]["messages"]] == ["system", "user"]
    assert gateway.asked[0]["temperature"] == 0


@pytest.mark.parametrize("argument", [(), ("-",)])
def test_the_prompt_from_a_pipe(
    chat: Command, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, argument: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("grüezi\n".encode())))
    assert chat(*argument).code == 0
    assert gateway.asked[0]["messages"][-1]["content"] == "grüezi"


@pytest.mark.parametrize("data", [b"", b"  \n", b"\xff\xfe", b"x" * (1024 * 1024 + 1)])
def test_a_bad_prompt_from_a_pipe(
    chat: Command, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert chat().code == 2
    assert gateway.asked == []


def test_an_error_in_mid_stream_is_no_answer(chat: Command, gateway: FakeGateway) -> None:
    gateway.body = event("Hello ") + b"data: " + json.dumps(REFUSED).encode() + b"\n\n"
    ran = chat("hi")
    assert ran.code == 10
    assert "receipt_refused" in ran.err
    assert "[receipt-signature]" in ran.err
    assert "hint: Discard it." in ran.err
    assert "rcpt-7" not in ran.err  # facts of an answer that is none are not shown


def test_a_stream_that_merely_stops_is_no_answer(chat: Command, gateway: FakeGateway) -> None:
    gateway.body = event("Hello ") + event(None, finish_reason="stop")
    assert chat("hi").code == 1


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("runtime_refused", 10),
        ("policy_denied", 10),
        ("runtime_unreachable", 1),
        ("invalid_api_key", 1),
    ],
)
def test_refused_and_unreachable_exit_differently(
    chat: Command, gateway: FakeGateway, code: str, exit_code: int
) -> None:
    gateway.status = 503
    gateway.body = json.dumps({"error": {"code": code, "message": "It is so. Do this."}}).encode()
    ran = chat("hi", "--json")
    assert ran.code == exit_code
    assert json.loads(ran.out)["error"]["code"] == code


def test_something_else_answers(chat: Command, gateway: FakeGateway) -> None:
    gateway.status, gateway.body = 500, b"<html>"
    assert "gateway?" in chat("hi").err


def test_no_gateway(chat: Command) -> None:
    ran = chat("hi", "--gateway", "http://127.0.0.1:1", "--model", "m")
    assert ran.code == 1
    assert "sealgate up" in ran.err


def test_several_models_must_be_chosen_from(chat: Command, gateway: FakeGateway) -> None:
    gateway.models = ["a", "b"]
    ran = chat("hi")
    assert ran.code == 2
    assert "a, b" in ran.err
    assert chat("hi", "--model", "b").code == 0


def test_a_borrowed_key_is_revoked_afterwards(sealgate: Command, gateway: FakeGateway, home: Path) -> None:
    path = home / "gateway" / "keys.sqlite"
    ApiKeyStore(path).close()
    assert sealgate("chat", "hi").code == 0
    assert (gateway.keys[0] or "").startswith("Bearer sg-")
    store = ApiKeyStore(path)
    (info,) = store.all()
    store.close()
    assert info.revoked_at is not None
    assert info.created_at <= datetime.now(UTC)


def test_without_any_key(sealgate: Command, gateway: FakeGateway) -> None:
    ran = sealgate("chat", "hi")
    assert ran.code == 1
    assert "SEALGATE_API_KEY" in ran.err


def test_an_answer_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07b\x9b2Jc\td\ne\r") == "a]0;titleb2Jc\td\ne"

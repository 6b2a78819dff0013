"""The development runtime as a process: what it announces, what it records, and how it lies."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.channel import bhttp
from attest.channel.chunked import ChunkedRequestSealer, ChunkedResponseOpener
from attest.channel.ohttp import parse_key_configs
from attest.evidence.bundle import Bundle
from attest.keyset import Keyset
from attest.mock.faults import FAULTS
from attest.mock.installation import VENDOR_FOLDER
from attest.mock.vendor import MockVendor
from attest.protocol import paths
from attest.protocol.tenant_token import RequestSigner, sign_request_token
from attest.refusal import Refused
from attest.statement import Statement
from attest.trust import MockRoots, TrustRoots
from attest.verify.bundle import verify_bundle
from tests.simulators.sealing_client import LABEL_ID, STATEMENT, InnerAnswer, opened

PROMPT = "the prompt that nobody outside may see"
NONCE = "5a" * 32


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a mock vendor; its RSA keys are made once."""
    folder = tmp_path_factory.mktemp("home")
    MockVendor.load_or_create(folder / VENDOR_FOLDER)
    return folder


@contextmanager
def runtime(home: Path, *flags: str) -> Iterator[tuple[httpx2.Client, dict[str, Any]]]:
    argv = [sys.executable, "-m", "runtime.cli", "serve", "--dev", "--engine", "stub", "--port", "0", *flags]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"SEALGATE_HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        with httpx2.Client(base_url=f"http://127.0.0.1:{ready['port']}") as http:
            yield http, ready
    finally:
        process.send_signal(signal.SIGINT)
        out, ready_errors = process.communicate(timeout=20)
        assert out == ""
        assert "MOCK TEE" in ready_errors
        assert "Traceback" not in ready_errors
        assert PROMPT not in ready_errors


class Tenant:
    """Asks one runtime over HTTP, sealed, without verifying it."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http
        self.signer = RequestSigner(Ed25519PrivateKey.generate())
        self.sequence = 0

    def keyset(self) -> Keyset:
        """The keys in the evidence."""
        answer = self.http.get(paths.ATTESTATION_PATH, params={paths.NONCE_PARAMETER: NONCE})
        return Keyset.parse(Bundle.parse(answer.content).keyset)

    def ask(self, **members: Any) -> tuple[ChunkedResponseOpener, httpx2.Response]:
        """One question; what came back, unopened."""
        self.sequence += 1
        keyset = self.keyset()
        request = {"model": "smollm2", "messages": [{"role": "user", "content": PROMPT}], **members}
        body = json.dumps(request).encode()
        token = sign_request_token(
            self.signer,
            audience=keyset.digest,
            statement_digest=STATEMENT,
            sequence=self.sequence,
            label_id=LABEL_ID,
            body_sha256=hashlib.sha256(body).hexdigest(),
            method="POST",
            path=paths.CHAT_PATH,
            now=datetime.now(UTC),
        )
        headers = ((b"content-type", b"application/json"), (b"authorization", b"Bearer " + token.encode()))
        head = bhttp.RequestHead("POST", "https", "inner", paths.CHAT_PATH, headers)
        sealer = ChunkedRequestSealer(parse_key_configs(keyset.ohttp_keys)[0])
        sealed = sealer.preamble + sealer.seal(bhttp.encode_request(head, body), final=True)
        answer = self.http.post(
            paths.SEALED_PATH, content=sealed, headers={"content-type": paths.MEDIA_SEALED_REQUEST}
        )
        return sealer.response_opener(), answer

    def answer(self, **members: Any) -> InnerAnswer:
        """One question and its opened answer."""
        opener, answer = self.ask(**members)
        return opened(opener, answer.content)


def verify(http: httpx2.Client, home: Path, nonce: str = NONCE) -> Statement:
    """The statement, if the production verifier accepts the evidence under this home's mock root."""
    root = MockVendor.load(home / VENDOR_FOLDER).ark_sha256
    answer = http.get(paths.ATTESTATION_PATH, params={paths.NONCE_PARAMETER: nonce})
    roots = TrustRoots(amd=False, intel=False, nvidia=False, mock=MockRoots(ark_sha256=root))
    return verify_bundle(answer.content, nonce=nonce, roots=roots, now=datetime.now(UTC)).statement


def test_an_honest_one_is_verified_answers_and_records_only_ciphertext(home: Path, tmp_path: Path) -> None:
    recording = tmp_path / "host-saw.bin"
    with runtime(home, "--record-bytes", str(recording), "--region", "eu-1") as (http, ready):
        assert (ready["ready"], ready["mock"], ready["tee"]) == (True, True, "snp")
        assert verify(http, home).region == "eu-1"
        tenant = Tenant(http)
        whole = tenant.answer()
        assert "no model runs" in whole.json()["choices"][0]["message"]["content"]
        assert len(tenant.answer(stream=True, max_tokens=5).events) == 5
        seen = recording.read_bytes()
    assert seen.count(b"POST /sealed HTTP/1.1") == 2
    assert PROMPT.encode() not in seen
    assert b"Bearer" not in seen


def test_a_streamed_answer_has_events_of_one_size(home: Path) -> None:
    """What the network sees of a token is a chunk of 512 bytes and its overhead, whatever the token."""
    with runtime(home) as (http, _):
        opener, answer = Tenant(http).ask(stream=True)
        sealed = answer.content[32:]
        sizes = []
        while (length := int.from_bytes(sealed[:2], "big") & 0x3FFF) and sealed[0] >> 6 == 1:
            sizes.append(length - 16)
            sealed = sealed[2 + length :]
        assert len(opened(opener, answer.content).events) == len(sizes)
        assert set(sizes[1:]) == {512}


@pytest.mark.parametrize("name", ["wrong-measurement", "key-swapped", "stale-nonce", "report-bit"])
def test_a_bundle_liar_tells_its_lie(home: Path, name: str) -> None:
    """Those that verification alone refuses are refused with their code; appraisal has its own tests."""
    with runtime(home, "--fault", name) as (http, ready):
        assert ready["fault"] == name
        if name == "wrong-measurement":
            verify(http, home)
            return
        with pytest.raises(Refused) as caught:
            verify(http, home)
        assert caught.value.code == FAULTS[name].expected_code


def test_the_truncating_host_cuts_every_answer(home: Path) -> None:
    with runtime(home, "--fault", "truncated-stream") as (http, _):
        tenant = Tenant(http)
        verify(http, home)
        for stream in (True, False):
            with pytest.raises(Refused) as caught:
                tenant.answer(stream=stream)
            assert caught.value.code == FAULTS["truncated-stream"].expected_code


def test_the_replaying_host_answers_everything_with_its_first_answer(home: Path) -> None:
    with runtime(home, "--fault", "replayed-answer") as (http, _):
        tenant = Tenant(http)
        assert tenant.answer().status == 200
        with pytest.raises(Refused) as caught:
            tenant.answer()
        assert caught.value.code == FAULTS["replayed-answer"].expected_code


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--dev", "--fault", "no-such-lie"], 10, "fault-unknown"),
        (["--fault", "stale-nonce"], 2, "need --dev"),
        (["--engine", "stub"], 2, "need --dev"),
        (["--dev", "--model", "/nowhere"], 10, "model-not-found"),
    ],
)
def test_wrong_usage_is_said_in_a_line(home: Path, flags: Sequence[str], code: int, message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "runtime.cli", "serve", "--port", "0", *flags],
        capture_output=True,
        text=True,
        check=False,
        env={"SEALGATE_HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert result.returncode == code
    assert message in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr

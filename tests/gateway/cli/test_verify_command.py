"""``sealgate verify``: on saved bundles offline, and on a runtime that answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from attest.ear_token import read_ear
from attest.evidence.bundle import MAX_BUNDLE_BYTES
from attest.mock.faults import FAULTS, apply_bundle_fault
from attest.mock.vendor import MockVendor
from attest.protocol import paths
from attest.refusal import Refused
from gateway.identity import signing_key
from gateway.settings import load_settings
from tests.gateway.cli.conftest import Ran
from tests.simulators.mock_peer import TOLD_BY_PEERS, MockPeer

Command = Callable[..., Ran]
NONCE = "5a" * 32


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    return MockPeer(vendor)


@pytest.fixture
def trusted(home: Path, peer: MockPeer) -> Path:
    """A home whose trust file and reference values accept ``peer``."""
    home.mkdir()
    (home / "trust.toml").write_text(peer.trust.toml())
    (home / "reference.toml").write_text(peer.reference.toml())
    return home


@pytest.fixture
def saved(tmp_path: Path, peer: MockPeer) -> Path:
    path = tmp_path / "bundle.json"
    path.write_bytes(peer.world.answer(NONCE))
    return path


@contextmanager
def answering(answer: Callable[[str], tuple[int, str, bytes]]) -> Iterator[str]:
    """A host that answers the question for evidence with ``answer(nonce)``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonce = parse_qs(urlsplit(self.path).query)[paths.NONCE_PARAMETER][0]
            status, media_type, body = answer(nonce)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_saved_bundle_offline(sealgate: Command, trusted: Path, saved: Path) -> None:
    ran = sealgate("verify", str(saved), "--nonce", NONCE)
    assert ran.code == 0
    assert "verified" in ran.out
    assert "MOCK" in ran.out


def test_json_has_every_check_in_full(sealgate: Command, trusted: Path, saved: Path, peer: MockPeer) -> None:
    document = sealgate("verify", str(saved), "--nonce", NONCE, "--json").document
    assert document["ok"] is True
    assert document["mock"] is True
    assert peer.world.machine.cpu.launch.measurement.hex() in {check["got"] for check in document["checks"]}
    assert all(check["outcome"] in {"passed", "noted"} for check in document["checks"])
    assert any(check["expires"] for check in document["checks"])


def test_without_a_nonce_freshness_is_not_claimed(sealgate: Command, trusted: Path, saved: Path) -> None:
    ran = sealgate("verify", str(saved), "--json")
    assert ran.code == 0
    assert any("freshness is not proved" in check["expected"] for check in ran.document["checks"])


@pytest.mark.parametrize("name", TOLD_BY_PEERS)
def test_each_named_fault_exits_with_its_documented_code(
    sealgate: Command, trusted: Path, peer: MockPeer, tmp_path: Path, name: str
) -> None:
    fault = FAULTS[name]
    path = tmp_path / "lie.json"
    path.write_bytes(apply_bundle_fault(name, peer.world, NONCE))
    ran = sealgate("verify", str(path), "--nonce", NONCE, "--json")
    assert ran.code == fault.exit_code
    assert ran.document["refusal"]["code"] == fault.expected_code
    assert ran.document["checks"][-1]["outcome"] == "refused"


def test_a_refusal_for_people(sealgate: Command, trusted: Path, peer: MockPeer, tmp_path: Path) -> None:
    path = tmp_path / "lie.json"
    path.write_bytes(apply_bundle_fault("debug-guest", peer.world, NONCE))
    ran = sealgate("verify", str(path), "--nonce", NONCE)
    assert ran.code == 10
    assert "refused: snp-debug" in ran.out
    assert "verified" not in ran.out


def test_a_verdict_as_of_another_time(sealgate: Command, trusted: Path, saved: Path) -> None:
    """Time is an argument: the same bundle, judged when its keys have ended."""
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert sealgate("verify", str(saved), "--at", later).code == 10


def test_a_runtime_is_asked_with_a_fresh_nonce(
    sealgate: Command, trusted: Path, peer: MockPeer, tmp_path: Path
) -> None:
    asked: list[str] = []

    def honest(nonce: str) -> tuple[int, str, bytes]:
        asked.append(nonce)
        return 200, paths.MEDIA_BUNDLE, peer.world.answer(nonce)

    kept = tmp_path / "kept.json"
    with answering(honest) as url:
        assert sealgate("verify", url).code == 0
        assert sealgate("verify", url + "/", "--save", str(kept)).code == 0
    assert len(set(asked)) == 2
    assert sealgate("verify", str(kept), "--nonce", asked[1]).code == 0
    assert sealgate("verify", str(kept), "--nonce", asked[0]).code == 10


def test_a_stale_answer_of_a_runtime_is_refused(
    sealgate: Command, trusted: Path, saved: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    with answering(lambda _: (200, paths.MEDIA_BUNDLE, saved.read_bytes())) as url:
        ran = sealgate("verify", url, "--json", "--save", str(kept))
    assert ran.code == 10
    assert ran.document["refusal"]["code"] == "nonce-mismatch"
    assert kept.read_bytes() == saved.read_bytes()  # what was refused is kept too, as evidence


@pytest.mark.parametrize(
    ("answer", "code", "name"),
    [
        ((503, "text/plain", b"down"), 1, "runtime_unreachable"),
        ((404, "text/plain", b"what?"), 10, "evidence-http-status"),
        ((200, "text/html", b"<p>hello"), 10, "evidence-media-type"),
        ((200, paths.MEDIA_BUNDLE, b"{}"), 30, "bundle-members"),
        ((200, paths.MEDIA_BUNDLE, b" " * MAX_BUNDLE_BYTES + b" "), 10, "evidence-too-large"),
    ],
)
def test_refused_is_never_unreachable(
    sealgate: Command, trusted: Path, answer: tuple[int, str, bytes], code: int, name: str
) -> None:
    with answering(lambda _: answer) as url:
        ran = sealgate("verify", url, "--json")
    assert ran.code == code
    document = ran.document
    assert (document.get("refusal") or document.get("error"))["code"] == name


def test_nobody_answers(sealgate: Command, trusted: Path) -> None:
    ran = sealgate("verify", "http://127.0.0.1:1")
    assert ran.code == 1
    assert "hint: " in ran.err


@pytest.mark.parametrize("missing", ["trust.toml", "reference.toml"])
def test_without_a_file_that_says_what_to_accept_nothing_is(
    sealgate: Command, trusted: Path, saved: Path, missing: str
) -> None:
    (trusted / missing).unlink()
    ran = sealgate("verify", str(saved))
    assert ran.code == 1
    assert "no default that accepts" in " ".join(ran.err.split())


def test_no_such_bundle(sealgate: Command, trusted: Path) -> None:
    ran = sealgate("verify", "/nowhere/bundle.json")
    assert ran.code == 1
    assert "/nowhere/bundle.json" in ran.err


def test_a_nonce_for_a_url_is_wrong_usage(sealgate: Command, trusted: Path) -> None:
    assert sealgate("verify", "http://127.0.0.1:1", "--nonce", NONCE).code == 2


def test_what_ends_first_is_named(sealgate: Command, trusted: Path, saved: Path) -> None:
    """The row with the earliest end is the verdict's end."""
    document = sealgate("verify", str(saved), "--json").document
    assert document["ends_first"]["expires"] == document["valid_until"]
    text = sealgate("verify", str(saved)).out
    assert f"ends first  {document['ends_first']['name']}" in text


def test_the_result_is_signed_by_the_key_that_was_named(
    sealgate: Command, trusted: Path, saved: Path, tmp_path: Path
) -> None:
    """The gateway's own key signs unless another is named, and one that was named is never made up."""
    token, other = tmp_path / "ear.jwt", tmp_path / "other.pem"
    missing = sealgate("verify", str(saved), "--ear", str(token), "--ear-key", str(other))
    assert missing.code == 1
    assert not token.exists()
    assert not other.exists()
    assert sealgate("verify", str(saved), "--ear", str(token)).code == 0
    own = signing_key.load(load_settings().signing_key_file)
    claims = read_ear(token.read_text().strip(), own.public_key(), now=datetime.now(UTC))
    assert claims["submods"]["cpu"]["ear.status"] == "contraindicated"
    key = signing_key.load_or_create(other)
    assert sealgate("verify", str(saved), "--ear", str(token), "--ear-key", str(other)).code == 0
    read_ear(token.read_text().strip(), key.public_key(), now=datetime.now(UTC))
    with pytest.raises(Refused, match="ear-signature"):
        read_ear(token.read_text().strip(), own.public_key(), now=datetime.now(UTC))


def test_no_result_of_what_was_refused(
    sealgate: Command, trusted: Path, peer: MockPeer, tmp_path: Path
) -> None:
    path, token = tmp_path / "lie.json", tmp_path / "ear.jwt"
    path.write_bytes(apply_bundle_fault("debug-guest", peer.world, NONCE))
    assert sealgate("verify", str(path), "--ear", str(token)).code == 10
    assert not token.exists()

"""The vendors' collateral services on loopback, speaking their protocols, with what was recorded of them.

AMD's KDS, Intel's PCS, NVIDIA's RIM service and OCSP responder, and the key sets of token services, each
under its own paths. A fault may be put in front of any path.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from attest.collateral.items import Service

PCS_CHAINS: Final = {
    "tcb": "TCB-Info-Issuer-Chain",
    "identity": "SGX-Enclave-Identity-Issuer-Chain",
    "pckcrl": "SGX-PCK-CRL-Issuer-Chain",
}


@dataclass
class Answer:
    """One HTTP answer.

    Args:
        body: of it.
        status: of it.
        headers: of it.
        delay_s: before it begins.
        drip: send the body for ever.
        cut: announce more bytes than are sent.
        slow_head: send a header line now and then, for ever.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip: bool = False
    cut: bool = False
    slow_head: bool = False


Ask = Callable[[str, bytes], Answer]


class CollateralServices:
    """All services in one server.

    Args:
        answers: by path with its query.
        ocsp_answers: DER; found by the serial number that is asked about.
    """

    def __init__(self, answers: Mapping[str, Answer], ocsp_answers: tuple[bytes, ...] = ()) -> None:
        self.answers = dict(answers)
        self.faults: list[Answer] = []
        self.asked: list[str] = []
        self.cookies: list[str | None] = []
        self._ocsp = {ocsp.load_der_ocsp_response(each).serial_number: each for each in ocsp_answers}

    def answer(self, path: str, body: bytes) -> Answer:
        """What is said to one request; faults come first, each once."""
        self.asked.append(path)
        if self.faults:
            return self.faults.pop(0)
        if body:
            serial = ocsp.load_der_ocsp_request(body).serial_number
            return Answer(self._ocsp[serial]) if serial in self._ocsp else Answer(status=404)
        return self.answers.get(path, Answer(b"not here", 404))

    @contextmanager
    def running(self) -> Iterator[dict[Service, str]]:
        """Listen on loopback; the addresses of all services."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - the library's name; self is the services
                self.cookies.append(handler.headers["cookie"])
                _send(handler, self.answer(handler.path, b""))

            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["content-length"]))
                _send(handler, self.answer(handler.path, body))

            def log_message(handler, *_: object) -> None:  # noqa: N805
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield dict.fromkeys(
                ("amd-kds", "intel-pcs", "intel-certificates", "nvidia-rim", "nvidia-ocsp", "nras", "maa"),
                url,
            )
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    time.sleep(answer.delay_s)
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    try:
        while answer.slow_head:
            handler.wfile.write(b"X-Patience: 1\r\n")
            time.sleep(0.05)
    except OSError:
        return  # the client has had enough
    if not answer.drip:
        handler.send_header("content-length", str(len(answer.body) + (10 if answer.cut else 0)))
    handler.end_headers()
    try:
        handler.wfile.write(answer.body)
        while answer.drip:
            handler.wfile.write(b" " * 65536)
    except OSError:
        return  # the client has had enough


def empty_list() -> bytes:
    """A revocation list, DER, of nobody in particular."""
    key = ec.generate_private_key(ec.SECP256R1())
    day = datetime(2026, 6, 1, tzinfo=UTC)
    builder = x509.CertificateRevocationListBuilder(x509.Name([]), day, day + timedelta(days=30))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def rim_answer(name: str, document: bytes) -> Answer:
    """As NVIDIA's RIM service answers."""
    facts = {
        "id": name,
        "rim": base64.b64encode(document).decode(),
        "sha256": hashlib.sha256(document).hexdigest(),
        "last_updated": "2024-06-01T00:00:00Z",
    }
    return Answer(json.dumps(facts).encode(), headers={"content-type": "application/json"})


def recorded_pcs(folder: Path, pck_crl_chain: str, fmspc: str) -> dict[str, Answer]:
    """Intel's answers as they were recorded with the live evidence."""

    def recorded(name: str, header: str) -> Answer:
        headers = json.loads((folder / f"{name}.headers.json").read_bytes())["headers"]
        chain = {key.lower(): value[0] for key, value in headers.items()}[header.lower()]
        return Answer((folder / f"{name}.json").read_bytes(), headers={header: chain})

    crl = Answer(
        (folder / "pcs_pck_crl.der").read_bytes(), headers={PCS_CHAINS["pckcrl"]: quote(pck_crl_chain)}
    )
    return {
        f"/tdx/certification/v4/tcb?fmspc={fmspc}": recorded("pcs_tcb_info", PCS_CHAINS["tcb"]),
        "/tdx/certification/v4/qe/identity": recorded("pcs_qe_identity", PCS_CHAINS["identity"]),
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der": crl,
        "/IntelSGXRootCA.der": Answer((folder / "root_ca_crl.der").read_bytes()),
    }

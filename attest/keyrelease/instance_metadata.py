"""What Azure's instance metadata service (IMDS) tells a guest about its own hardware.

It is the host's word over plain HTTP, and needs no trust: certificates are checked by whoever judges the
report, and a quote is the quoting enclave's. What is checked here is that it answers the question.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2

from attest import strict_json
from attest.evidence.hcl import TDREPORT_DATA_OFFSET, TDREPORT_SIZE
from attest.evidence.pem import read_certificates
from attest.evidence.tdx import TdxQuote
from attest.refusal import Malformed, Refused

ADDRESS: Final = "http://169.254.169.254"
MAX_ANSWER_BYTES: Final = 256 * 1024
CLAUSE: Final = "Azure Instance Metadata Service, THIM and TD quotes"

_NAME: Final = "key-release"
_OK: Final = 200
_CHAIN: Final = 3
_REPORT_DATA: Final = slice(TDREPORT_DATA_OFFSET, TDREPORT_DATA_OFFSET + 64)


class InstanceMetadata:
    """The service.

    Args:
        client: with a timeout, and without proxies: the service refuses what came through one.
        address: of the service.
    """

    def __init__(self, client: httpx2.Client, address: str = ADDRESS) -> None:
        self._client = client
        self._address = address

    def chip_certificates(self) -> tuple[bytes, bytes, bytes]:
        """The SEV-SNP chip's certificate, ASK and ARK; DER.

        Raises:
            Refused: ``key-release-metadata``.
            Malformed: ``key-release-*``, ``pem-*``.
        """
        answer = self._ask("GET", "/metadata/THIM/amd/certification", None)
        text = _text(answer, "vcekCert") + "\n" + _text(answer, "certificateChain")
        found = read_certificates(text.encode())
        if len(found) != _CHAIN:
            raise Malformed("key-release-members", f"{len(found)} certificates, not 3", clause=CLAUSE)
        return found[0], found[1], found[2]

    def td_quote(self, report: bytes) -> bytes:
        """A quote of a TDREPORT.

        Args:
            report: 1024 bytes, ``HclReport.hardware_report`` of a TD.

        Raises:
            Refused: ``key-release-metadata``: no quote, or of another report.
            Malformed: ``key-release-*``, ``tdx-*``.
            ValueError: the report is of another size.
        """
        if len(report) != TDREPORT_SIZE:
            raise ValueError(f"a TDREPORT has {TDREPORT_SIZE} bytes")
        answer = self._ask("POST", "/acc/tdquote", {"report": strict_json.b64url_encode(report)})
        text = _text(answer, "quote").rstrip("=")
        quote = TdxQuote.parse(strict_json.b64url_decode(text, name=_NAME, max_bytes=MAX_ANSWER_BYTES))
        if quote.report.report_data != report[_REPORT_DATA]:
            raise Refused("key-release-metadata", CLAUSE, expected="our REPORTDATA", got="another")
        return quote.trimmed

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        answer = bytearray()
        try:
            with self._client.stream(
                method,
                self._address + path,
                json=body,
                headers={"Metadata": "true", "Accept-Encoding": "identity"},
                follow_redirects=False,
            ) as response:
                for part in response.iter_raw():
                    answer += part
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise Refused("key-release-metadata", CLAUSE, expected="an answer", got="too much")
        except httpx2.HTTPError as error:
            raise Refused(
                "key-release-metadata", CLAUSE, expected="the service", got=type(error).__name__
            ) from error
        if response.status_code != _OK:
            raise Refused("key-release-metadata", CLAUSE, expected="200", got=str(response.status_code))
        return strict_json.loads(bytes(answer), name=_NAME, max_bytes=MAX_ANSWER_BYTES)


def _text(answer: Any, name: str) -> str:
    text = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(text, str) or not text.isascii():
        raise Malformed("key-release-members", f"{name} is not a text", clause=CLAUSE)
    return text

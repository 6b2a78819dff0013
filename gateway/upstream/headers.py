"""The headers by which an answer says what it rests on."""

from __future__ import annotations

from attest.appraise import AttestedRuntime
from attest.protocol import paths
from gateway.upstream.exchange import AnswerHead


def answer_headers(head: AnswerHead, runtime: AttestedRuntime, label_id: str) -> dict[str, str]:
    """Headers of the answer to the application: of the sealed answer's own, only those named here."""
    headers = {
        "content-type": head.content_type,
        paths.RECEIPT_ID_HEADER: head.receipt_id,
        paths.STATEMENT_HEADER: runtime.statement_digest,
        paths.LABEL_ID_HEADER: label_id,
        # P8: whoever looks at the answer sees that nothing was protected.
        paths.TEE_HEADER: "MOCK" if runtime.is_mock else runtime.vendor,
        "cache-control": "no-store",
    }
    if head.adapter is not None:
        headers[paths.ADAPTER_HEADER] = head.adapter
    if head.retry_after is not None:
        headers["retry-after"] = head.retry_after
    return headers

"""Problem documents (RFC 9457): how the runtime says no before it has opened a request.

Nothing here is authenticated, and none of it depends on what the request holds. ``processed`` tells the
sender whether sealing anew and sending again could make something happen twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

MEDIA_PROBLEM: Final = "application/problem+json"

OHTTP_KEY: Final = "https://iana.org/assignments/http-problem-types#ohttp-key"
"""RFC 9458 section 5.3: the request is sealed to a key that this runtime does not hold."""

_OWN: Final = "urn:sealgate:problem:"
NONCE: Final = f"{_OWN}nonce"
MEDIA_TYPE: Final = f"{_OWN}media-type"
TOO_LARGE: Final = f"{_OWN}too-large"
MALFORMED: Final = f"{_OWN}malformed"
TRUNCATED: Final = f"{_OWN}truncated"
REPLAYED: Final = f"{_OWN}replayed"
TIMEOUT: Final = f"{_OWN}timeout"
BUSY: Final = f"{_OWN}busy"
EVIDENCE_UNAVAILABLE: Final = f"{_OWN}evidence-unavailable"
INTERNAL: Final = f"{_OWN}internal"
BLANK: Final = "about:blank"
"""RFC 9457 section 4.2.1: the status code says it all."""

Processed = Literal[True, False, "unknown"]


@dataclass(frozen=True)
class Problem:
    """One problem document.

    Args:
        type: a URI above.
        status: HTTP status.
        title: what happened, the same for every occurrence of the type.
        processed: False if nothing was done with the request; True or ``"unknown"`` otherwise.
        detail: what to do about it; never content.
    """

    type: str
    status: int
    title: str
    processed: Processed
    detail: str = ""

    def body(self) -> bytes:
        """The document, UTF-8 JSON."""
        members: dict[str, object] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "processed": self.processed,
        }
        if self.detail:
            members["detail"] = self.detail
        return json.dumps(members).encode()

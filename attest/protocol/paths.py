"""Routes, media types and field names that gateway and runtime agree on.

Field names are lower-case, as binary HTTP wants them (RFC 9292 section 3.6); HTTP/1.1 does not mind.
"""

from __future__ import annotations

from typing import Final

# --- the runtime's outer routes: what its host can see ---------------------------------------------

ATTESTATION_PATH: Final = "/.well-known/sealgate/attestation"
OHTTP_KEYS_PATH: Final = "/ohttp-keys"
SEALED_PATH: Final = "/sealed"
HEALTH_PATH: Final = "/healthz"
METRICS_PATH: Final = "/metrics"
OPENAPI_PATH: Final = "/openapi.json"

NONCE_PARAMETER: Final = "nonce"

# --- the inner routes: only ever reached through the seal ------------------------------------------

MODELS_PATH: Final = "/v1/models"
CHAT_PATH: Final = "/v1/chat/completions"
COMPLETIONS_PATH: Final = "/v1/completions"
EMBEDDINGS_PATH: Final = "/v1/embeddings"
TOKENIZE_PATH: Final = "/v1/tokenize"
DETOKENIZE_PATH: Final = "/v1/detokenize"

TOKENIZE_PATHS: Final = (TOKENIZE_PATH, "/tokenize")
DETOKENIZE_PATHS: Final = (DETOKENIZE_PATH, "/detokenize")
"""Ours, which a client of the OpenAI API finds under its base address, and vLLM's."""

# --- media types -----------------------------------------------------------------------------------

MEDIA_BUNDLE: Final = "application/vnd.sealgate.bundle+json"
MEDIA_OHTTP_KEYS: Final = "application/ohttp-keys"
"""RFC 9458 section 10.1."""

MEDIA_SEALED_REQUEST: Final = "message/ohttp-chunked-req"
MEDIA_SEALED_RESPONSE: Final = "message/ohttp-chunked-res"
"""draft-ietf-ohai-chunked-ohttp section 8."""

MEDIA_JSON: Final = "application/json"
MEDIA_EVENT_STREAM: Final = "text/event-stream"
MEDIA_METRICS: Final = "text/plain; version=0.0.4"

# --- header and trailer fields ---------------------------------------------------------------------

RECEIPT_ID_HEADER: Final = "sealgate-receipt-id"
"""In the head of an answer: which receipt will vouch for it."""

RECEIPT_TRAILER: Final = "sealgate-receipt"
"""In the trailer of a sealed answer: the receipt, which can exist only when the answer has ended."""

ADAPTER_HEADER: Final = "sealgate-adapter"
"""In the head of an answer made with an adapter: its digest, as the receipt will have it."""

STATEMENT_HEADER: Final = "sealgate-statement"
LABEL_ID_HEADER: Final = "sealgate-label-id"
LABEL_HEADER: Final = "data-label"
TEE_HEADER: Final = "sealgate-tee"
REQUEST_ID_HEADER: Final = "x-request-id"

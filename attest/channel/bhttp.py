"""Binary representation of HTTP messages (RFC 9292): the names that the rest of Sealgate uses.

``encode_request`` and ``encode_response`` write whole messages; ``RequestEncoder`` and ``ResponseEncoder``
write streams; ``RequestDecoder`` and ``ResponseDecoder`` read either as it arrives.
"""

from attest.channel.bhttp_decoder import (
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_MAX_HEADER_BYTES,
    RequestDecoder,
    ResponseDecoder,
)
from attest.channel.bhttp_encoder import RequestEncoder, ResponseEncoder, encode_request, encode_response
from attest.channel.bhttp_message import (
    Content,
    Fields,
    InformationalHead,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    Trailers,
)

__all__ = [
    "DEFAULT_MAX_BODY_BYTES",
    "DEFAULT_MAX_HEADER_BYTES",
    "Content",
    "Fields",
    "InformationalHead",
    "RequestDecoder",
    "RequestEncoder",
    "RequestEvent",
    "RequestHead",
    "ResponseDecoder",
    "ResponseEncoder",
    "ResponseEvent",
    "ResponseHead",
    "Trailers",
    "encode_request",
    "encode_response",
]

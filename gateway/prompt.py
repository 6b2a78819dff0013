"""What an application may ask: the routes of the inner API, and bodies that both sides read alike.

The body is judged by the models that the runtime uses, on the bytes that the runtime will get; nothing is
rewritten on the way, so what was decided on is what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from attest.protocol import paths
from attest.protocol.openai.parse import REQUESTS, InvalidBody, parse_request
from gateway.errors import MethodNotAllowed, RouteNotFound, invalid_body
from gateway.upstream.exchange import InnerRequest

_ONE_MODEL = re.compile(re.escape(paths.MODELS_PATH) + r"/[A-Za-z0-9._~:@/%+-]{1,256}", re.ASCII)


@dataclass(frozen=True, repr=False)
class Prompt:
    """A valid request.

    Args:
        inner: what the runtime is asked, byte for byte.
        stream: whether the answer comes as events.
        max_tokens: the most tokens asked for; 0 if that is left to the runtime.
        embeds: whether the runtime's embedding model is asked.
    """

    inner: InnerRequest
    stream: bool
    max_tokens: int
    embeds: bool = False

    def __repr__(self) -> str:
        return f"Prompt({self.inner!r})"


def validate(method: str, path: str, body: bytes) -> Prompt:
    """The request, if it is one of this API.

    Args:
        method: HTTP method.
        path: as sent, without a query.
        body: as sent.

    Raises:
        CallerError: it is not; says which parameter and why, and never quotes a value.
    """
    if path == paths.MODELS_PATH or _ONE_MODEL.fullmatch(path):
        _require_method(method, "GET")
        return Prompt(InnerRequest("GET", path, b"", wants_stream=False), stream=False, max_tokens=0)
    model = REQUESTS.get(path)
    if model is None:
        raise RouteNotFound("There is no such route.")
    _require_method(method, "POST")
    try:
        request = parse_request(model, body)
    except InvalidBody as error:
        raise invalid_body(error.code, error.message, error.param) from error
    inner = InnerRequest("POST", path, body, wants_stream=request.stream)
    return Prompt(
        inner,
        stream=request.stream,
        max_tokens=request.token_limit or 0,
        embeds=path == paths.EMBEDDINGS_PATH,
    )


def _require_method(method: str, allowed: str) -> None:
    if method != allowed:
        raise MethodNotAllowed(f"This route takes {allowed} only.")

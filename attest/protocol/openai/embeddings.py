"""``POST /v1/embeddings``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from attest.protocol.body import Body
from attest.protocol.openai.fields import MAX_NAME, Name, TokenIds

MAX_INPUTS: Final = 2048


class EmbeddingsRequest(Body):
    """``POST /v1/embeddings``."""

    model: Name
    input: (
        Annotated[str, Field(min_length=1)]
        | TokenIds
        | Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True),
        ]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    user: Annotated[str, Field(max_length=MAX_NAME)] | None = None

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """Each text, as text or as tokens."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return self.input

    @property
    def single(self) -> bool:
        """Whether it is one text by itself, and not a list of one."""
        return isinstance(self.input, str) or isinstance(self.input[0], int)

    @property
    def stream(self) -> bool:
        """An answer of vectors is always whole."""
        return False

    @property
    def token_limit(self) -> int | None:
        """Nothing is generated."""
        return None

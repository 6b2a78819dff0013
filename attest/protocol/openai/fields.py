"""Members that several kinds of request have, and their bounds."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

MAX_TOKENS: Final = 1 << 20
MAX_CHOICES: Final = 16
MAX_TOP_LOGPROBS: Final = 20
MAX_NAME: Final = 256

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
TokenLimit = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_TOKENS, fail_fast=True)
]

"""Text for an engine without a model: one token per byte of UTF-8.

With it the whole API runs, and can be measured and attacked, without any weights.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any, Final

EOS: Final = 256


class ByteTokenizer:
    """A token for each byte value, and one more that ends an answer."""

    eos_ids: Final = frozenset({EOS})
    vocab_size: Final = EOS + 1

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - as below
        """The bytes of ``text``; nothing is put around them."""
        return list(text.encode("utf-8", "replace"))

    def names(self, token_ids: Sequence[int]) -> list[str]:
        """Bytes as two hex digits."""
        return ["<end>" if token == EOS else f"<{token:02x}>" for token in token_ids]

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,  # noqa: ARG002 - the protocol's; a stub calls nothing
    ) -> list[int]:
        """Each message as ``role: content`` and a line end; then ``assistant: ``."""
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return self.encode("".join([*lines, "assistant: "]))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of the bytes; what is no UTF-8 comes out as U+FFFD."""
        data = bytes(token for token in token_ids if token < EOS)
        special = "" if skip_special_tokens else "<end>" * sum(token == EOS for token in token_ids)
        return data.decode("utf-8", "replace") + special


class ByteDecoder:
    """The text of a growing sequence of bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """The text that became certain with this byte."""
        return self._decoder.decode(bytes([token_id])) if token_id < EOS else ""

    def finish(self) -> str:
        """An unfinished character comes out as U+FFFD."""
        return self._decoder.decode(b"", final=True)

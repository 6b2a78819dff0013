"""The OpenAI-shaped answers, written by hand.

A streamed event has two parts that change, the text and the ending, so the rest is written once per choice.
``attest.protocol.openai.answers`` describes what comes out; a test holds one against the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from attest.protocol.openai.sampling import StreamOptions
from runtime.api.exchange import Exchange
from runtime.api.generation import Piece, Reading
from runtime.api.logprobs import CompletionLogprobs, PromptScores, chat_entry
from runtime.api.served import ServedModel
from runtime.api.tool_calls import CallDelta
from runtime.engine.base import TokenOutput

DONE = b"data: [DONE]\n\n"

_EVENT_STEP = 512
_EVENT_PREFIX = 2
"""With its length prefix an event of a padded stream takes a multiple of 512 bytes (attest.channel.padding).

The channel can bring any event there, at some cost per token on both sides. Events that have the size already
cost it nothing, and the OpenAI API has a member for just that (``stream_options.include_obfuscation``).
"""

_PAD = b"0" * _EVENT_STEP
_PAD_START, _PAD_END, _EVENT_END = b',"obfuscation":"', b'"}\n\n', b"}\n\n"


class Writer(Protocol):
    """Writes one answer, whole or as events."""

    def event(self, piece: Piece) -> bytes:
        """The server-sent event of one piece; empty if the piece has nothing to show."""

    def usage_event(self, exchange: Exchange) -> bytes:
        """The event with the token counts, which has no choice."""

    def whole(self, pieces: Iterable[Piece], exchange: Exchange) -> bytes:
        """The answer in one document."""


def usage(exchange: Exchange) -> dict[str, int]:
    """The token counts."""
    return {
        "prompt_tokens": exchange.prompt_tokens,
        "completion_tokens": exchange.completion_tokens,
        "total_tokens": exchange.prompt_tokens + exchange.completion_tokens,
    }


def error_event(body: bytes) -> bytes:
    """The event that ends a stream which cannot go on."""
    return b"data: " + body + b"\n\n"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def to_json(value: Any) -> str:
    """Compact JSON; text as it is, so that a character costs its UTF-8 bytes."""
    return _ENCODER.encode(value)


class _Head:
    """What every document and event of one answer begins and ends with."""

    def __init__(self, answer_id: str, created: int, served: ServedModel, options: StreamOptions) -> None:
        self._members = {
            "id": answer_id,
            "created": created,
            "model": served.name,
            "system_fingerprint": served.fingerprint,
        }
        self._options = options
        # Where usage is asked for, the events before the one that has it say null.
        self._event_end = '],"usage":null' if options.include_usage else "]"

    def document(self, kind: str, choices: list[dict[str, Any]], exchange: Exchange, **further: Any) -> bytes:
        members = {**self._members, "object": kind, "choices": choices, "usage": usage(exchange)}
        return to_json({**members, **further}).encode()

    def event_start(self, kind: str) -> str:
        """All of an event before the first choice."""
        return f'data: {to_json({**self._members, "object": kind})[:-1]},"choices":['

    def event(self, start: str, choice: str) -> bytes:
        """The event with this one choice."""
        return self._ended(start + choice + self._event_end)

    def usage_event(self, kind: str, exchange: Exchange) -> bytes:
        return self._ended(f'{self.event_start(kind)}],"usage":{to_json(usage(exchange))}')

    def _ended(self, event: str) -> bytes:
        data = event.encode()
        if not self._options.include_obfuscation:
            return data + _EVENT_END
        size = _EVENT_PREFIX + len(data) + len(_PAD_START) + len(_PAD_END)
        return b"".join((data, _PAD_START, _PAD[: -size % _EVENT_STEP], _PAD_END))


class ChatWriter:
    """Writes the answer to a chat.

    Args:
        answer_id: of the answer.
        created: seconds since 1970.
        served: the model.
        logprobs: log-probabilities were asked for.
        prompt_logprobs: alternatives per token of the prompt that were asked for; None for none at all.
        options: of a streamed answer.
    """

    whole_kind = "chat.completion"
    event_kind = "chat.completion.chunk"

    def __init__(
        self,
        answer_id: str,
        created: int,
        served: ServedModel,
        options: StreamOptions,
        *,
        logprobs: bool,
        prompt_logprobs: int | None = None,
    ) -> None:
        self._head = _Head(answer_id, created, served, options)
        self._served = served
        self._logprobs = logprobs
        self._scores = _scores(served, prompt_logprobs)
        self._begun: set[int] = set()
        self._start = self._head.event_start(self.event_kind)

    def event(self, piece: Piece) -> bytes:
        """The first event of a choice says who speaks."""
        delta: dict[str, Any] = {}
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            delta = {"role": "assistant", "content": piece.text}
        elif piece.text:
            delta = {"content": piece.text}
        elif piece.finish_reason is None and not self._logprobs and not piece.calls:
            return b""
        if piece.calls:
            delta["tool_calls"] = [_call_delta(call) for call in _joined(piece.calls)]
        reason = "null" if piece.finish_reason is None else f'"{piece.finish_reason}"'
        logprobs = to_json(self._entries([piece])) if self._logprobs else "null"
        return self._head.event(
            self._start,
            f'{{"index":{piece.index},"delta":{to_json(delta)},"logprobs":{logprobs},'
            f'"finish_reason":{reason}}}',
        )

    def usage_event(self, exchange: Exchange) -> bytes:
        """The event with the token counts."""
        return self._head.usage_event(self.event_kind, exchange)

    def whole(self, pieces: Iterable[Piece], exchange: Exchange) -> bytes:
        """The answer in one document."""
        by_choice = _by_choice(pieces)
        choices = [
            {
                "index": index,
                "message": _message(own),
                "logprobs": self._entries(own) if self._logprobs else None,
                "finish_reason": own[-1].finish_reason,
            }
            for index, own in by_choice
        ]
        further = _prompt_logprobs(self._scores, by_choice[0][1][0].reading)
        return self._head.document(self.whole_kind, choices, exchange, **further)

    def _entries(self, pieces: list[Piece]) -> dict[str, Any]:
        tokenizer = self._served.tokenizer
        return {"content": [chat_entry(output, tokenizer) for output in _outputs(pieces)], "refusal": None}


class CompletionWriter:
    """Writes the answer to a plain completion.

    Args:
        answer_id: of the answer.
        created: seconds since 1970.
        served: the model.
        alternatives: log-probabilities per token that were asked for; None for none at all.
        prompt_logprobs: the same per token of the prompt.
        options: of a streamed answer.
    """

    kind = "text_completion"

    def __init__(
        self,
        answer_id: str,
        created: int,
        served: ServedModel,
        options: StreamOptions,
        *,
        alternatives: int | None,
        prompt_logprobs: int | None = None,
    ) -> None:
        self._head = _Head(answer_id, created, served, options)
        self._served = served
        self._alternatives = alternatives
        self._scores = _scores(served, prompt_logprobs)
        self._logprobs: dict[int, CompletionLogprobs] = {}
        self._start = self._head.event_start(self.kind)

    def event(self, piece: Piece) -> bytes:
        """The text that a piece adds."""
        if not piece.text and piece.finish_reason is None and self._alternatives is None:
            return b""
        return self._head.event(self._start, to_json(self._choice(piece.index, [piece])))

    def usage_event(self, exchange: Exchange) -> bytes:
        """The event with the token counts."""
        return self._head.usage_event(self.kind, exchange)

    def whole(self, pieces: Iterable[Piece], exchange: Exchange) -> bytes:
        """The answer in one document."""
        by_choice = _by_choice(pieces)
        readings = [own[0].reading for _, own in by_choice]
        scored = {each.place: each.scored for each in readings if each is not None and each.scored}
        choices = []
        for (index, own), reading in zip(by_choice, readings, strict=True):
            if reading is None:
                choices.append(self._choice(index, own))
                continue
            read = replace(reading, scored=scored.get(reading.place, ()))
            choices.append({**self._choice(index, own, read), **_prompt_logprobs(self._scores, read)})
        return self._head.document(self.kind, choices, exchange)

    def _choice(self, index: int, pieces: list[Piece], reading: Reading | None = None) -> dict[str, Any]:
        echoed = reading if reading is not None and reading.echo is not None else None
        return {
            "index": index,
            "text": ("" if echoed is None else echoed.echo or "") + _text(pieces),
            "logprobs": self._entries(index, echoed, _outputs(pieces)),
            "finish_reason": pieces[-1].finish_reason,
        }

    def _entries(self, index: int, echo: Reading | None, outputs: list[TokenOutput]) -> dict[str, Any] | None:
        if self._alternatives is None:
            return None
        if index not in self._logprobs:
            self._logprobs[index] = CompletionLogprobs(self._served.tokenizer, self._alternatives)
        logprobs = self._logprobs[index]
        if echo is None:
            return logprobs.of(outputs)
        prompt, answer = logprobs.of_prompt(echo.token_ids, echo.scored), logprobs.of(outputs)
        return {name: prompt[name] and prompt[name] + answer[name] for name in prompt}


def _scores(served: ServedModel, alternatives: int | None) -> PromptScores | None:
    return None if alternatives is None else PromptScores(served.tokenizer, alternatives)


def _prompt_logprobs(scores: PromptScores | None, reading: Reading | None) -> dict[str, Any]:
    """The member that only an answer to who asked for it has."""
    if scores is None or reading is None:
        return {}
    return {"prompt_logprobs": scores.of(reading.token_ids, reading.scored)}


def _by_choice(pieces: Iterable[Piece]) -> list[tuple[int, list[Piece]]]:
    choices: dict[int, list[Piece]] = {}
    for piece in pieces:
        choices.setdefault(piece.index, []).append(piece)
    return sorted(choices.items())


def _message(pieces: list[Piece]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _text(pieces), "refusal": None}
    if calls := _joined(call for piece in pieces for call in piece.calls):
        message["content"] = message["content"] or None
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    return message


def _joined(deltas: Iterable[CallDelta]) -> list[CallDelta]:
    """One delta per call."""
    joined: dict[int, CallDelta] = {}
    for delta in deltas:
        before = joined.get(delta.index)
        arguments = delta.arguments if before is None else before.arguments + delta.arguments
        joined[delta.index] = replace(before or delta, arguments=arguments)
    return list(joined.values())


def _call_delta(call: CallDelta) -> dict[str, Any]:
    function = {"arguments": call.arguments}
    if call.name is None:
        return {"index": call.index, "function": function}
    return {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, **function},
    }


def _text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _outputs(pieces: list[Piece]) -> list[TokenOutput]:
    return [piece.output for piece in pieces if piece.output is not None]

"""What passes between the ``Engine`` protocol and vLLM: parameters one way, tokens the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runtime.engine.base import (
    EngineRefusal,
    FinishReason,
    GenerateRequest,
    PromptLogprobs,
    SamplingParams,
    TokenOutput,
    TopLogprobs,
)

_SEED_BITS = (1 << 63) - 1


def sampling_params(params: SamplingParams, eos_ids: Iterable[int]) -> Any:
    """Their parameters. The model's ends are given as stop tokens, vLLM's own notion of them is off.

    Args:
        params: of a request.
        eos_ids: tokens that end an answer.

    Raises:
        EngineRefusal: ``invalid_parameter`` for what vLLM's own ranges leave out, as temperatures above 2.
    """
    from vllm import SamplingParams as Theirs  # noqa: PLC0415 only where vLLM was chosen
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 the same

    ends = set(params.stop_token_ids) | (set() if params.ignore_eos else set(eos_ids))
    try:
        return Theirs(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            min_p=params.min_p,
            seed=None if params.seed is None else params.seed & _SEED_BITS,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            logprobs=params.logprobs,
            prompt_logprobs=params.prompt_logprobs,
            ignore_eos=True,
            stop_token_ids=sorted(ends),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
    except ValueError as error:
        raise EngineRefusal("invalid_parameter", getattr(error, "parameter", None) or "") from None


def outputs_of(output: Any, request: GenerateRequest) -> Iterator[TokenOutput]:
    """The tokens of one of vLLM's outputs, of which several may have come since the last was read.

    Args:
        output: vLLM's ``RequestOutput``, a delta.
        request: whose output it is.
    """
    made = output.outputs[0]
    tokens = list(made.token_ids)
    count = request.params.logprobs
    scored = _prompt_logprobs(output, request)
    for index, token in enumerate(tokens):
        last = output.finished and index == len(tokens) - 1
        reason: FinishReason | None = None
        if last:
            reason = "stop" if made.finish_reason == "stop" else "length"
        if count is None:
            yield TokenOutput(token, finish_reason=reason, prompt_logprobs=scored)
        else:
            logprobs = made.logprobs[index]
            yield TokenOutput(token, logprobs[token].logprob, _top(logprobs, count), reason, scored)
        scored = None


def _top(logprobs: Mapping[int, Any], count: int) -> TopLogprobs:
    """The likeliest first; vLLM adds the token itself where it is not among them."""
    ranked = sorted(logprobs.items(), key=lambda item: item[1].rank)[:count]
    return tuple((token, value.logprob) for token, value in ranked if value.rank <= count)


def _prompt_logprobs(output: Any, request: GenerateRequest) -> PromptLogprobs | None:
    """With the first output, and only where they were asked for."""
    params = request.params
    if params.prompt_logprobs is None or not output.prompt_logprobs:
        return None
    count = params.prompt_logprobs
    pairs = list(zip(request.prompt_token_ids, output.prompt_logprobs, strict=True))
    return tuple(
        (logprobs[token].logprob, logprobs[token].rank, _top(logprobs, count))
        for token, logprobs in pairs[params.prompt_logprobs_from :]
    )

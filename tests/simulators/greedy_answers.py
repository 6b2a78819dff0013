"""What transformers generates greedily, and how the engine's answers are held against it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

NEAR_TIE = 5e-4
"""Logits may lie this close for the later token to be chosen by the engine: both sides sum the same float32
products, in another order. Measured on the embedded model, logits differ by at most 1e-4."""
STORED = Path(__file__).parents[1] / "vectors" / "greedy" / "smollm2.json"


@dataclass(frozen=True)
class Known:
    """A prompt, what transformers makes of it, and by how much each token led the next likely one."""

    prompt: list[int]
    tokens: list[int]
    margins: list[float]


@dataclass(frozen=True)
class Stored:
    """Answers kept with the tests, so that the default suite need not run the embedded model twice.

    Args:
        base_model_digest: of the model that was asked.
        answers: made by ``tests.oracles.greedy_transformers``, and made anew by a slow test.
    """

    base_model_digest: str
    answers: list[Known]


def load(path: Path = STORED) -> Stored:
    """Read them."""
    content = json.loads(path.read_text())
    return Stored(content["base_model_digest"], [Known(**each) for each in content["answers"]])


def save(stored: Stored, path: Path = STORED) -> None:
    """Write them, one answer a line."""
    lines = ",\n  ".join(json.dumps(asdict(each)) for each in stored.answers)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"base_model_digest": "{stored.base_model_digest}",\n'
        f' "transformers": "{transformers.__version__}",\n "answers": [\n  {lines}\n]}}\n'
    )


def transformers_model(weights: Path, *, half: bool = False) -> Any:
    """The model of a GGUF file in transformers, read and dequantised by its own code, computing in float32.

    Args:
        weights: the file.
        half: round the matrices to float16, as the engine's ``bf16`` keeps them where the processor has no
            bfloat16.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            weights.parent, gguf_file=weights.name, dtype=torch.float32
        )
    if half:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(parameter.half())
    return model.eval()


def generated(model: Any, prompts: Sequence[list[int]], tokens: int) -> list[Known]:
    """Greedy continuations of prompts of one length, with the margins of their logits; no end of sequence."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = model.generate(
            torch.tensor(prompts),
            attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.long),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=2,
            output_logits=True,
            return_dict_in_generate=True,
        )
    tops = torch.stack([step.topk(2, dim=1).values for step in output.logits], dim=1)
    margins = [[round(lead, 6) for lead in row] for row in (tops[..., 0] - tops[..., 1]).tolist()]
    made = output.sequences[:, len(prompts[0]) :].tolist()
    return [Known(*each) for each in zip(prompts, made, margins, strict=True)]


@dataclass(frozen=True)
class Difference:
    """An answer that goes another way: which one, from which token, and by how much that token led."""

    answer: int
    at: int
    margin: float


def differences(outputs: Sequence[Sequence[int]], known: Sequence[Known]) -> list[Difference]:
    """Where answers leave transformers' own."""
    found: list[Difference] = []
    for index, (output, each) in enumerate(zip(outputs, known, strict=True)):
        if list(output) != each.tokens:
            pairs = zip(output, each.tokens, strict=True)
            at = next(at for at, (ours, theirs) in enumerate(pairs) if ours != theirs)
            found.append(Difference(index, at, each.margins[at]))
    return found


def wrong(found: Sequence[Difference], near_tie: float = NEAR_TIE) -> list[Difference]:
    """Those that no rounding explains."""
    return [each for each in found if each.margin > near_tie]

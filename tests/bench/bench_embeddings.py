"""Speed of the embedding model on this machine, beside transformers' BertModel. Prints one JSON object.

Run: python -m tests.bench.bench_embeddings [--threads 2] [--repeats 5]

Texts of 8 to 200 tokens, in batches of 1, 8 and 32. transformers gets them padded to the longest,
as sentence-transformers does; each takes its turn, a repeat after the other, and medians are given: tokens of
text a second, padding not counted. ``sealgate model pull minilm`` comes first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import transformers

from runtime import settings
from runtime.embed.encoder import Encoder
from runtime.embed.folder import read_embedding_folder
from runtime.model.store import stored_model

LENGTHS = (8, 12, 20, 40, 16, 100, 30, 200)
BATCHES = (1, 8, 32)

Embed = Callable[[list[list[int]]], torch.Tensor]


def texts(count: int) -> list[list[int]]:
    """Token ids of so many texts; a single one has the median length."""
    lengths = [30] if count == 1 else [LENGTHS[index % len(LENGTHS)] for index in range(count)]
    return [[1000 + (31 * place + length) % 20_000 for place in range(length)] for length in lengths]


def padded(model: transformers.BertModel) -> Embed:
    """The peer: one padded batch, a mask, the mean, unit length."""

    def embed(batch: list[list[int]]) -> torch.Tensor:
        longest = max(map(len, batch))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in batch])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in batch])
        with torch.inference_mode():
            rows = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
            return torch.nn.functional.normalize(rows.sum(1) / mask.sum(1, keepdim=True), dim=1)

    return embed


def seconds(embed: Embed, batch: list[list[int]]) -> float:
    """Of one pass."""
    began = time.perf_counter()
    embed(batch)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = stored_model(settings.home(), "minilm").folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = padded(transformers.BertModel.from_pretrained(folder).eval())
    ours = Encoder(read_embedding_folder(folder)).embed
    result: dict[str, object] = {"threads": options.threads, "transformers": transformers.__version__}
    for count in BATCHES:
        batch = texts(count)
        largest = float((ours(batch) - peer(batch)).abs().max())
        turns = [(seconds(ours, batch), seconds(peer, batch)) for _ in range(options.repeats)]
        own, other = (statistics.median(column) for column in zip(*turns, strict=True))
        tokens = sum(map(len, batch))
        result[f"batch {count}"] = {
            "tokens": tokens,
            "tokens_per_s": round(tokens / own),
            "transformers_tokens_per_s": round(tokens / other),
            "ratio": round(other / own, 2),
            "largest_difference": largest,
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

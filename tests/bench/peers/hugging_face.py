"""transformers: batches of equal length, its own cache, the likeliest token taken.

hugging_face.py DTYPE THREADS FOLDER

It reads the folder and not the GGUF file, whose weights it would keep packed and unpack at every product.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import torch
import transformers

from tests.bench.peers.driver import Answer, Prompts, Window, rate, serve


class HuggingFace:
    """One dtype.

    Args:
        dtype: of weights and activations.
        threads: of torch.
        folder: the model.
    """

    def __init__(self, dtype: torch.dtype, threads: int, folder: Path) -> None:
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def facts(self) -> Answer:
        """See ``Peer``."""
        versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
        return {
            "version": versions,
            "settings": f"{self._model.dtype}, SDPA, dynamic cache, one static batch",
        }

    @torch.inference_mode()
    def decode(self, prompts: Prompts, tokens: int) -> Answer:
        """See ``Peer``."""
        window = Window(len(prompts))
        rows, cache = torch.tensor(prompts), None
        chosen = []
        for _ in range(tokens):
            output = self._model(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
            rows, cache = output.logits[:, -1].argmax(-1, keepdim=True), output.past_key_values
            chosen.append(rows)
            now = time.perf_counter()
            for stream in range(len(prompts)):
                window.add(stream, 1, now)
        return {"tokens_per_s": window.rate(), "ids": torch.cat(chosen, 1).tolist()}

    @torch.inference_mode()
    def prefill(self, prompts: Prompts) -> Answer:
        """See ``Peer``."""
        rows = torch.tensor(prompts)
        return rate(rows.numel(), lambda: self._model(rows, use_cache=True, logits_to_keep=1))


if __name__ == "__main__":
    serve(lambda: HuggingFace(getattr(torch, sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))

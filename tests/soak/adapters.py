"""Two hundred adapters that differ in weights, rank and linears, as PEFT folders."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from runtime.engine.lora.shape import BaseShape
from runtime.model.loaded import open_model
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config

RANKS = (4, 8, 8, 16)
TARGETS: tuple[tuple[str, ...] | None, ...] = (None, ("q_proj", "v_proj"), ("o_proj", "down_proj"))


def save_adapters(shape: BaseShape, where: Path, count: int) -> list[Path]:
    """Make them; each changes the base's answers plainly, and each otherwise."""
    folders = []
    for index in range(count):
        rank, targets = RANKS[index % len(RANKS)], TARGETS[index % len(TARGETS)]
        tensors = lora_tensors(shape, rank, seed=index, targets=targets, dtype=torch.bfloat16, scale=0.05)
        config = peft_config(rank, target_modules=list(targets) if targets else "all-linear")
        folder = where / str(index)
        folder.mkdir()
        for name, data in adapter_files(tensors, config).items():
            (folder / name).write_bytes(data)
        folders.append(folder)
    return folders


def main() -> None:
    """Make as many as asked for, for the embedded model, in the folder named."""
    save_adapters(BaseShape.of(open_model("smollm2").architecture), Path(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    main()

"""A model that was read and digested, written out for an engine that reads folders.

The engine must run the very weights whose digest the statement names. The host owns the disk, and a disk
that is read twice can answer twice: so the engine is not pointed at the files, but at a folder in memory,
written from the tensors whose bytes were hashed as they were read. Its configuration is written here too,
from the architecture that was checked: nothing else in the model's folder reaches the engine.

Who makes such a folder holds a lock in it. A process that was killed leaves its folder, a whole model's worth
of memory, and no lock: the next one that starts removes it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from attest.refusal import Unsupported
from runtime.model.architecture import Architecture
from runtime.model.loaded import OpenModel
from runtime.model.weight_source import WeightSource

_LOG = logging.getLogger(__name__)

MEMORY: Final = Path("/dev/shm")  # noqa: S108 a folder of random name and mode 0700 is made in it
PREFIX: Final = "sealgate-model-"
LOCK: Final = ".lock"
_FAMILY: Final = "sealgate-*"
_MAKING_S: Final = 3600.0
"""No folder is without its lock for so long while it is being made."""
_MOUNTS: Final = Path("/proc/self/mounts")


@contextmanager
def folder_in_memory(opened: OpenModel, dtype: torch.dtype) -> Iterator[Path]:
    """The model as a folder that lies in this machine's memory, for as long as the context lasts.

    Args:
        opened: the model; its weights are taken one at a time.
        dtype: of the weights in the folder.

    Raises:
        Unsupported: ``no-memory-folder`` where ``/dev/shm`` is not memory, or has no room for the model.
        Malformed: as the weights do.
    """
    if not _is_memory(MEMORY):
        raise Unsupported("no-memory-folder", expected=f"{MEMORY} on tmpfs")
    remove_abandoned()
    room, size = shutil.disk_usage(MEMORY).free, _size(opened, dtype)
    if size > room:
        raise Unsupported("no-memory-folder", expected=f"{size} bytes in {MEMORY}", got=f"{room} free")
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=MEMORY) as name, _locked(folder := Path(name)):
        write_folder(opened, folder, dtype)
        yield folder


def remove_abandoned() -> None:
    """Remove the folders of processes of this user that are no more, and say so in the log.

    A folder without a lock is being made at this moment, or was not made by this version: if it is old it is
    named in the log, and somebody has to look at it, for nothing tells whether it is in use.
    """
    for folder in MEMORY.glob(_FAMILY):
        try:
            found = folder.lstat()
            if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
                continue
            _remove_unlocked(folder)
        except FileNotFoundError:
            age = time.time() - found.st_mtime
            if age > _MAKING_S and folder.exists():
                _LOG.warning("%s is %d h old and nobody's by its lock: left alone", folder, age // 3600)
        except OSError:
            continue  # another process removes it


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder whose lock can be had.

    Raises:
        FileNotFoundError: it has no lock.
        OSError: the lock is no file of ours.
    """
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)  # its owner may be removing it too
        _LOG.warning("removed %s, which a process that was killed had left", folder)
    finally:
        os.close(lock)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which has its name only once it is held; forked processes hold it too."""
    new = folder / f"{LOCK}.new"
    with new.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new.rename(folder / LOCK)
        yield


def _size(opened: OpenModel, dtype: torch.dtype) -> int:
    """Bytes of the tensors."""
    blocks = _blocks(opened.architecture, opened.weights)
    return sum(math.prod(shape) * dtype.itemsize for block in blocks for shape in block.values())


def write_folder(opened: OpenModel, folder: Path, dtype: torch.dtype) -> None:
    """``config.json``, a safetensors file per block, and their index.

    Args:
        opened: the model.
        folder: exists.
        dtype: of the weights.

    Raises:
        Malformed: as the weights do.
    """
    shape, source = opened.architecture, opened.weights
    config = model_config(shape, source, sorted(opened.tokenizer.eos_ids), dtype)
    (folder / "config.json").write_text(json.dumps(config))
    files: dict[str, str] = {}
    total = 0
    for index, block in enumerate(_blocks(shape, source)):
        tensors = {name: source.take(name, size).to(dtype).contiguous() for name, size in block.items()}
        file = f"model-{index:05}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        files |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index_of = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_of))


def model_config(
    shape: Architecture, source: WeightSource, eos_ids: list[int], dtype: torch.dtype
) -> dict[str, Any]:
    """What Hugging Face's ``config.json`` says of such a model.

    Args:
        shape: of the model.
        source: whose tensors tell the families apart that are of one shape.
        eos_ids: tokens that end an answer.
        dtype: of the weights.
    """
    biased = source.has("model.layers.0.self_attn.q_proj.bias")
    if shape.query_key_norm:
        name, kind = "Qwen3ForCausalLM", "qwen3"
    elif biased and not source.has("model.layers.0.self_attn.o_proj.bias"):
        name, kind = "Qwen2ForCausalLM", "qwen2"
    else:
        name, kind = "LlamaForCausalLM", "llama"
    return {
        "architectures": [name],
        "model_type": kind,
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": shape.rms_eps,
        "rope_theta": shape.rope_theta,
        "rope_parameters": _rope(shape),
        "attention_bias": biased,
        "mlp_bias": source.has("model.layers.0.mlp.gate_proj.bias"),
        "tie_word_embeddings": not source.has("lm_head.weight"),
        "hidden_act": "silu",
        "eos_token_id": eos_ids,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _rope(shape: Architecture) -> dict[str, Any]:
    stretched = shape.rope_scaling
    base = {"rope_theta": shape.rope_theta}
    if stretched is None:
        return {"rope_type": "default", **base}
    if stretched.kind == "linear":
        return {"rope_type": "linear", "factor": stretched.factor, **base}
    return {
        "rope_type": "llama3",
        "factor": stretched.factor,
        "low_freq_factor": stretched.low_freq_factor,
        "high_freq_factor": stretched.high_freq_factor,
        "original_max_position_embeddings": stretched.original_context,
        **base,
    }


def _blocks(shape: Architecture, source: WeightSource) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of the tensors, a block of the model at a time."""
    yield {"model.embed_tokens.weight": (shape.vocab_size, shape.hidden_size)}
    for layer in range(shape.layers):
        yield _block(shape, source, f"model.layers.{layer}.")
    last: dict[str, tuple[int, ...]] = {"model.norm.weight": (shape.hidden_size,)}
    if source.has("lm_head.weight"):
        last["lm_head.weight"] = (shape.vocab_size, shape.hidden_size)
    yield last


def _block(shape: Architecture, source: WeightSource, prefix: str) -> dict[str, tuple[int, ...]]:
    width, inner = shape.hidden_size, shape.intermediate_size
    linears = {
        "self_attn.q_proj": (shape.query_width, width),
        "self_attn.k_proj": (shape.kv_width, width),
        "self_attn.v_proj": (shape.kv_width, width),
        "self_attn.o_proj": (width, shape.query_width),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    block: dict[str, tuple[int, ...]] = {
        f"{prefix}input_layernorm.weight": (width,),
        f"{prefix}post_attention_layernorm.weight": (width,),
    }
    if shape.query_key_norm:
        block[f"{prefix}self_attn.q_norm.weight"] = (shape.head_dim,)
        block[f"{prefix}self_attn.k_norm.weight"] = (shape.head_dim,)
    for name, size in linears.items():
        block[f"{prefix}{name}.weight"] = size
        if source.has(f"{prefix}{name}.bias"):
            block[f"{prefix}{name}.bias"] = size[:1]
    return block


def _is_memory(folder: Path) -> bool:
    """Whether a file system of memory alone is mounted there."""
    mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    return [str(folder), "tmpfs"] in mounts

"""The embedded model in the forms that peers read, all from the very file that Sealgate runs.

    build/peers/models/smollm2-{bf16,f16,q8_0}.gguf    for llama.cpp; its Q4_1 is the pulled file itself
    build/peers/models/smollm2-bf16/                   a Hugging Face folder, for transformers and vLLM

The pulled file is quantised already, so the wider forms hold what it dequantises to, rounded once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors import safe_open

from runtime import settings
from runtime.engine.backends.vllm_folder import write_folder
from runtime.model.loaded import open_model
from runtime.model.store import stored_model

MODEL = "smollm2"
GGUF_TYPES = {
    "bf16": gguf.GGMLQuantizationType.BF16,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
_FILE_TYPES = {
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
_WRITERS_OWN = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")


def pulled_file() -> Path:
    """The model as it was pulled."""
    return stored_model(settings.home(), MODEL).weights


def gguf_file(kind: str, folder: Path) -> Path:
    """The model with all its matrices as ``kind``; made once.

    Args:
        kind: of ``GGUF_TYPES``.
        folder: where it lies.
    """
    path = folder / f"{MODEL}-{kind}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        _convert(pulled_file(), unfinished, kind)
        unfinished.replace(path)
    return path


def hugging_face_folder(folder: Path) -> Path:
    """The model in bfloat16 as a folder of ``config.json`` and safetensors; made once."""
    path = folder / f"{MODEL}-bf16"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        unfinished.mkdir(parents=True, exist_ok=True)
        write_folder(open_model(MODEL), unfinished, torch.bfloat16)
        _write_index(unfinished)
        unfinished.replace(path)
    return path


def _write_index(folder: Path) -> None:
    """Which file has which tensor: vLLM looks into all of them, transformers wants to be told."""
    where: dict[str, str] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            where |= dict.fromkeys(tensors.keys(), file.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _convert(source: Path, target: Path, kind: str) -> None:
    reader = gguf.GGUFReader(os.fspath(source))
    writer = gguf.GGUFWriter(target, str(_value(reader.fields["general.architecture"])))
    for name, field in reader.fields.items():
        if name == "general.file_type":
            writer.add_file_type(_FILE_TYPES[kind])
        elif name not in _WRITERS_OWN:
            element = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, _value(field), field.types[0], sub_type=element)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        wide = values.ndim == 1  # llama.cpp keeps the norms in float32 whatever the rest is
        dtype = gguf.GGMLQuantizationType.F32 if wide else GGUF_TYPES[kind]
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _value(field: Any) -> Any:
    return field.contents()

"""A stock PEFT adapter, read strictly: ``adapter_config.json`` and ``adapter_model.safetensors``.

An adapter comes from outside and runs inside the model, so nothing about it is taken on trust: every
tensor must belong to a linear of this base, in the shape and rank that the configuration states, and be
finite. Pickles are never opened.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attest import strict_json
from attest.refusal import Malformed, Refused, Unsupported
from runtime.engine.lora.config import MAX_CONFIG, AdapterConfig, parse_config
from runtime.engine.lora.pack import LayerPair, pack
from runtime.engine.lora.shape import BaseShape, Group
from runtime.engine.lora.tables import GroupWeights
from runtime.engine.lora.tensors import TensorsFile, parse_tensors

CONFIG_NAME = "adapter_config.json"
TENSORS_NAME = "adapter_model.safetensors"
PICKLE_NAME = "adapter_model.bin"
BASE_DIGEST_MEMBER = "sealgate.base_model_digest"
"""In the tensors' metadata: the digest of the base that it was trained on, if its maker states it."""

_TENSOR = re.compile(
    r"base_model\.model\.(model\.layers\.(\d{1,4})\.([a-z_]+\.[a-z_]+))\.lora_([AB])\.weight"
)

AdapterFiles = Mapping[str, bytes | bytearray]
"""An adapter's files by name. A ``bytearray`` is zeroised once it has been read."""


@dataclass(frozen=True)
class AdapterLimits:
    """What an adapter may be at most.

    Args:
        max_rank: of any linear.
        max_bytes: of its tensors' file.
    """

    max_rank: int = 64
    max_bytes: int = 1 << 30


@dataclass(frozen=True, repr=False)
class Adapter:
    """An adapter in memory, laid out as the tables are.

    Args:
        digest: over configuration and tensors; what requests name it by.
        rank: the largest of its linears.
        modules: how many linears it changes, over all layers.
        weights: by group name; groups that it leaves alone are absent.
    """

    digest: str
    rank: int
    modules: int
    weights: dict[str, GroupWeights]

    def __repr__(self) -> str:
        return f"Adapter({self.digest}, rank {self.rank}, {self.modules} modules)"

    @property
    def memory_bytes(self) -> int:
        """What the weights take."""
        return sum(each.down.nbytes + each.up.nbytes for each in self.weights.values())

    @property
    def units(self) -> int:
        """Places it takes in the tables."""
        return max(each.units for each in self.weights.values())

    def zeroise(self) -> None:
        """Overwrite the weights. Nothing may use them any more."""
        for each in self.weights.values():
            each.down.zero_()
            each.up.zero_()


def read_folder(folder: Path, limits: AdapterLimits) -> dict[str, bytearray]:
    """The files of a PEFT folder that matter, each read once.

    Raises:
        Refused: ``adapter-not-found`` without the two files, ``adapter-too-large``.
        Unsupported: ``adapter-pickle`` if there are pickled weights.
    """
    if (folder / PICKLE_NAME).exists():
        raise Unsupported("adapter-pickle", expected=TENSORS_NAME)
    return {
        CONFIG_NAME: _read(folder / CONFIG_NAME, MAX_CONFIG),
        TENSORS_NAME: _read(folder / TENSORS_NAME, limits.max_bytes),
    }


def _read(path: Path, max_bytes: int) -> bytearray:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # a pipe would wait
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Refused("adapter-not-found", expected=f"{path.name} as a regular file")
            if status.st_size > max_bytes:
                raise Refused("adapter-too-large", expected=f"at most {max_bytes} bytes", got=path.name)
            data = bytearray(status.st_size)
            if stream.readinto(data) != len(data) or stream.read(1):
                raise Refused("adapter-not-found", expected=f"{path.name}, unchanged while it is read")
    except OSError as error:
        raise Refused("adapter-not-found", expected=path.name) from error
    return data


def read_adapter(
    files: AdapterFiles,
    shape: BaseShape,
    *,
    base_model_digest: str,
    limits: AdapterLimits,
    dtype: torch.dtype,
) -> Adapter:
    """Check an adapter's files and lay its weights out for the tables.

    Args:
        files: ``adapter_config.json`` and ``adapter_model.safetensors``.
        shape: of the base.
        base_model_digest: of the base.
        limits: beyond which it is refused.
        dtype: to keep the weights in. Those of a bfloat16 file stay so where scaling them is exact.

    Raises:
        Refused: ``adapter-not-found``, ``adapter-too-large``, ``adapter-wrong-base``,
            ``adapter-module-unknown``, ``adapter-module-untargeted``, ``adapter-pair-incomplete``,
            ``adapter-shape``, ``adapter-rank-limit``, ``adapter-rank``, ``adapter-not-finite``,
            ``adapter-empty``.
        Malformed, Unsupported: as ``parse_config`` and ``parse_tensors`` do; ``adapter-pickle``.
    """
    if PICKLE_NAME in files:
        raise Unsupported("adapter-pickle", expected=TENSORS_NAME)
    if not files.keys() >= {CONFIG_NAME, TENSORS_NAME}:
        raise Refused("adapter-not-found", expected=f"{CONFIG_NAME} and {TENSORS_NAME}")
    given = files[TENSORS_NAME]
    if len(given) > limits.max_bytes:
        raise Refused("adapter-too-large", expected=f"at most {limits.max_bytes} bytes", got=str(len(given)))
    config = parse_config(files[CONFIG_NAME])
    data = given if isinstance(given, bytearray) else bytearray(given)
    try:
        content = parse_tensors(data)
        stated = content.metadata.get(BASE_DIGEST_MEMBER, base_model_digest)
        if stated != base_model_digest:
            raise Refused("adapter-wrong-base", expected=base_model_digest, got=stated[:80])
        pairs = _pairs(content.tensors, config, shape, limits)
        digest = _digest(content, config)
        kept = torch.bfloat16 if _exact_in_bfloat16(pairs) else dtype
        weights = {
            group.name: pack(group, shape.layers, members, kept)
            for group in shape.groups
            if (members := pairs.get(group.name))
        }
    finally:
        _zeroise(data)
    adapter = Adapter(
        digest=digest,
        rank=max(pair.rank for members in pairs.values() for pair in members),
        modules=sum(len(members) for members in pairs.values()),
        weights=weights,
    )
    _check_finite(adapter)
    return adapter


def _zeroise(data: bytearray) -> None:
    torch.frombuffer(data, dtype=torch.uint8).zero_() if data else None


def _pairs(
    tensors: Mapping[str, Tensor], config: AdapterConfig, shape: BaseShape, limits: AdapterLimits
) -> dict[str, list[LayerPair]]:
    """The tensors by group, each checked against the base and the configuration."""
    known = {target: (group, index) for group in shape.groups for index, target in enumerate(group.targets)}
    halves: dict[tuple[str, int, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or int(match[2]) >= shape.layers or match[3] not in known:
            raise Refused("adapter-module-unknown", expected="linears of the base", got=name[:120])
        if not config.targets_module(match[1]):
            raise Refused("adapter-module-untargeted", expected="modules of target_modules", got=match[1])
        halves.setdefault((match[1], int(match[2]), match[3]), {})[match[4]] = tensor
    if not halves:
        raise Refused("adapter-empty", expected="at least one adapted linear")
    pairs: dict[str, list[LayerPair]] = {}
    for (module, layer, target), both in halves.items():
        if both.keys() != {"A", "B"}:
            raise Refused("adapter-pair-incomplete", expected="lora_A and lora_B", got=module)
        group, index = known[target]
        pair = LayerPair(layer, index, both["A"], both["B"], config.scaling_of(module))
        _check_pair(module, pair, group, config, limits)
        pairs.setdefault(group.name, []).append(pair)
    return pairs


def _check_pair(
    module: str, pair: LayerPair, group: Group, config: AdapterConfig, limits: AdapterLimits
) -> None:
    if pair.down.dim() != 2 or pair.up.dim() != 2:  # noqa: PLR2004 matrices
        raise Refused("adapter-shape", expected="matrices", got=module)
    rank = pair.rank
    if rank == 0:
        raise Malformed("adapter-rank-zero", module)
    if rank > limits.max_rank:
        raise Refused("adapter-rank-limit", expected=f"at most {limits.max_rank}", got=f"{rank} in {module}")
    wanted = ((rank, group.inputs), (group.outputs[pair.target], rank))
    if (tuple(pair.down.shape), tuple(pair.up.shape)) != wanted:
        raise Refused("adapter-shape", expected=f"{wanted[0]} and {wanted[1]}", got=module)
    if rank != config.rank_of(module):  # the scaling divides by the configured one
        raise Refused(
            "adapter-rank", expected=f"{config.rank_of(module)} as configured", got=f"{rank} in {module}"
        )


def _exact_in_bfloat16(pairs: Mapping[str, list[LayerPair]]) -> bool:
    return all(
        pair.down.dtype == pair.up.dtype == torch.bfloat16 and abs(math.frexp(pair.scaling)[0]) == 0.5  # noqa: PLR2004 a power of two
        for members in pairs.values()
        for pair in members
    )


def _digest(content: TensorsFile, config: AdapterConfig) -> str:
    """Over what the adapter computes: names, dtypes, shapes and contents of tensors, and each one's scaling.

    The order of a file and members without effect do not count, so that an adapter saved anew is the same.
    """
    scalings = {
        match[1]: float.hex(config.scaling_of(match[1]))
        for name in content.tensors
        if (match := _TENSOR.fullmatch(name))
    }
    tensors = {
        name: {
            "dtype": str(tensor.dtype),
            "shape": list(tensor.shape),
            "sha256": hashlib.sha256(tensor.view(torch.uint8).numpy().data).hexdigest(),
        }
        for name, tensor in content.tensors.items()
    }
    manifest = strict_json.canonical({"scaling": scalings, "tensors": tensors})
    return f"sha256:{hashlib.sha256(b'sealgate-adapter-v1' + bytes(1) + manifest).hexdigest()}"


def _check_finite(adapter: Adapter) -> None:
    for tensor in _tensors(adapter):
        least, most = torch.aminmax(tensor)  # either is NaN if any element is
        if not bool(torch.isfinite(least) & torch.isfinite(most)):
            adapter.zeroise()
            raise Refused("adapter-not-finite", expected="finite weights, scaled")


def _tensors(adapter: Adapter) -> Iterator[Tensor]:
    for each in adapter.weights.values():
        yield each.down
        yield each.up

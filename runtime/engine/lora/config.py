"""``adapter_config.json`` as PEFT writes it: what it means for a linear, and what is refused.

PEFT adds a member for each new technique and leaves it null or empty where it is not used. So members that
cannot change the result are skipped, the few that are understood are read, and any other that is not null,
false or empty is a technique that this reader does not know: refused, never ignored.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from attest import strict_json
from attest.refusal import Malformed, Unsupported

MAX_CONFIG = 1 << 20
_MAX_ALPHA = 1e6
_UNDERSTOOD = frozenset(
    {
        "alpha_pattern",
        "bias",
        "init_lora_weights",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "use_rslora",
    }
)
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",  # a free name: what binds an adapter to its base is a digest, and shapes
        "exclude_modules",  # the tensors say what was adapted
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "task_type",
    }
)
_KEEPS_BASE = (True, False, "gaussian", "orthogonal", "eva")
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class AdapterConfig:
    """What the configuration says of each linear.

    Args:
        rank: unless a pattern says otherwise.
        alpha: likewise.
        rank_pattern: module name (or its end) and rank; the first that fits holds.
        alpha_pattern: module name (or its end) and alpha.
        use_rslora: scale by the root of the rank.
        targets: names (or their ends) of the adapted modules; None if any may be.
    """

    rank: int
    alpha: float
    rank_pattern: tuple[tuple[str, int], ...]
    alpha_pattern: tuple[tuple[str, float], ...]
    use_rslora: bool
    targets: tuple[str, ...] | None

    def rank_of(self, module: str) -> int:
        """The rank of a module by its full name."""
        return next((rank for name, rank in self.rank_pattern if _fits(module, name)), self.rank)

    def scaling_of(self, module: str) -> float:
        """What B is multiplied by."""
        alpha = next((alpha for name, alpha in self.alpha_pattern if _fits(module, name)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets_module(self, module: str) -> bool:
        """Whether the module was to be adapted."""
        return self.targets is None or any(_fits(module, name) for name in self.targets)


def parse_config(data: bytes | bytearray) -> AdapterConfig:
    """Read a configuration.

    Raises:
        Malformed: ``adapter-config-*`` of the strict reader, ``adapter-config-type``.
        Unsupported: ``adapter-type`` for anything but LoRA, ``adapter-technique`` for a variant of it,
            ``adapter-init-changes-base``, ``adapter-pattern`` for patterns other than names.
    """
    config = strict_json.loads(bytes(data), name="adapter-config", max_bytes=MAX_CONFIG, allow_float=True)
    if not isinstance(config, dict):
        raise Malformed("adapter-config-type", "not an object")
    if config.get("peft_type") != "LORA":
        raise Unsupported("adapter-type", expected="peft_type LORA")
    _check_techniques(config)
    return AdapterConfig(
        rank=_rank(config.get("r"), "r"),
        alpha=_alpha(config.get("lora_alpha"), "lora_alpha"),
        rank_pattern=tuple((name, _rank(value, name)) for name, value in _pattern(config, "rank_pattern")),
        alpha_pattern=tuple((name, _alpha(value, name)) for name, value in _pattern(config, "alpha_pattern")),
        use_rslora=_flag(config, "use_rslora"),
        targets=_targets(config.get("target_modules")),
    )


def _check_techniques(config: dict[str, Any]) -> None:
    for name, value in config.items():
        inactive = value is None or value is False or value in ({}, [])
        if name not in _UNDERSTOOD and name not in _WITHOUT_EFFECT and not inactive:
            raise Unsupported("adapter-technique", expected="plain LoRA", got=name[:64])
    if config.get("bias", "none") != "none":
        raise Unsupported("adapter-technique", expected="bias none", got="bias")
    if config.get("init_lora_weights", True) not in _KEEPS_BASE:
        # PiSSA, OLoRA and their like train against a changed base, and are wrong on the true one.
        raise Unsupported("adapter-init-changes-base", expected="an initialisation that keeps the base")


def _targets(value: Any) -> tuple[str, ...] | None:
    if value is None or isinstance(value, str):  # "all-linear", or an expression that we do not run
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise Malformed("adapter-config-type", "target_modules")
    return tuple(value)


def _pattern(config: dict[str, Any], member: str) -> list[tuple[str, Any]]:
    value = config.get(member)
    if value is None:
        return []
    if not isinstance(value, dict):
        raise Malformed("adapter-config-type", member)
    for name in value:
        if not _NAME.fullmatch(name):  # PEFT takes any regular expression: one from outside may run for ever
            raise Unsupported("adapter-pattern", expected=f"module names in {member}")
    return list(value.items())


def _fits(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _rank(value: Any, name: str) -> int:
    if type(value) is not int:
        raise Malformed("adapter-config-type", f"{name[:64]} is not an integer")
    if value < 1:
        raise Malformed("adapter-rank-zero", f"{name[:64]} is {value}")
    return value


def _alpha(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= _MAX_ALPHA:
        raise Malformed("adapter-config-type", f"{name[:64]} is not a number up to {_MAX_ALPHA:g}")
    return float(value)


def _flag(config: dict[str, Any], member: str) -> bool:
    value = config.get(member, False)
    if type(value) is not bool:
        raise Malformed("adapter-config-type", f"{member} is not true or false")
    return value

"""Where the runtime keeps its files, what it serves, and how."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from attest.channel.padding import Profile
from attest.evidence.cpu import CpuKind

if TYPE_CHECKING:
    from runtime.engine.adapters import AdapterSettings
    from runtime.engine.run.runner import Kernels
    from runtime.engine.run.weights import WeightMode

MAX_GPUS: Final = 8
"""As many as one machine has."""


def home() -> Path:
    """``$SEALGATE_HOME``, by default ``~/.local/share/sealgate``. It need not exist yet."""
    configured = os.environ.get("SEALGATE_HOME")
    return Path(configured) if configured else Path.home() / ".local" / "share" / "sealgate"


@dataclass(frozen=True)
class ModelSettings:
    """What is served.

    Args:
        name: of a pulled model, or a path.
        engine: Sealgate's own, or ``vllm`` where that is installed.
        weights: how they are held.
        kernels: whose compute on a CPU, of Sealgate's engine.
        max_batch: sequences decoded together.
        threads: of the CPU.
        adapters: to serve beside the model; Sealgate's engine runs them.
        embedding_model: to serve beside the model, by name or path, whatever the engine.
    """

    name: str
    _: KW_ONLY
    engine: Literal["sealgate", "vllm"] = "sealgate"
    weights: WeightMode = "bf16"
    kernels: Kernels = "auto"
    max_batch: int = 64
    threads: int | None = None
    adapters: AdapterSettings | None = None
    embedding_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a serving runtime runs. Everything that a client relies on is in its statement instead.

    Args:
        host: address to listen on.
        port: 0 lets the system choose.
        region: where the operator says that this runs; stated, not proved.
        key_scope: name of this replica; its keys are nobody else's.
        runtime_image: name or digest of the image that runs.
        key_lifetime: from a keyset's first moment to its end.
        key_overlap: the next keyset is made this long before the end.
        max_request_bytes: of one sealed request.
        max_open_requests: sealed requests worked on at once; more are told to come later.
        receive_timeout_s: for a whole sealed request to arrive.
        max_tenants: tenants that one keyset remembers.
        replay_capacity: requests that one keyset remembers; when full, new keys are made.
        padding: profile of the sealed answers.
        tee: the kind of CPU TEE that this runs in.
        gpus: on the mock TEE, how many GPUs stand beside the CPU; on hardware, whether to ask them (not 0).
        log_level: of the content-free log on stderr.

    Raises:
        ValueError: a value is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    region: str = "unstated"
    key_scope: str = "replica-0"
    runtime_image: str = "sealgate-runtime"
    key_lifetime: timedelta = timedelta(hours=24)
    key_overlap: timedelta = timedelta(hours=1)
    max_request_bytes: int = 8 * 1024 * 1024
    max_open_requests: int = 256
    receive_timeout_s: float = 30.0
    max_tenants: int = 16_384
    replay_capacity: int = 1 << 18
    padding: Profile = "bucket"
    tee: CpuKind = "snp"
    gpus: int = 0
    log_level: str = "warning"

    def __post_init__(self) -> None:
        if not timedelta(0) < self.key_overlap < self.key_lifetime:
            raise ValueError("key_overlap must be positive and shorter than key_lifetime")
        for name in ("max_request_bytes", "max_open_requests", "max_tenants", "replay_capacity"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 <= self.gpus <= MAX_GPUS:
            raise ValueError(f"gpus must be 0 to {MAX_GPUS}")
        if not 0 <= self.port <= 65535:  # noqa: PLR2004 - TCP's range
            raise ValueError("port must be 0 to 65535")

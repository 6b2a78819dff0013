"""Digests of the check for pinned models, by weight mode, as recorded where it passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.engine.run.weights import WeightMode

SMOLLM2: Final = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

RECORDED: Final[Mapping[str, Mapping[WeightMode, str]]] = {
    SMOLLM2: {
        "float32": "sha256:4de2329b3ad0425bcd91df4156be5b6794eeff8d4647c0b60b6ea88bdbcc6fee",
        "bf16": "sha256:5ebbd211d5a5e9629c0a5ecb3439102114065c2ae3a4ed47a62a3b7b69e25efc",
        "int8": "sha256:4a938d5405dda0e3937a1b5fcabc1eb348ff590f83029a9f41326bf3d5a95acf",
    },
}
"""By the digest of the model's weights."""

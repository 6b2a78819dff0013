"""The development pair: a trust file and reference values for the mock TEE of this machine.

The only code on the gateway's side that knows the mock vendor. The values are computed here, from the files
on this machine (sources, policies, model record), and not taken from what a runtime says about itself. Both
files say loudly what they are, and a file that somebody else wrote is never overwritten.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from attest import strict_json
from attest.accepted.runtime import RuntimeReference
from attest.digest import sha256_digest
from attest.evidence.cpu import CpuKind
from attest.mock.installation import installed_machine
from attest.mock.machine import MockMachine
from attest.reference import ReferenceValues
from attest.refusal import Malformed
from attest.trust import TrustRoots
from gateway.cli.failure import Failure
from gateway.cli.processes import ask_runtime
from policies.bundle import load_bundle

MARK = "# Written by 'sealgate up' or 'sealgate demo' for the MOCK TEE of this machine."
_WARNING = f"{MARK}\n# Development only: the mock protects nothing. It is rewritten at every start.\n\n"
LIFETIME = timedelta(days=7)
MAX_EVIDENCE_AGE = timedelta(hours=1)
_MAX_RECORD_BYTES = 64 * 1024
REGION = "this-machine"
IMAGE = "sealgate-runtime"
_STUB_MODEL = b"sealgate-stub-model"  # what the stub engine states where the model was not pulled
_STUB_TOKENIZER = b"sealgate-stub-tokenizer"


@dataclass(frozen=True)
class ModelDigests:
    """What a runtime that serves this model states.

    Args:
        base_model: ``sha256:`` of the weights.
        tokenizer: ``sha256:`` of the tokenizer.
        embedding_model: ``sha256:`` of the embedding model beside it; None for none.
    """

    base_model: str
    tokenizer: str
    embedding_model: str | None = None


@dataclass(frozen=True)
class Machine:
    """The mock machine to stand on.

    Args:
        tee: of its CPU.
        gpus: beside it.
    """

    tee: CpuKind = "snp"
    gpus: int = 0


@dataclass(frozen=True)
class DevWorld:
    """Where the pair lies.

    Args:
        trust_file: names the mock vendors' roots.
        reference_file: accepts exactly the runtime of this installation with the one model.
    """

    trust_file: Path
    reference_file: Path


def write_dev_world(
    home: Path, folder: Path, digests: ModelDigests, *, machine: Machine, now: datetime
) -> DevWorld:
    """Make the mock vendors if there are none, and write the pair.

    Args:
        home: Sealgate's home, where the vendor's keys are.
        folder: where the pair goes.
        digests: the model to accept.
        machine: the machine to accept.
        now: from when the pair is valid, aware UTC.

    Raises:
        Failure: ``not_ours`` if a file of another origin is in the way.
    """
    world = DevWorld(folder / "trust.toml", folder / "reference.toml")
    for path in (world.trust_file, world.reference_file):
        _require_ours(path)
    installed = installed_machine(home, machine.tee, machine.gpus)
    trust = TrustRoots(amd=False, intel=False, nvidia=False, mock=installed.roots())
    _write(world.trust_file, trust.toml())
    _write(world.reference_file, reference_values(installed, digests, now=now).toml())
    return world


def reference_values(machine: MockMachine, digests: ModelDigests, *, now: datetime) -> ReferenceValues:
    """Values that accept the runtime of this installation on ``machine``, and nothing else."""
    return ReferenceValues(
        name="development on the mock TEE",
        not_after=(now + LIFETIME).replace(microsecond=0),
        max_evidence_age=MAX_EVIDENCE_AGE,
        **machine.reference_parts(),
        runtime=RuntimeReference(
            roles=frozenset({"serve"}),
            regions=frozenset({REGION}),
            images=frozenset({IMAGE}),
            policy_digests=frozenset({load_bundle().digest}),
            base_model_digests=frozenset({digests.base_model}),
            tokenizer_digests=frozenset({digests.tokenizer}),
            embedding_model_digests=frozenset(filter(None, [digests.embedding_model])),
        ),
    )


def model_digests(home: Path, name: str, *, stub: bool = False) -> ModelDigests:
    """The digests that were recorded when ``name`` was pulled, or those of the model at that path.

    Args:
        home: Sealgate's home.
        name: of a pulled model, or a path.
        stub: the stub engine runs, which needs no model.

    Raises:
        Failure: ``model_not_pulled``, ``runtime_failed``.
        Malformed: ``model-record-*``.
    """
    if is_pulled(home, name):
        value = strict_json.loads(
            _record(home, name).read_bytes(), name="model-record", max_bytes=_MAX_RECORD_BYTES
        )
    elif stub:
        return ModelDigests(sha256_digest(_STUB_MODEL), sha256_digest(_STUB_TOKENIZER))
    elif Path(name).exists():
        value = ask_runtime("model", "digest", str(Path(name).resolve()), "--json")
    else:
        raise Failure(
            f"model {name} is not on this machine",
            f"'sealgate model pull {name}' fetches it; 'sealgate model list' shows what there is",
            code="model_not_pulled",
        )
    try:
        return ModelDigests(value["base_model_digest"], value["tokenizer_digest"])
    except (KeyError, TypeError) as error:
        raise Malformed("model-record-members", "a digest is missing") from error


def is_pulled(home: Path, name: str) -> bool:
    """Whether ``name`` is a pulled model; such a name wins over a path."""
    return _record(home, name).is_file()


def _record(home: Path, name: str) -> Path:
    return home / "models" / name / "model.json"


def _require_ours(path: Path) -> None:
    if path.exists() and not path.read_text(errors="replace").startswith(MARK):
        raise Failure(
            f"{path} was written by someone else and is left as it is",
            "use another home for development: SEALGATE_HOME=~/.sealgate-dev sealgate up",
            code="not_ours",
        )


def _write(path: Path, text: str) -> None:
    """All of it or nothing: a gateway may be reading."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(_WARNING + text)
    draft.replace(path)

"""Hypothesis strategies for labels and sinks, over few atoms so that sets overlap."""

from __future__ import annotations

from hypothesis import strategies as st

from policies.flow import Sink
from policies.labels import FLAGS, Integrity, Label, Sensitivity

ENCLAVES = ("enclave:sha256:" + "a" * 64, "enclave:sha256:" + "b" * 64)
READERS = ("user:ann", "user:bob@acme", "grp:7f3", "svc:dlp", *ENCLAVES)
OWNERS = ("org:acme", "org:beta", "user:ann", "svc:dlp")
PURPOSES = ("inference", "support", "billing")
REGIONS = ("eu", "us", "eu-west.1")
GUIDS = ("722a5300-0000-4000-8000-000000000001", "722a5300-0000-4000-8000-000000000002")


def _subset(values: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(values))


def _restriction(values: tuple[str, ...]) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | _subset(values)


labels = st.builds(
    Label,
    owners=st.dictionaries(st.sampled_from(OWNERS), _subset(READERS)).map(
        lambda owners: tuple(owners.items())
    ),
    integrity=st.sampled_from(Integrity),
    endorsers=_restriction(OWNERS),
    purposes=_restriction(PURPOSES),
    regions=_restriction(REGIONS),
    retention_seconds=st.none() | st.integers(0, 3) | st.just(2592000),
    flags=_subset(tuple(sorted(FLAGS))),
    sensitivity=st.none() | st.builds(Sensitivity, st.integers(0, 2), st.sampled_from(GUIDS)),
    sources=_subset(("sp:site/doc#sha256-1", "x", "merkle:65:" + "0" * 64)),
    unresolved=st.just(frozenset()) | _subset(("call-1", "call-2")),
)

sinks = st.builds(
    Sink,
    atoms=_subset((*READERS, *OWNERS)),
    purpose=st.none() | st.sampled_from(PURPOSES),
    region=st.none() | st.sampled_from(REGIONS),
    keeps_seconds=st.none() | st.integers(0, 3),
    practices=_subset(("train", "cache", "log", "embed")),
    min_integrity=st.sampled_from(Integrity),
    required_endorsers=_subset(OWNERS),
)

"""The log over random records: what is written is read back, and no edit of lines goes unseen."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.refusal import Malformed
from gateway.audit.chain import Chain, LogRefused
from gateway.audit.entry import decode
from gateway.audit.record import AdministrationRecord, AuditRecord, DecisionRecord
from policies.decision import RuntimeFacts, send_prompt
from policies.labels import Label
from tests.properties.label_strategies import ENCLAVES, labels

DIGEST = "sha256:" + "a" * 64
_ids = st.from_regex(r"[A-Za-z0-9._:/=+-]{1,12}", fullmatch=True)
_times = st.integers(0, 2**42).map(lambda ms: datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms))


def _decision(
    *, label: Label, time: datetime, tenant: str, verdict: Any, groups: list[str], region: str
) -> AuditRecord:
    runtime = RuntimeFacts(
        "r", frozenset(ENCLAVES[:1]), attested=True, vendor="amd", is_mock=False, region=region, model="m"
    )
    request = send_prompt(
        key_id="k",
        groups=tuple(groups),
        runtime=runtime,
        label=label,
        purpose="inference",
        stream=True,
        max_tokens=1,
        allow_mock=False,
    )
    return DecisionRecord(
        time=time,
        tenant=tenant,
        actor="k",
        action=request.action,
        request_id="r",
        verdict=verdict,
        rules=(),
        policy_digest=DIGEST,
        facts=request.facts,
    )


_records = st.builds(
    _decision,
    label=labels,
    time=_times,
    tenant=st.sampled_from(["t1", "t2"]),
    verdict=st.sampled_from(["allow", "deny"]),
    groups=st.lists(_ids, max_size=3),
    region=st.sampled_from(["", "eu"]),
) | st.builds(
    AdministrationRecord,
    time=_times,
    actor=_ids,
    act=st.sampled_from(["key-created", "log-recovered"]),
    subject=st.none() | _ids,
    digest=st.none() | st.just(DIGEST),
    count=st.none() | st.integers(0, 2**53 - 1),
)


def _written(records: list[AuditRecord]) -> list[bytes]:
    chain = Chain()
    return [chain.extend(record)[1] for record in records]


def _follow(lines: list[bytes]) -> int:
    chain = Chain()
    for line in lines:
        chain.follow(line)
    return chain.length


@settings(max_examples=60)
@given(st.lists(_records, max_size=6))
def test_what_is_written_is_read_back(records: list[AuditRecord]) -> None:
    chain = Chain()
    entries = [chain.follow(line) for line in _written(records)]
    assert [entry.record for entry in entries] == records
    for tenant in ("t1", "t2"):
        numbers = [
            entry.tenant_sequence
            for entry in entries
            if isinstance(entry.record, DecisionRecord)
            and entry.record.tenant == tenant
            and entry.record.verdict == "allow"
        ]
        assert numbers == list(range(1, len(numbers) + 1))


@settings(max_examples=60)
@given(st.lists(_records, min_size=2, max_size=6), st.data())
def test_no_rearrangement_of_lines_is_a_log(records: list[AuditRecord], data: Any) -> None:
    """Any list made of the log's lines is refused, except the first so many in order."""
    lines = _written(records)
    picked = data.draw(st.lists(st.sampled_from(range(len(lines))), min_size=1, max_size=6))
    if picked == list(range(len(picked))):
        assert _follow([lines[number] for number in picked]) == len(picked)
        return
    with pytest.raises(LogRefused):
        _follow([lines[number] for number in picked])


@given(st.binary(max_size=80))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        decode(data)
    with pytest.raises(LogRefused):
        Chain().follow(b'{"entry":' + data + b"\n")


@settings(max_examples=300)
@given(st.text(min_size=1, max_size=40))
def test_no_text_with_a_blank_or_beyond_ascii_is_logged(text: str) -> None:
    try:
        AdministrationRecord(time=datetime.now(UTC), actor=text, act="key-created")
    except Malformed:
        return
    assert re.fullmatch(r"[!-~]+", text)
    assert "@" not in text

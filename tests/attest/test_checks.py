"""The rows of a verdict: in order, at most one failing, and that one last."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from attest.checks import Check, CheckList, Outcome
from attest.ear import HARDWARE_CLAIMS, MOCK_CLAIMS, status
from attest.refusal import Malformed, Refused

SOON, LATER = datetime(2026, 6, 1, tzinfo=UTC), datetime(2027, 6, 1, tzinfo=UTC)


def test_rows_in_order() -> None:
    """What was established first is shown first."""
    checks = CheckList()
    checks.passed("one", "clause 1", expected="a", got="a", expires=LATER)
    checks.noted("two", "clause 2", got="b", expires=SOON)
    checks.require(True, "code", "three", "clause 3")
    assert [row.name for row in checks] == ["one", "two", "three"]
    assert [row.outcome for row in checks.rows] == [Outcome.PASSED, Outcome.NOTED, Outcome.PASSED]
    assert len(checks) == 3
    assert checks.expires == SOON
    assert repr(checks) == "CheckList(3 rows)"


def test_a_list_that_never_ends() -> None:
    """Rows that time cannot end give no end."""
    assert CheckList().expires is None


@pytest.mark.parametrize("holds", [False, None, 0, 1, "yes"])
def test_require_wants_a_real_true(holds: object) -> None:
    """Anything but True refuses: a check that returns an object by mistake does not pass."""
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        checks.require(holds, "some-code", "name", "clause", expected="e", got="g")  # type: ignore[arg-type]  # the point of the test
    assert (refusal.value.code, refusal.value.clause) == ("some-code", "clause")
    assert checks.rows == (Check("name", "clause", "e", "g", Outcome.REFUSED),)


def test_step_names_the_row_of_a_refusal() -> None:
    """The innermost step that sees the refusal adds the row, once."""
    checks = CheckList()

    def run() -> None:
        with checks.explaining(), checks.step("outer", "clause o"), checks.step("inner", "clause i"):
            raise Refused("some-code", expected="e", got="g")

    with pytest.raises(Refused) as refusal:
        run()
    assert checks.rows == (Check("inner", "clause i", "e", "g", Outcome.REFUSED),)
    assert refusal.value.checks == checks.rows


def test_explaining_adds_the_row_that_nobody_added() -> None:
    """A refusal outside any step still ends the table."""
    checks = CheckList()

    def run() -> None:
        with checks.explaining():
            checks.passed("before", "")
            raise Malformed("some-code", "three bytes", offset=7)

    with pytest.raises(Malformed) as refusal:
        run()
    assert [row.name for row in refusal.value.checks] == ["before", "some-code"]
    assert refusal.value.checks[-1].got == "some-code at byte 7: three bytes"


def test_explaining_leaves_other_errors_alone() -> None:
    """A defect of ours is not shown as a verdict."""
    checks = CheckList()
    with pytest.raises(ZeroDivisionError), checks.explaining():
        _ = 1 / 0
    assert checks.rows == ()


def test_a_refusal_elsewhere_carries_no_rows() -> None:
    """Rows belong to one refusal, not to the class."""
    assert Refused("some-code").checks == ()


def test_as_dict() -> None:
    """A row in JSON output."""
    row = Check("n", "c", "e", "g", Outcome.PASSED, SOON, ("CPU",))
    assert row.as_dict() == {
        "part": ["CPU"],
        "name": "n",
        "clause": "c",
        "expected": "e",
        "got": "g",
        "outcome": "passed",
        "expires": "2026-06-01T00:00:00+00:00",
    }
    assert Check("n", "c", "e", "g", Outcome.NOTED).as_dict()["expires"] is None


def test_rows_know_their_part() -> None:
    """Blocks nest, and a refusal's row stands where the refusal came from, however far out it is added."""
    checks = CheckList()
    checks.passed("a", "")

    def look() -> None:
        with checks.explaining(), checks.under("devices"):
            checks.passed("b", "")
            with checks.under("gpu 0"):
                checks.passed("c", "")
            with checks.under("gpu 1"):
                raise Refused("gpu-nonce", "DSP0274")

    with pytest.raises(Refused):
        look()
    assert [row.part for row in checks] == [(), ("devices",), ("devices", "gpu 0"), ("devices", "gpu 1")]
    assert checks.rows[-1].outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("claims", "tier"),
    [
        (HARDWARE_CLAIMS, "affirming"),
        (MOCK_CLAIMS, "contraindicated"),
        ({"hardware": 0}, "none"),
        ({"hardware": 2, "configuration": 32}, "warning"),
        ({"hardware": 2, "configuration": 96}, "contraindicated"),
        ({"hardware": 95}, "warning"),
        ({"hardware": 31}, "affirming"),
    ],
)
def test_status_is_the_worst_tier(claims: dict[str, int], tier: str) -> None:
    """AR4SI section 2.3.2."""
    assert status(claims) == tier


def test_the_mock_affirms_no_hardware() -> None:
    """P8: the two vectors differ where hardware speaks, and nowhere else."""
    differ = {name for name in HARDWARE_CLAIMS if HARDWARE_CLAIMS[name] != MOCK_CLAIMS[name]}
    assert differ == {"hardware", "runtime-opaque"}
    assert HARDWARE_CLAIMS.keys() == MOCK_CLAIMS.keys()

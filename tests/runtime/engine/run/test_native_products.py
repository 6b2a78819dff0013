"""The kernels' products: near float64's, by bounds that are formulas; and a row's bits its own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.engine.run.native.library import Team
from runtime.engine.run.native.linear import GROUP, NativeLinear
from runtime.engine.run.weights import WEIGHT_MODES, WeightMode

pytestmark = pytest.mark.usefixtures("native")

SHAPES = [(1, 1), (1, 64), (16, 64), (17, 63), (33, 65), (100, 7), (5, 129), (48, 128), (15, 1), (65, 200)]
"""Outputs and columns: whole panels and groups, and what is left over of either."""
UNIT = 2.0**-24
"""Half a step of float32, relative."""
WEIGHT_STEPS, ACTIVATION_STEPS = 127, 32767


@pytest.fixture(scope="module")
def teams(native: None) -> list[Team]:
    """Of one, two and three threads."""
    return [Team(threads) for threads in (1, 2, 3)]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stored(weight: Tensor, mode: WeightMode) -> Tensor:
    """What a float mode keeps of a weight, in float64."""
    return (weight if mode == "float32" else weight.half()).double()


def float_bound(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Of a sum in float32, in any order: a rounding for each term (Higham 2002, section 3.1)."""
    largest = rows.double().abs() @ weight.abs().T
    if bias is not None:
        largest += bias.double().abs()
    return (rows.shape[1] + 2) * UNIT * largest * 1.01 + 1e-44


def int8_bound(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Half a step of each weight's group under its activation, and half of the activation's under the weight.

    Whole numbers are added exactly; each group's sum, scaled, is rounded a few times.
    """
    x, w = rows.double(), weight.double()
    steps = torch.cat(
        [
            (group.abs().amax(dim=1, keepdim=True) / WEIGHT_STEPS).expand(group.shape)
            for group in w.split(GROUP, dim=1)
        ],
        dim=1,
    )
    halves = x.abs() @ (steps / 2).T
    own = x.abs().amax(dim=1, keepdim=True) / ACTIVATION_STEPS / 2
    halves += own * (w.abs() + steps / 2).sum(dim=1)
    groups = math.ceil(rows.shape[1] / GROUP)
    return halves * (1 + 1e-4) + (groups + 4) * float_bound(rows, w.abs() + steps, bias) / rows.shape[1]


def checked(weight: Tensor, bias: Tensor | None, rows: Tensor, mode: WeightMode, team: Team) -> Tensor:
    """The product, within its bound."""
    found = NativeLinear(weight, bias, mode, team)(rows)
    kept = weight.double() if mode == "int8" else stored(weight, mode)
    exact = rows.double() @ kept.T + (0 if bias is None else bias.double())
    bound = (int8_bound if mode == "int8" else float_bound)(rows, kept, bias)
    assert bool(((found.double() - exact).abs() <= bound).all())
    return found


@pytest.mark.parametrize("mode", WEIGHT_MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_beside_float64(teams: list[Team], shape: tuple[int, int], mode: WeightMode) -> None:
    outputs, columns = shape
    weight = normal(1, outputs, columns)
    for bias in (None, normal(2, outputs)):
        for count in (1, 5, 8):
            checked(weight, bias, normal(count, count, columns), mode, teams[1])


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_small_and_large_numbers(teams: list[Team], mode: WeightMode) -> None:
    """Zeros, what is denormal, and what is nearly too large, each in a row or a group by itself."""
    weight = normal(3, 20, 130)
    weight[2] = 0
    weight[3, :64] = 0
    weight[4] *= 1e-3
    rows = normal(4, 6, 130)
    rows[1] = 0
    rows[2] *= 1e-30
    rows[3] *= 1e30
    rows[4, 7] = 2e4
    found = checked(weight, None, rows, mode, teams[0])
    assert not found[1].any()
    assert not found[:, 2].any()


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_denormal_rows(teams: list[Team], mode: WeightMode) -> None:
    """Their step is none that int8 could divide by: they count as the zeros that they nearly are."""
    weight, rows = normal(5, 9, 70), normal(6, 4, 70) * 1e-40
    found = NativeLinear(weight, None, mode, teams[0])(rows).double()
    exact = rows.double() @ weight.double().T
    assert bool(found.isfinite().all())
    lost = 1.2e-34 if mode == "int8" else 2.0**-11 * float(rows.abs().max())
    assert bool(((found - exact).abs() <= lost * weight.double().abs().sum(dim=1) + 1e-43).all())


@pytest.mark.parametrize("wide", [torch.bfloat16, torch.float16, torch.float32])
def test_half_weights_stay_what_they_came_as(teams: list[Team], wide: torch.dtype) -> None:
    """And wide ones beyond what float16 holds become bfloat16."""
    weight = normal(7, 18, 30) * (1e6 if wide != torch.float16 else 1)
    came = weight.to(wide)
    held = came.bfloat16() if wide == torch.float32 else came
    linear = NativeLinear(came, None, "bf16", teams[0])
    rows = normal(8, 3, 30)
    bound = float_bound(rows, held.double(), None)
    assert bool(((linear(rows).double() - rows.double() @ held.double().T).abs() <= bound).all())
    assert linear.bytes == 2 * 32 * 30


@pytest.mark.parametrize("mode", WEIGHT_MODES)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_no_number_is_nobody_elses(teams: list[Team], mode: WeightMode, poison: float) -> None:
    """Neither its place in the row nor its neighbours matter; it comes out as no number everywhere."""
    linear = NativeLinear(normal(9, 35, 67), normal(10, 35), mode, teams[1])
    rows = normal(11, 13, 67)
    sound = linear(rows)
    for row, column in ((0, 0), (6, 66), (12, 31)):
        bad = rows.clone()
        bad[row, column] = poison
        found = linear(bad)
        others = [other for other in range(13) if other != row]
        assert torch.equal(found[others], sound[others])
        assert not found[row].isfinite().any()


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_a_weight_that_is_no_number_is_not_hidden(teams: list[Team], mode: WeightMode) -> None:
    for poison in (math.nan, math.inf):
        weight = normal(12, 20, 70)
        weight[17, 69] = poison
        found = NativeLinear(weight, None, mode, teams[0])(normal(13, 4, 70))
        assert not found[:, 17].isfinite().any()
        assert bool(found[:, :17].isfinite().all())


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    outputs=st.integers(1, 150),
    columns=st.integers(1, 200),
    mode=st.sampled_from(WEIGHT_MODES),
    with_bias=st.booleans(),
)
def test_a_rows_bits_are_its_own(
    teams: list[Team], outputs: int, columns: int, mode: WeightMode, with_bias: bool
) -> None:
    """Among 1 to 40 rows, wherever it lies, whatever the others are, for any number of threads."""
    weight, bias = normal(14, outputs, columns), normal(15, outputs) if with_bias else None
    rows = normal(16, 40, columns) * torch.logspace(-3, 3, 40).unsqueeze(1)
    linears = [NativeLinear(weight, bias, mode, team) for team in teams]
    alone = torch.cat([linears[0](row.unsqueeze(0)) for row in rows])
    for count in range(1, 41):
        for threads, linear in enumerate(linears):
            first = (7 * count + threads) % (41 - count)
            assert torch.equal(linear(rows[first : first + count]), alone[first : first + count])


def test_rows_of_another_width_are_refused(teams: list[Team]) -> None:
    linear = NativeLinear(normal(17, 8, 12), None, "float32", teams[0])
    for wrong in (normal(1, 2, 11), normal(1, 12), normal(1, 2, 3, 12)):
        with pytest.raises(ValueError, match="rows of 12"):
            linear(wrong)

"""Weights laid out for the kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from runtime.engine.run.native.library import FORMATS, INT8, CLinear, Team, library
from runtime.engine.run.weights import WeightMode

PANEL = 16
GROUP = 64


class NativeLinear:
    """A packed weight; see ``runtime.engine.run.weights.Linear``.

    int8 has one scale for every 64 columns of a row, and activations in 16 bits, one scale a row. Narrow
    float weights stay what they came as, bfloat16 or float16; wider ones become float16, whose steps are the
    finer, unless one is beyond its range.

    Args:
        weight: (out, in); not kept.
        bias: (out,), or None.
        mode: of the weights.
        team: whose threads compute.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, mode: WeightMode, team: Team) -> None:
        rows, columns = weight.shape
        panels = -(-rows // PANEL)
        if mode == "int8":
            source = weight.float().contiguous()
            self._panels = torch.empty((panels, -(-columns // 2), PANEL, 2), dtype=torch.int8)
            self._scales = torch.empty((panels, -(-columns // GROUP), PANEL))
        else:
            source = weight.to(_storage(weight, mode)).contiguous()
            self._panels = torch.empty((panels, columns, PANEL), dtype=source.dtype)
            self._scales = torch.empty(0)
        self._bias = None if bias is None else bias.float().contiguous()
        self._team = team
        self.bytes = self._panels.nbytes + self._scales.nbytes
        self.struct = CLinear(
            rows=rows,
            columns=columns,
            format=INT8 if mode == "int8" else FORMATS[source.dtype],
            panels=self._panels.data_ptr(),
            scales=self._scales.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
        )
        library().sg_pack(
            ctypes.byref(self.struct),
            source.data_ptr(),
            self._panels.data_ptr(),
            self._scales.data_ptr(),
        )

    def __call__(self, rows: Tensor) -> Tensor:
        """(R, in) float32 to (R, out) float32."""
        given = rows.float().contiguous()
        if given.ndim != 2 or given.shape[1] != self.struct.columns:  # noqa: PLR2004 rows and columns
            raise ValueError(f"rows of {self.struct.columns}, not {tuple(rows.shape)}")
        out = torch.empty((len(given), self.struct.rows))
        scratch = torch.empty(len(given) * (given.shape[1] + 2) if self.struct.format == INT8 else 0)
        library().sg_product(
            self._team.handle,
            ctypes.byref(self.struct),
            given.data_ptr(),
            len(given),
            scratch.data_ptr(),
            out.data_ptr(),
        )
        return out


def _storage(weight: Tensor, mode: WeightMode) -> torch.dtype:
    if mode == "float32":
        return torch.float32
    if weight.dtype in (torch.bfloat16, torch.float16):
        return weight.dtype
    return torch.float16 if float(weight.abs().amax()) <= torch.finfo(torch.float16).max else torch.bfloat16

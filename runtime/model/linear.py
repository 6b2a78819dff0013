"""A linear layer whose weight is laid out once for the CPU's matrix kernels.

``torch.nn.functional.linear`` re-lays the weight on every call, which for the few rows of a decoding
step costs more than the product. oneDNN's packed layout reads each weight once, at memory speed, for 1
to 64 rows alike. Where oneDNN lacks the dtype, or the model is elsewhere than on the CPU, it is plain
``linear``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ROWS_HINT = 8  # the layout chosen for few rows serves 1 and 128 as well; the one for a single row does not


class Linear:
    """``x @ weight.T + bias``, without keeping the unpacked weight.

    Args:
        weight: (out, in).
        bias: (out,), or None.
    """

    __slots__ = ("_bias", "_packed", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._packed = _can_pack(weight)
        self._weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)  # noqa: SLF001 torch names its packing op so
            if self._packed
            else weight
        )
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """(rows, in) to (rows, out)."""
        if not self._packed:
            return functional.linear(rows, self._weight, self._bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 torch names its packed product so
            rows, self._weight, self._bias, "none", [], ""
        )
        return product


def _can_pack(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # untyped in torch
        return False
    if weight.dtype == torch.float32:
        return True
    return weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 no public name

"""Linear layers whose weights are laid out once for the machine they run on.

Three weight modes, each by the fastest kernel that the machine has:

    float32   oneDNN's packed layout on CPU; plain products elsewhere
    bf16      half-width weights. With bfloat16 instructions (AVX512-BF16, AMX) oneDNN's packed bfloat16,
              activations too. Without them, where bfloat16 products are emulated at a sixth of the speed of
              float32, FBGEMM's packed float16 weights under float32 activations: half the bytes, not
              slower. On CUDA plain bfloat16.
    int8      FBGEMM: one scale per output, activations quantised row by row, whole-number sums

Rows are quantised one by one, never together: with one scale for a batch, a neighbour's large activation
would coarsen everybody's, so that a tenant could be observed and disturbed by another. Sums of whole numbers
are exact, so an int8 product of a row is the same bits whatever rows surround it.

Packed weights are not cached on disk. The host owns the disk, so a cache would need a secret key of the
enclave over gigabytes, for a start that would save less than it costs to check: packing reads each weight
once, and the weights it reads are those whose digest the statement names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from attest.refusal import Unsupported

WeightMode = Literal["float32", "bf16", "int8"]
WEIGHT_MODES: Final = ("float32", "bf16", "int8")

_ROWS_HINT: Final = (
    8  # oneDNN's layout for few rows serves 1 and 512 as well; the one for a single row does not
)
_SMALLEST_SCALE: Final = 1e-30  # a row of zeros stays a row of zeros

_ACTIVATION_STEPS: Final = 254
_ROWS_AT_ONCE: Final = 4096  # a vocabulary's weight is not to be held twice in float32 to be rounded


class Linear(Protocol):
    """``x @ weight.T + bias``."""

    bytes: int
    """Memory that the weight takes."""

    def __call__(self, rows: Tensor) -> Tensor:
        """(R, in) to (R, out), a new tensor."""
        ...


class PlainLinear:
    """A product by whatever the device's own library does.

    Args:
        weight: (out, in).
        bias: (out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        self.bytes = weight.nbytes

    def __call__(self, rows: Tensor) -> Tensor:
        """See ``Linear``."""
        return functional.linear(rows, self._weight, self._bias)


class OnednnLinear:
    """oneDNN's packed weight, in float32 or bfloat16.

    Args:
        weight: (out, in); not kept.
        bias: (out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bytes = weight.nbytes
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)  # noqa: SLF001 torch names its packing op so
        self._bias = bias
        self._product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 torch names its packed product so

    def __call__(self, rows: Tensor) -> Tensor:
        """See ``Linear``."""
        product: Tensor = self._product(rows, self._packed, self._bias, "none", [], "")
        return product


class HalfLinear:
    """FBGEMM's packed float16 weight under float32 activations, sums in float32.

    Args:
        weight: (out, in) float32; not kept.
        bias: (out,) float32, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bytes = weight.numel() * 2
        self._packed = _fbgemm(torch.ops.quantized.linear_prepack_fp16, weight, bias)
        self._product = torch.ops.quantized.linear_dynamic_fp16

    def __call__(self, rows: Tensor) -> Tensor:
        """See ``Linear``."""
        product: Tensor = self._product(rows, self._packed)
        return product


class Int8Linear:
    """FBGEMM's packed int8 weight, one scale per output; float32 rows, each quantised over its own range.

    A row is moved and stretched to lie between 0 and 1, so that one constant scale fits every row:
    ``W x = span * (W u) + low * (W 1)`` for ``u = (x - low) / span``.

    Args:
        weight: (out, in) float32; not kept.
        bias: (out,) float32, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bytes = weight.numel() + 3 * 4 * len(weight)
        scales = weight.abs().amax(dim=1).div_(_weight_steps()).clamp_(min=_SMALLEST_SCALE)
        parts = (slice(first, first + _ROWS_AT_ONCE) for first in range(0, len(weight), _ROWS_AT_ONCE))
        whole = torch.cat(
            [(weight[part] / scales[part].unsqueeze(1)).round_().to(torch.int8) for part in parts]
        )
        self._sums = whole.sum(dim=1, dtype=torch.int32) * scales
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # quantised tensors are to go; FBGEMM's packing takes nothing else
            quantised = torch._make_per_channel_quantized_tensor(whole, scales.double(), zeros, 0)  # noqa: SLF001 torch exports no other
        self._packed = _fbgemm(torch.ops.quantized.linear_prepack, quantised, None)
        self._product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """See ``Linear``."""
        low = rows.amin(dim=1, keepdim=True)  # aminmax takes ten times as long as both
        span = rows.amax(dim=1, keepdim=True).sub_(low).clamp_(min=_SMALLEST_SCALE)
        unit = (rows - low).div_(span)
        product: Tensor = self._product(unit, 1 / _ACTIVATION_STEPS, 0, self._packed)
        product.mul_(span).addcmul_(low, self._sums)
        return product if self._bias is None else product.add_(self._bias)


def _weight_steps() -> int:
    """How many steps of each sign an int8 weight has.

    Without VNNI, FBGEMM adds pairs of products in 16 bits that saturate: 255 * 63 * 2 fits, 255 * 127 * 2
    does not. One of the two must give up a bit; by perplexity, activations miss theirs more.
    """
    return 127 if torch.cpu._is_vnni_supported() else 63  # noqa: SLF001 no public name


def linear_for(mode: WeightMode, device: torch.device) -> Callable[[Tensor, Tensor | None], Linear]:
    """What lays out a weight of a mode on a device.

    Raises:
        Unsupported: ``weight-mode`` if the device has no kernel for it.
    """
    if device.type != "cpu":
        if mode == "int8":
            raise Unsupported("weight-mode", expected="float32 or bf16 on this device", got=mode)
        return PlainLinear
    if mode == "float32":
        return OnednnLinear if torch.backends.mkldnn.is_available() else PlainLinear  # type: ignore[no-untyped-call]  # untyped in torch
    if mode == "bf16" and has_bfloat16(device):
        return OnednnLinear
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise Unsupported("weight-mode", expected="float32 on this CPU", got=mode)
    return HalfLinear if mode == "bf16" else Int8Linear


def activation_dtype(mode: WeightMode, device: torch.device) -> torch.dtype:
    """What activations, keys and values are held in."""
    return torch.bfloat16 if mode == "bf16" and has_bfloat16(device) else torch.float32


def table_dtype(mode: WeightMode, device: torch.device) -> torch.dtype:
    """What the embedding table, of which a step reads a row per token, is held in."""
    if mode == "float32":
        return torch.float32
    return torch.bfloat16 if has_bfloat16(device) else torch.float16


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type != "cpu":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported()) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 no public names


def _fbgemm(pack: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """Pack by FBGEMM whatever the process's quantised backend is."""
    chosen = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        return pack(weight, bias)
    finally:
        torch.backends.quantized.engine = chosen

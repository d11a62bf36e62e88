"""Floating-point operations of whatever runs inside a context, by kind.

Matrix products and convolutions are counted by ``torch.utils.flop_counter``, with formulas of our own where its are
wrong or missing for the question asked here, how much work the model is:

* attention kernels on the CPU have no formula there; those of fused kernels' backward passes include computing the
  scores again, which is the kernel's affair and not the model's. Here attention is four products in the backward pass
  and two in the forward pass, whichever kernel runs;
* the weight gradient of a grouped convolution is counted there as if it had one group. Here each of the two gradients
  costs what the forward pass does.

Fourier transforms are counted by the usual ``2.5 n log2 n`` (real) and ``5 n log2 n`` (complex), complex products as
six operations. Everything else is element-wise, a reduction or movement of data: it is not counted as operations, but
the elements such kernels write are, so that its share can be said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_flop_count

__all__ = ["OperationCounts", "count_operations"]

aten = torch.ops.aten


@dataclass(slots=True)
class OperationCounts:
    """Operations of one or several passes; a multiplication and an addition are two.

    Attributes:
        products: Of matrix products and attention.
        convolutions: Of convolutions.
        fourier: Of Fourier transforms and complex products.
        other_elements: Elements written by everything else. No operations: see the module's description.
    """

    products: float = 0.0
    convolutions: float = 0.0
    fourier: float = 0.0
    other_elements: float = 0.0

    @property
    def matrix(self) -> float:
        """Operations that matrix units do: what utilisation is measured by."""
        return self.products + self.convolutions

    @property
    def total(self) -> float:
        """All operations counted."""
        return self.matrix + self.fourier

    def __add__(self, other: OperationCounts) -> OperationCounts:
        return OperationCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, factor: float) -> OperationCounts:
        return OperationCounts(*(getattr(self, f.name) * factor for f in fields(self)))


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(_: Any, query: Any, key: Any, value: Any, *__: Any, **___: Any) -> int:
    return 2 * int(sdpa_flop_count(query, key, value))


def _convolution_backward(grad_out: Any, signal: Any, weight: Any, *rest: Any, **_: Any) -> int:
    transposed, output_mask = rest[4], rest[7]
    forward = conv_flop_count(signal, weight, grad_out, transposed=transposed)
    return int(forward) * sum(map(bool, output_mask[:2]))


_FORMULAS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,
    aten.convolution_backward: _convolution_backward,
}
_CONVOLUTIONS = (aten.convolution, aten._convolution, aten.cudnn_convolution, aten.convolution_backward)


class _OtherOperations(TorchDispatchMode):
    """Fourier transforms, complex products and the elements everything else writes."""

    def __init__(self, counted_elsewhere: Any) -> None:
        super().__init__()
        self.counted_elsewhere = counted_elsewhere
        self.fourier = 0.0
        self.other_elements = 0.0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in (aten._fft_r2c, aten._fft_c2r, aten._fft_c2c):
            self.fourier += _transform(packet, args, out)
        elif packet is aten.mul and isinstance(out, Tensor) and out.is_complex():
            self.fourier += 6.0 * out.numel()
        elif packet not in self.counted_elsewhere and not getattr(func, "is_view", False):
            self.other_elements += sum(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))
        return out


def _transform(packet: Any, args: tuple[Any, ...], out: Tensor) -> float:
    # The real side of a real transform, whichever way it goes, has the full length.
    full = out if packet is aten._fft_c2r else args[0]
    length = math.prod(full.shape[axis] for axis in args[1])
    factor = 5.0 if packet is aten._fft_c2c else 2.5
    return factor * full.numel() * math.log2(max(length, 2))


@contextmanager
def count_operations() -> Iterator[OperationCounts]:
    """Count what runs inside, on real or fake tensors; the counts are there when the context is left."""
    counts = OperationCounts()
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    others = _OtherOperations(counter.flop_registry)
    with counter, others:
        yield counts
    by_kind = counter.get_flop_counts().get("Global", {})
    convolutions = sum(flops for packet, flops in by_kind.items() if packet in _CONVOLUTIONS)
    counts.convolutions = float(convolutions)
    counts.products = float(sum(by_kind.values()) - convolutions)
    counts.fourier, counts.other_elements = others.fourier, others.other_elements

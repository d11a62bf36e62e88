"""S4: a linear state space per feature, run as a convolution over whole signals or as a recurrence sample by sample.

Paper: "Efficiently Modeling Long Sequences with Structured State Spaces", arXiv 2111.00396; the variant of ECG-CPC
(HiPPO-LegS, A, B and the time steps frozen). Because they are frozen, the kernel is one small product of a learned
real ``C`` with a precomputed basis; the official code evaluates a Cauchy kernel in every step.

Differs from official code: the parameter is ``C`` in the real HiPPO basis instead of the complex, length-corrected
``C (I - dA^Lmax)``. Same functions and the same initial distribution, any length without correction; AdamW, which is
not invariant under a linear change of parameters, takes different steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.nn.backbones.hippo import discretize, kernel_basis
from ecg_hf.nn.precision import full_precision

__all__ = ["S4Block", "S4Layer", "S4Stack", "S4State", "TiedDropout", "fft_convolve"]


def fft_convolve(signal: Tensor, kernel: Tensor, backward_kernel: Tensor | None = None) -> Tensor:
    """Convolve along the last axis, by FFT of twice the length, so that nothing wraps around.

    While a graph is exported it is the sum itself, one convolution per feature: other runtimes lack complex numbers.

    Args:
        signal: float32 or float64 ``(..., features, length)``.
        kernel: ``(features, length)``: weight of the current and past samples, ``y[t] += k[j] u[t - j]``.
        backward_kernel: ``(features, length)``: weight of future samples, ``y[t] += k[j] u[t + 1 + j]``.

    Returns:
        Tensor shaped as ``signal``.
    """
    length = signal.shape[-1]
    if torch.compiler.is_exporting():
        return _convolve_directly(signal, kernel, backward_kernel)
    if backward_kernel is not None:
        kernel = torch.cat([kernel, backward_kernel.flip(-1)], dim=-1)
    spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
    convolved: Tensor = torch.fft.irfft(spectrum, n=2 * length)
    return convolved[..., :length]


def _convolve_directly(signal: Tensor, kernel: Tensor, backward_kernel: Tensor | None) -> Tensor:
    """As :func:`fft_convolve`, of ``(batch, features, length)``, without complex numbers."""
    length = signal.shape[-1]
    weight, ahead = kernel.flip(-1), 0
    if backward_kernel is not None:
        # The last sample that a signal of this length has is ``length - 1`` ahead.
        weight, ahead = torch.cat([weight, backward_kernel[:, : length - 1]], dim=-1), length - 1
    padded = F.pad(signal, (length - 1, ahead))
    return F.conv1d(padded, weight.unsqueeze(1), groups=weight.shape[0])


class TiedDropout(nn.Module):
    """Dropout with one draw per record and feature, the same at all time steps. ``(batch, tokens, features)``."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Drop and rescale while training."""
        if not self.training or self.probability == 0.0:
            return hidden_states
        batch, _, features = hidden_states.shape
        return hidden_states * F.dropout(hidden_states.new_ones(batch, 1, features), self.probability)


class S4State(NamedTuple):
    """State of one layer in a stream; its size does not depend on the length of the stream.

    Attributes:
        value: float32 ``(features, N, batch)``.
        transition: float32 ``(features, N, N)``, constant.
    """

    value: Tensor
    transition: Tensor


def _basis_follows(layer: nn.Module, _: object) -> None:
    assert isinstance(layer, S4Layer)
    layer.rebuild_basis()


class S4Layer(nn.Module):
    """State space, GELU, tied dropout, then a linear layer with a gate (GLU) that mixes the features.

    Args:
        hidden_size: Features H.
        state_size: Real states N per feature.
        max_length: Tokens the precomputed basis covers; longer inputs extend it.
        bidirectional: Add a second kernel for the future.
        dropout: Tied dropout after GELU.
        dt_min: Smallest time step; steps are drawn uniformly on a logarithmic scale and never trained.
        dt_max: Largest time step.

    Attributes:
        C: Parameter ``(1 or 2, H, N)``, how the states are read: forward, backward.
        D: Parameter ``(H,)``, the direct path.
        log_dt: Buffer ``(H,)``. Random but fixed: it is saved with the weights.
        basis: Buffer ``(H, N, max_length)``, follows from ``log_dt`` and is not saved.

    Shapes:
        ``(batch, tokens, H)`` to the same.

    Casting the layer to half precision leaves ``log_dt`` and ``basis`` unchanged, and the convolution is computed in
    float32, because bfloat16 would change the time steps by some per cent.
    """

    log_dt: Tensor
    basis: Tensor

    def __init__(
        self,
        hidden_size: int,
        state_size: int = 8,
        *,
        max_length: int = 300,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        self.hidden_size, self.state_size = hidden_size, state_size
        self.log_dt_range = (math.log(dt_min), math.log(dt_max))
        self.C = nn.Parameter(torch.empty(2 if bidirectional else 1, hidden_size, state_size))
        self.D = nn.Parameter(torch.empty(hidden_size))
        self.dropout = TiedDropout(dropout)
        self.output = nn.Linear(hidden_size, 2 * hidden_size)
        # float32 whatever the default dtype: a model created in bfloat16 must keep exact time steps.
        dtype = max(torch.get_default_dtype(), torch.float32, key=lambda kind: kind.itemsize)
        basis = torch.empty(hidden_size, state_size, max_length, dtype=dtype)
        self.register_buffer("log_dt", torch.empty(hidden_size, dtype=dtype))
        self.register_buffer("basis", basis, persistent=False)
        self.register_load_state_dict_post_hook(_basis_follows)
        self.reset_parameters()

    @property
    def bidirectional(self) -> bool:
        """Whether it has a kernel for the future."""
        return self.C.shape[0] == 2

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """C and D normal, ``log_dt`` uniform; the linear layer resets itself."""
        self.C.normal_()
        self.D.normal_()
        self.log_dt.uniform_(*self.log_dt_range)
        self.rebuild_basis()

    @torch.no_grad()
    def rebuild_basis(self) -> None:
        """Recompute ``basis`` after ``log_dt`` has changed. Does nothing on the meta device."""
        if not self.log_dt.is_meta and not self.basis.is_meta:
            self.basis.copy_(self.make_basis(self.basis.shape[-1]))

    def make_basis(self, length: int) -> Tensor:
        """The basis for another length, float32 (float64 for a float64 layer) ``(H, N, length)``."""
        basis = kernel_basis(discretize(self.log_dt, self.state_size), length)
        return basis.to(device=self.log_dt.device, dtype=self.basis.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> S4Layer:
        fixed = {"log_dt": self.log_dt, "basis": self.basis}
        super()._apply(fn, recurse)
        for name, before in fixed.items():
            after = getattr(self, name)
            if after.element_size() < before.element_size() and not before.is_meta:
                setattr(self, name, before.to(after.device))
        return self

    def kernel(self, length: int) -> Tensor:
        """Convolution kernels ``(1 or 2, H, length)``: forward, backward."""
        if length > self.basis.shape[-1]:
            basis = self.make_basis(length)
            if not torch.compiler.is_compiling():
                self.basis = basis
        else:
            basis = self.basis[..., :length]
        return torch.einsum("chn,hnl->chl", full_precision(self.C), basis)

    def forward(self, hidden_states: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Run over whole signals.

        Args:
            hidden_states: float ``(batch, tokens, H)``.
            token_mask: bool ``(batch, tokens)``: False tokens (padding) are fed as zeros, so that they do not affect
                the others.
        """
        if token_mask is not None:
            hidden_states = hidden_states * token_mask.unsqueeze(-1).to(hidden_states.dtype)
        # FFTs do not exist in half precision, and the kernel's product must not be autocast to it.
        with torch.autocast(hidden_states.device.type, enabled=False):
            signal = full_precision(hidden_states).transpose(1, 2).contiguous()
            forward, *backward = self.kernel(signal.shape[-1]).unbind(0)
            # The direct path D is added to the weight of the current sample, which saves a pass over the signal.
            forward = torch.cat([forward[:, :1] + full_precision(self.D)[:, None], forward[:, 1:]], dim=-1)
            response = fft_convolve(signal, forward, *backward)
        return self._mix(response.transpose(1, 2).to(hidden_states.dtype))

    def init_stream(self, batch_size: int) -> S4State:
        """The state before the first token.

        Raises:
            ValueError: if the layer looks into the future.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional S4 layer can't be streamed")
        transition = discretize(self.log_dt, self.state_size).transition
        value = self.basis.new_zeros(self.hidden_size, self.state_size, batch_size)
        return S4State(value, transition.to(value))

    def stream_step(self, hidden_states: Tensor, state: S4State) -> tuple[Tensor, S4State]:
        """The recurrence ``x <- dA x + dB u, y = C x + D u`` over the next tokens of a stream.

        Args:
            hidden_states: float ``(batch, any number of tokens, H)``.
            state: From :meth:`init_stream` or the previous call; it is not changed.

        Returns:
            What :meth:`forward` would give for these tokens after all earlier ones, and the new state.
        """
        with torch.autocast(hidden_states.device.type, enabled=False):
            signal = full_precision(hidden_states)
            drive, read, direct = self.basis[..., :1], full_precision(self.C).transpose(0, 1), self.D
            value, outputs = state.value, [signal.new_zeros(self.hidden_size, 0, len(signal))]
            for token in signal.unbind(1):
                value = torch.baddbmm(drive * token.T.unsqueeze(1), state.transition, value)
                outputs.append(read @ value)
            response = torch.cat(outputs, dim=1).permute(2, 1, 0) + full_precision(direct) * signal
        return self._mix(response.to(hidden_states.dtype)), S4State(value, state.transition)

    def _mix(self, response: Tensor) -> Tensor:
        # Value first, gate second.
        return F.glu(self.output(self.dropout(F.gelu(response))), dim=-1)


class S4Block(nn.Module):
    """Post-norm residual block: ``LayerNorm(x + Dropout(S4(x)))``, without an MLP.

    Args:
        hidden_size: Features.
        dropout: Of both tied dropouts.
        norm_eps: Epsilon of the layer norm.
        layer_options: Passed to :class:`S4Layer`.
    """

    def __init__(
        self, hidden_size: int, *, dropout: float = 0.0, norm_eps: float = 1e-5, **layer_options: Any
    ) -> None:
        super().__init__()
        self.s4 = S4Layer(hidden_size, dropout=dropout, **layer_options)
        self.dropout = TiedDropout(dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)

    def forward(self, hidden_states: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """``(batch, tokens, hidden_size)`` to the same."""
        normed: Tensor = self.norm(hidden_states + self.dropout(self.s4(hidden_states, token_mask)))
        return normed

    def stream_step(self, hidden_states: Tensor, state: S4State) -> tuple[Tensor, S4State]:
        """See :meth:`S4Layer.stream_step`."""
        response, state = self.s4.stream_step(hidden_states, state)
        return self.norm(hidden_states + self.dropout(response)), state


class S4Stack(nn.Module):
    """Blocks in sequence."""

    def __init__(self, num_layers: int, make_block: Callable[[], S4Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([make_block() for _ in range(num_layers)])

    def _s4_blocks(self) -> Iterator[S4Block]:
        # Tells the type checker what the ModuleList holds.
        for block in self.blocks:
            assert isinstance(block, S4Block)
            yield block

    def forward(self, hidden_states: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Run all blocks on ``(batch, tokens, hidden_size)``."""
        for block in self.blocks:
            hidden_states = block(hidden_states, token_mask)
        return hidden_states

    def init_stream(self, batch_size: int) -> tuple[S4State, ...]:
        """See :meth:`S4Layer.init_stream`."""
        return tuple(block.s4.init_stream(batch_size) for block in self._s4_blocks())

    def stream_step(
        self, hidden_states: Tensor, states: Sequence[S4State]
    ) -> tuple[Tensor, tuple[S4State, ...]]:
        """See :meth:`S4Layer.stream_step`."""
        advanced = []
        for block, state in zip(self._s4_blocks(), states, strict=True):
            hidden_states, state = block.stream_step(hidden_states, state)
            advanced.append(state)
        return hidden_states, tuple(advanced)

"""The HiPPO-LegS state space: what S4's states remember and how they evolve from sample to sample.

``x' = A x + B u`` keeps, in each of its N numbers, a Legendre coefficient of the input's past. S4 freezes A and B and
learns only how the state is read (C), so everything here is computed once, in float64 on the CPU.

Official code works in the complex eigenbasis of A's normal part, N / 2 conjugate pairs; the real basis used here
spans the same functions and needs neither complex numbers nor a Cauchy kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DiscreteDynamics", "discretize", "hippo_legs", "kernel_basis"]


class DiscreteDynamics(NamedTuple):
    """One step of the state space per feature: ``x <- transition x + drive u``.

    Attributes:
        transition: float64 ``(features, N, N)``.
        drive: float64 ``(features, N)``.
    """

    transition: Tensor
    drive: Tensor


def hippo_legs(state_size: int) -> tuple[Tensor, Tensor]:
    """HiPPO-LegS: ``B[n] = sqrt(2n + 1)``; ``A[n, k] = -B[n] B[k]`` below the diagonal, ``-(n + 1)`` on it, else 0.

    Args:
        state_size: N, the number of real states.

    Returns:
        A float64 ``(N, N)`` and B float64 ``(N,)``.
    """
    order = torch.arange(state_size, dtype=torch.float64, device="cpu")
    scale = (2.0 * order + 1.0).sqrt()
    below = torch.tril(torch.outer(scale, scale), diagonal=-1)
    return -(below + torch.diag(order + 1.0)), scale


def discretize(log_dt: Tensor, state_size: int) -> DiscreteDynamics:
    """Bilinear discretisation of HiPPO-LegS with one step per feature.

    ``transition = (I - dt/2 A)^-1 (I + dt/2 A)``, ``drive = (I - dt/2 A)^-1 dt B``.

    Args:
        log_dt: float ``(features,)``: natural logarithm of the step.
        state_size: N.
    """
    a, b = hippo_legs(state_size)
    half = log_dt.detach().to(device="cpu", dtype=torch.float64).exp()[:, None, None] / 2.0
    identity = torch.eye(state_size, dtype=torch.float64, device="cpu")
    right = torch.cat([identity + half * a, (2.0 * half) * b[:, None]], dim=-1)
    solved = torch.linalg.solve(identity - half * a, right)
    return DiscreteDynamics(solved[..., :-1].contiguous(), solved[..., -1].contiguous())


def kernel_basis(dynamics: DiscreteDynamics, length: int) -> Tensor:
    """Responses of all states to a unit impulse: ``basis[h, :, l] = transition_h^l drive_h``.

    A layer's convolution kernel is ``C`` times this. Doubling: ``log2(length)`` batched products.

    Args:
        dynamics: From :func:`discretize`.
        length: Number of steps.

    Returns:
        float64 ``(features, N, length)``.
    """
    power, basis = dynamics.transition, dynamics.drive.unsqueeze(-1)
    while basis.shape[-1] < length:
        basis = torch.cat([basis, power @ basis], dim=-1)
        power = power @ power
    return basis[..., :length].contiguous()

"""Cutting a multi-lead signal into patches and putting patches back."""

from __future__ import annotations

from torch import Tensor

__all__ = ["gather_tokens", "patchify", "unpatchify"]


def patchify(signal: Tensor, patch_size: int) -> Tensor:
    """Cut ``(batch, leads, samples)`` into ``(batch, leads, samples // patch_size, patch_size)``; a view.

    Samples beyond the last whole patch are an error, not dropped: the caller decides about cropping.

    Raises:
        ValueError: if the number of samples is not a multiple of ``patch_size``.
    """
    if signal.shape[-1] % patch_size:
        raise ValueError(f"{signal.shape[-1]} samples are not a multiple of the patch size {patch_size}")
    patches: Tensor = signal.unflatten(-1, (-1, patch_size))
    return patches


def unpatchify(patches: Tensor) -> Tensor:
    """Inverse of :func:`patchify`: ``(batch, leads, patches, patch_size)`` to ``(batch, leads, samples)``."""
    return patches.flatten(-2)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens: ``(batch, tokens, dim)`` by indices ``(batch, k)`` gives ``(batch, k, dim)``."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

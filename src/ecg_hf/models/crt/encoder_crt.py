"""CRT's encoder of patches of three domains, and its decoder of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.crt.configuration_crt import CrtConfig
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.backbones.resnet1d import ConvNorm1d, ResNet1d
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = ["DOMAINS", "CrtDecoder", "CrtEncoder", "CrtTokens", "PatchNetwork", "cross_domain_signal"]

DOMAINS = 3
"""Time, magnitude and phase, in this order."""

_TINY = 1e-6  # a variance below it is that of rounding


def cross_domain_signal(
    signal: Tensor, lead_mask: Tensor | None = None, *, standardize: bool = True
) -> Tensor:
    """A signal with magnitude and phase of its spectrum appended.

    The phase of the constant is 0, whatever its sign, as in the official code.

    Args:
        signal: float ``(batch, leads, samples)``, an even number, zeros in missing leads.
        lead_mask: ``(batch, leads)``, 0 for missing leads: they stay zeros and don't count.
        standardize: Take the logarithm of one plus the magnitude, and bring it and the phase to mean 0 and standard
            deviation 1 over the leads and bins of each record.

    Returns:
        float32 or float64 ``(batch, leads, 2 * samples)``: samples, ``samples / 2`` magnitudes, as many phases.
    """
    signal = full_precision(signal)
    with torch.autocast(signal.device.type, enabled=False):
        magnitude, phase = _spectrum(signal)
    phase = F.pad(phase[..., 1:], (1, 0))
    if standardize:
        there = None if lead_mask is None else lead_mask.to(signal.dtype)[..., None]
        magnitude, phase = _standardized(magnitude.log1p(), there), _standardized(phase, there)
    return torch.cat([signal, magnitude, phase], dim=-1)


def _spectrum(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude and phase of the first half of the spectrum.

    While a graph is exported they come from sums over a table in float64: onnxruntime's DFT of 1,000 samples is so
    inexact that a bin which holds little gets another phase.
    """
    samples = signal.shape[-1]
    if not torch.compiler.is_exporting():
        spectrum = torch.fft.rfft(signal)[..., : samples // 2]
        return spectrum.abs(), spectrum.angle()
    time = torch.arange(samples, device=signal.device)
    # Whole turns are left out while the numbers are whole, hence exact.
    turns = (time[:, None] * time[None, : samples // 2]) % samples
    angles = turns.to(torch.float64) * (2.0 * math.pi / samples)
    values = signal.double()
    real, imaginary = (values @ angles.cos()).to(signal.dtype), (values @ -angles.sin()).to(signal.dtype)
    return (real.square() + imaginary.square()).sqrt(), torch.atan2(imaginary, real)


def _standardized(values: Tensor, there: Tensor | None) -> Tensor:
    """Mean 0 and standard deviation 1 of each record over the leads that are there; zeros in the others."""
    if there is None:
        variance, mean = torch.var_mean(values, dim=(1, 2), keepdim=True, correction=0)
        return (values - mean) * (variance + _TINY).rsqrt()
    count = (there.sum(1, keepdim=True) * values.shape[-1]).clamp(min=1.0)
    centred = (values - (values * there).sum((1, 2), keepdim=True) / count) * there
    return centred * (centred.square().sum((1, 2), keepdim=True) / count + _TINY).rsqrt()


class CrtTokens(NamedTuple):
    """What the encoder makes of the patches it is given.

    Attributes:
        embedded: float ``(batch, k, hidden_size)``: patches before positions.
        encoded: float ``(batch, 3 + k, hidden_size)``: the [CLS] of each domain, then the patches.
        places: int64 ``(batch, k)``: place of each of these patches among all of a record.
    """

    embedded: Tensor
    encoded: Tensor
    places: Tensor


class PatchNetwork(nn.Module):
    """A narrow ResNet-18 that makes a patch a vector.

    Args:
        num_leads: Leads of a patch.
        hidden_size: Width of the vector, 8 times that of the first stage.
    """

    def __init__(self, num_leads: int, hidden_size: int) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgResidualBlock1d

        widths = [hidden_size // 8, hidden_size // 4, hidden_size // 2, hidden_size]
        self.network = ResNet1d(
            num_leads,
            stem_channels=widths[0],
            stem_kernel_size=3,
            stem_stride=4,
            channels=widths,
            depths=[2, 2, 2, 2],
            strides=[1, 2, 2, 2],
            make_block=partial(EcgResidualBlock1d, pool_shortcut=False),
            stem=nn.Sequential(
                ConvNorm1d(num_leads, widths[0], 3, stride=2), nn.MaxPool1d(3, stride=2, padding=1)
            ),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Float ``(batch, patches, leads, patch_size)`` to ``(batch, patches, hidden_size)``."""
        features: Tensor = self.network(match_weights(patches, self).flatten(0, 1)).mean(-1)
        vectors: Tensor = features.unflatten(0, patches.shape[:2])
        return vectors


def _stack(config: CrtConfig, depth: int) -> TransformerStack:
    # Not at the top: the module loads the Auto classes, and they load this one.
    from ecg_hf.models.layers import EcgTransformerBlock

    kernel = attention_kernel(config)
    return TransformerStack(
        depth,
        lambda: EcgTransformerBlock(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            kernel=kernel,
            dropout=float(config.dropout),
            norm_eps=config.layer_norm_eps,
            qkv_bias=False,
            head_size=config.head_size,
        ),
    )


class CrtEncoder(nn.Module):
    """Patches of each domain through a network of its own, then all behind three [CLS] through one transformer."""

    def __init__(self, config: CrtConfig) -> None:
        super().__init__()
        self.domain_patches, width = config.domain_patches, config.hidden_size
        self.networks = nn.ModuleList([PatchNetwork(config.num_leads, width) for _ in range(DOMAINS)])
        self.cls_tokens = nn.Parameter(torch.zeros(DOMAINS, width))
        self.domain_embedding = nn.Parameter(torch.zeros(DOMAINS, width))
        self.positions = nn.Parameter(torch.zeros(DOMAINS + sum(self.domain_patches), width))
        self.dropout = nn.Dropout(float(config.embedding_dropout))
        self.layers = _stack(config, config.num_hidden_layers)

    def forward(
        self,
        patches: Tensor,
        token_mask: Tensor | None = None,
        kept: Sequence[Tensor] | None = None,
        *,
        need_weights: bool = False,
    ) -> CrtTokens:
        """Encode.

        Args:
            patches: float ``(batch, patches, leads, patch_size)``: those of time, of magnitude, of phase.
            token_mask: bool ``(batch, 3 + patches)``; False tokens are not attended to.
            kept: For each domain int64 ``(batch, k)``, indices of ``patches``: encode only these; all if not given.
            need_weights: Use a kernel that returns attention weights.

        Differs from official code: that adds the embedding of the time domain to all tokens when it fine-tunes.
        """
        batch, count, leads, size = patches.shape
        if kept is None:
            every = torch.arange(count, device=patches.device).expand(batch, -1)
            kept = every.split(self.domain_patches, dim=1)
        flat = patches.flatten(2)
        embedded = [
            network(gather_tokens(flat, own).unflatten(2, (leads, size)))
            for network, own in zip(self.networks, kept, strict=True)
        ]
        blocks = [own + embedding for own, embedding in zip(embedded, self.domain_embedding, strict=True)]
        cls = (self.cls_tokens + self.domain_embedding).expand(batch, -1, -1)
        index = torch.cat(list(kept), dim=1)
        rows = F.pad(index + DOMAINS, (DOMAINS, 0))
        rows[:, :DOMAINS] = torch.arange(DOMAINS, device=index.device)
        hidden_states = self.dropout(torch.cat([cls, *blocks], dim=1) + self.positions[rows])
        keys = None if token_mask is None else token_mask.gather(1, rows)[:, None, None, :]
        encoded = self.layers(hidden_states, keys, need_weights=need_weights)
        return CrtTokens(torch.cat(embedded, dim=1), encoded, index)


class CrtDecoder(nn.Module):
    """Predicts dropped patches from mask tokens beside the encoder's tokens, and kept ones from those alone."""

    def __init__(self, config: CrtConfig) -> None:
        super().__init__()
        self.domain_patches, width = config.domain_patches, config.hidden_size
        self.shape = (config.num_leads, config.patch_size)
        self.mask_tokens = nn.Parameter(torch.zeros(DOMAINS, width))
        self.positions = nn.Parameter(torch.zeros(sum(self.domain_patches), width))
        self.layers = _stack(config, config.decoder_num_layers)
        values = config.num_leads * config.patch_size
        self.heads = nn.ModuleList([nn.Linear(width, values) for _ in range(DOMAINS)])

    def forward(
        self, tokens: CrtTokens, dropped: Sequence[Tensor], token_mask: Tensor | None = None
    ) -> Tensor:
        """Reconstruct.

        Args:
            tokens: From the encoder.
            dropped: For each domain int64 ``(batch, k)``: patches that the encoder was not given.
            token_mask: bool ``(batch, 3 + patches)``; False tokens are not attended to.

        Returns:
            float ``(batch, patches, leads, patch_size)``.
        """
        encoded, index = tokens.encoded, torch.cat(list(dropped), dim=1)
        masks = [mask.expand(own.shape[1], -1) for mask, own in zip(self.mask_tokens, dropped, strict=True)]
        hidden = (torch.cat(masks) + self.positions[index]).to(encoded.dtype)
        keys = None
        if token_mask is not None:
            given = token_mask.gather(1, torch.cat([tokens.places, index], dim=1) + DOMAINS)
            keys = F.pad(given, (DOMAINS, 0), value=True)[:, None, None, :]
        decoded = self.layers(torch.cat([encoded, hidden], dim=1), keys)
        batch, given_tokens, width = encoded.shape
        states = decoded.new_zeros(batch, len(self.positions), width)
        for place, values in ((tokens.places, encoded[:, DOMAINS:]), (index, decoded[:, given_tokens:])):
            states = states.scatter(1, place.unsqueeze(-1).expand(-1, -1, width), values.to(states.dtype))
        parts = states.split(self.domain_patches, dim=1)
        predicted = [head(part) for head, part in zip(self.heads, parts, strict=True)]
        prediction: Tensor = torch.cat(predicted, dim=1).unflatten(2, self.shape)
        return prediction

"""ACL-ECG's networks: the encoders of the leads and the projectors of the regions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.acl_ecg.configuration_acl_ecg import AclEcgConfig
from ecg_hf.nn.backbones.vgg1d import Vgg1d
from ecg_hf.nn.grouped import GroupedMlp
from ecg_hf.nn.precision import match_weights

__all__ = ["LeadEncoders", "RegionProjectors"]


class LeadEncoders(nn.Module):
    """One encoder per lead, all of them one grouped network; or one encoder shared by all leads.

    One encoder per lead is from the paper; the VGG and separate weights are inferred.
    """

    def __init__(self, config: AclEcgConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgVggStage

        self.shared = config.share_lead_encoder
        self.vgg = Vgg1d(
            1,
            channels=config.channels,
            depths=config.depths,
            groups=1 if self.shared else config.num_leads,
            kernel_size=config.kernel_size,
            stem_kernel_size=config.stem_kernel_size,
            stem_stride=config.stem_stride,
            make_stage=EcgVggStage,
        )

    def forward(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode each lead separately.

        Args:
            input_values: float ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``: features of missing leads are zeros.
            sample_mask: ``(batch, samples)``.

        Returns:
            Features ``(batch, leads, width, steps)``; bool ``(batch, steps)`` or None.
        """
        batch, leads, _ = input_values.shape
        signal = match_weights(input_values, self)
        if lead_mask is not None:
            signal = signal.masked_fill(lead_mask.unsqueeze(-1) == 0, 0.0)
        mask = None if sample_mask is None else sample_mask.bool()
        if self.shared:
            rows = None if mask is None else mask.repeat_interleave(leads, dim=0)
            features, _ = self.vgg(signal.reshape(batch * leads, 1, -1), rows)
            features = features.unflatten(0, (batch, leads))
            mask = None if mask is None else self.vgg.output_mask(mask)
        else:
            features, mask = self.vgg(signal, mask)
            features = features.unflatten(1, (leads, -1))
        if lead_mask is not None:
            features = features * lead_mask.to(features.dtype)[:, :, None, None]
        return features, mask


class RegionProjectors(nn.Module):
    """Concatenates the embeddings of each region's leads and projects them, each region by its own MLP.

    Paper: ACL-ECG Eqs. 7 and 8. The MLP (linear without bias, batch norm, ReLU, last layer linear) is inferred. If
    regions differ in their number of leads, the smaller ones are padded with zeros, so that all projectors are one
    computation; the weights of those zeros have no effect and get no gradient.
    """

    def __init__(self, config: AclEcgConfig) -> None:
        super().__init__()
        regions = [
            [(config.lead_names or ()).index(lead) for lead in leads] for leads in config.regions.values()
        ]
        widest = max(map(len, regions))
        # The position after the last lead holds the zeros.
        self.order = [
            lead for leads in regions for lead in leads + [config.num_leads] * (widest - len(leads))
        ]
        self.regions = regions
        self.mlp = GroupedMlp(len(regions), [widest * config.channels[-1], *config.projector_sizes])

    def forward(self, lead_features: Tensor) -> Tensor:
        """``(batch, leads, width)`` to ``(batch, regions, projector_sizes[-1])``."""
        lead_features = match_weights(lead_features, self)
        leads = [*lead_features.unbind(1), torch.zeros_like(lead_features[:, 0])]
        grouped = torch.stack([leads[index] for index in self.order], dim=1)
        projected: Tensor = self.mlp(grouped.view(grouped.shape[0], len(self.regions), -1))
        return projected

    def present(self, lead_mask: Tensor) -> Tensor:
        """Which regions have any lead: ``(batch, leads)`` to float ``(batch, regions)``."""
        there = lead_mask.bool()
        columns = [torch.stack([there[:, lead] for lead in leads]).any(0) for leads in self.regions]
        return torch.stack(columns, dim=1).float()

"""HUG: from lead tokens through lead groups and pairs of groups to the whole heart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from ecg_hf.nn.heads import masked_mean

__all__ = ["HugHead", "group_pairs"]


def group_pairs(groups: int) -> list[tuple[int, int]]:
    """Pairs of lead groups, neighbours first: (0, 1), (1, 2), (0, 2) for three, as in the official code."""
    return sorted(combinations(range(groups), 2), key=lambda pair: (pair[1] - pair[0], pair[0]))


def _mean_of(leads: Sequence[int], lead_tokens: Tensor, lead_mask: Tensor | None) -> Tensor:
    # Slices instead of an index list, which would be copied to the device in every step.
    chosen = torch.stack([lead_tokens[:, lead] for lead in leads], dim=1)
    present = None if lead_mask is None else torch.stack([lead_mask[:, lead] for lead in leads], dim=1)
    return masked_mean(chosen, present)


class HugHead(nn.Module):
    """Hierarchical lead-unified group head.

    Level 1 maps the leads of a group and averages them, level 2 does so with pairs of groups, level 3 with the pairs.
    Each map is one linear layer (no gating, no non-linearity), so the mean of mapped tokens is computed as the map of
    their mean. The whole is an affine function of the group means.

    Official code: ``utils/moe.py``, class ``HierarchicalMoE``.

    Args:
        hidden_size: Width of lead tokens and of all features.
        groups: Rows of the leads of each group.
    """

    def __init__(self, hidden_size: int, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.pairs = group_pairs(len(groups))
        self.leads_of_group = [list(group) for group in groups]
        self.group_maps = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in groups)
        self.pair_maps = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in self.pairs)
        self.whole_map = nn.Linear(hidden_size, hidden_size)

    @property
    def num_features(self) -> int:
        """Number of features per record: groups, pairs, the whole."""
        return len(self.group_maps) + len(self.pair_maps) + 1

    def forward(self, lead_tokens: Tensor, lead_mask: Tensor | None = None) -> Tensor:
        """Combine the lead tokens.

        Args:
            lead_tokens: ``(batch, leads, hidden_size)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads: left out of their group's mean. A group without any
                lead counts as zeros.

        Returns:
            ``(batch, groups + pairs + 1, hidden_size)``: groups, pairs, the whole.
        """
        groups = [
            layer(_mean_of(leads, lead_tokens, lead_mask))
            for layer, leads in zip(self.group_maps, self.leads_of_group, strict=True)
        ]
        pairs = [
            layer((groups[a] + groups[b]) / 2)
            for layer, (a, b) in zip(self.pair_maps, self.pairs, strict=True)
        ]
        whole = self.whole_map(torch.stack(pairs or groups, dim=1).mean(1))
        return torch.stack([*groups, *pairs, whole], dim=1)

"""HUG: from lead tokens over lead groups and pairs of groups to the whole heart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

__all__ = ["HugHead", "group_pairs"]


def group_pairs(groups: int) -> list[tuple[int, int]]:
    """Pairs of lead groups, neighbours first: (0, 1), (1, 2), (0, 2) for three, as in the official code."""
    return sorted(combinations(range(groups), 2), key=lambda pair: (pair[1] - pair[0], pair[0]))


class HugHead(nn.Module):
    """Hierarchical lead-unified group head.

    Level 1 maps the leads of a group and averages them, level 2 does so with pairs of groups, level 3 with the pairs.
    Each map is one linear layer (no gating, no non-linearity), so the mean of mapped tokens is computed as the map of
    their mean. The whole is an affine function of the group means.

    Official code: ``utils/moe.py``, class ``HierarchicalMoE``.

    Args:
        hidden_size: Width of lead tokens and of all features.
        groups: Rows of the leads of each group.
        num_leads: Number of leads.
    """

    def __init__(self, hidden_size: int, groups: Sequence[Sequence[int]], num_leads: int) -> None:
        super().__init__()
        self.pairs = group_pairs(len(groups))
        self.leads_of_group = [list(group) for group in groups]
        self.num_leads = num_leads
        self.group_maps = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in groups)
        self.pair_maps = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in self.pairs)
        self.whole_map = nn.Linear(hidden_size, hidden_size)

    @property
    def num_features(self) -> int:
        """Features per record: groups, pairs, the whole."""
        return len(self.group_maps) + len(self.pair_maps) + 1

    def forward(self, lead_tokens: Tensor, lead_mask: Tensor | None = None) -> Tensor:
        """Unify.

        Args:
            lead_tokens: ``(batch, leads, hidden_size)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads: left out of their group's mean. A group without any
                lead counts as zeros.

        Returns:
            ``(batch, groups + pairs + 1, hidden_size)``: groups, pairs, the whole.
        """
        membership = lead_tokens.new_zeros(len(self.leads_of_group), self.num_leads)
        for row, leads in zip(membership, self.leads_of_group, strict=True):
            row[leads] = 1.0
        weights = membership if lead_mask is None else membership * lead_mask.to(membership.dtype)[:, None, :]
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1.0)
        means = weights @ lead_tokens
        groups = [layer(means[:, i]) for i, layer in enumerate(self.group_maps)]
        pairs = [
            layer((groups[a] + groups[b]) / 2)
            for layer, (a, b) in zip(self.pair_maps, self.pairs, strict=True)
        ]
        whole = self.whole_map(torch.stack(pairs or groups, dim=1).mean(1))
        return torch.stack([*groups, *pairs, whole], dim=1)

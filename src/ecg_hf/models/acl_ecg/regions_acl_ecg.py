"""Which leads view which wall of the heart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

__all__ = ["ANATOMICAL", "CLINICAL12", "NUM_REGIONS", "RegionGrouping", "default_leads", "group_leads"]

RegionGrouping = Literal["anatomical", "clinical12", "random"]

NUM_REGIONS = 4

ANATOMICAL: dict[str, tuple[str, ...]] = {
    "inferior": ("II", "III"),
    "septal": ("V1", "V2"),
    "anterior": ("V3", "V4"),
    "lateral": ("V5", "V6"),
}
"""Paper: ACL-ECG Eq. 7. II and III span the limb leads (I = II - III, ...), so the eight determine all twelve."""

CLINICAL12: dict[str, tuple[str, ...]] = {
    "inferior": ("II", "III", "aVF"),
    "septal": ("V1", "V2"),
    "anterior": ("V3", "V4"),
    "lateral": ("I", "aVL", "V5", "V6"),
}
"""Textbook membership (inferred): aVR views no wall of the left ventricle and is in no region."""


def default_leads(grouping: RegionGrouping) -> tuple[str, ...]:
    """Leads a grouping is meant for, region by region; for ``random`` those of the paper."""
    regions = CLINICAL12 if grouping == "clinical12" else ANATOMICAL
    return tuple(lead for leads in regions.values() for lead in leads)


def group_leads(
    grouping: RegionGrouping, lead_names: Sequence[str], partition_seed: int
) -> dict[str, tuple[str, ...]]:
    """Divide leads into regions.

    Args:
        grouping: ``anatomical`` (the paper), ``clinical12``, or ``random``: a control in which a hash of the seed
            orders the leads and four runs of as equal length as possible are the regions.
        lead_names: All leads.
        partition_seed: For ``random``.

    Returns:
        Leads of each region that are among ``lead_names``; a region may be empty.
    """
    if grouping == "random":
        order = sorted(lead_names, key=lambda lead: _hash(f"{partition_seed}:{lead}"))
        cuts = [round(region * len(order) / NUM_REGIONS) for region in range(NUM_REGIONS + 1)]
        return {f"random{r + 1}": tuple(order[cuts[r] : cuts[r + 1]]) for r in range(NUM_REGIONS)}
    regions = CLINICAL12 if grouping == "clinical12" else ANATOMICAL
    return {name: tuple(lead for lead in leads if lead in lead_names) for name, leads in regions.items()}


def _hash(text: str) -> str:
    # A hash, because unlike the generators of the standard library or numpy it gives the same order in every version.
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

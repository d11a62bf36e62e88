"""One batch from records that were prepared one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["BatchCollator"]

# Along their last axis these are as long as the record; the others do not grow with it.
_ALONG_SAMPLES = ("input_values", "sample_mask", "attention_mask")
_NO_PEAK = -1


@dataclass(frozen=True, slots=True)
class BatchCollator:
    """Joins records along the batch axis; shorter ones are padded as the feature extractor would.

    Attributes:
        padding_value: Level of padded samples.
        padding_side: ``"right"`` or ``"left"``.
    """

    padding_value: float
    padding_side: str

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Join ``items``.

        Args:
            items: Tensors of a record each, batch axis of 1, or ``{"error": EcgError}``.

        Returns:
            ``error``: for each item its error or ``None``; and the tensors of those without, joined.
        """
        errors = [item.get("error") for item in items]
        prepared = [item for item in items if "error" not in item]
        batch: dict[str, Any] = {"error": errors}
        if prepared:
            length = max(item["input_values"].shape[-1] for item in prepared)
            padded = [self._padded(item, length - item["input_values"].shape[-1]) for item in prepared]
            width = max((item["r_peaks"].shape[-1] for item in padded if "r_peaks" in item), default=0)
            for name in padded[0]:
                values = [item[name] for item in padded]
                if name == "r_peaks":
                    values = [F.pad(peaks, (0, width - peaks.shape[-1]), value=_NO_PEAK) for peaks in values]
                batch[name] = torch.cat(values)
        return batch

    def _padded(self, item: dict[str, Tensor], missing: int) -> dict[str, Tensor]:
        """The item with ``missing`` samples of padding."""
        if not missing:
            return item
        left = self.padding_side == "left"
        padded = dict(item)
        for name in (name for name in _ALONG_SAMPLES if name in item):
            value = self.padding_value if name == "input_values" else 0
            padded[name] = F.pad(item[name], (missing, 0) if left else (0, missing), value=value)
        if left and "r_peaks" in item:
            peaks = item["r_peaks"]
            padded["r_peaks"] = torch.where(peaks >= 0, peaks + missing, peaks)
        return padded

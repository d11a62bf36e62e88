"""Small canonical datasets made in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from ecg_hf.data.schema import canonical_features
from ecg_hf.signal.leads import STANDARD_LEADS


def built_rows(
    signals: Sequence[np.ndarray],
    *,
    rates: Sequence[float] | float = 100.0,
    patients: Sequence[str | None] | None = None,
    splits: Sequence[str] | None = None,
    labels: Sequence[list[str]] | None = None,
) -> Dataset:
    """A dataset with the columns of a built one; fewer than 12 rows of a signal are the first standard leads."""
    n = len(signals)
    every = [rates] * n if isinstance(rates, int | float) else list(rates)
    return Dataset.from_dict(
        {
            "record_id": [str(i) for i in range(n)],
            "patient_id": list(patients) if patients is not None else [None] * n,
            "age": [50.0] * n,
            "sex": ["female"] * n,
            "report": [""] * n,
            "labels": list(labels) if labels is not None else [[]] * n,
            "fold": [-1] * n,
            "split": list(splits) if splits is not None else ["train"] * n,
            "source": ["made"] * n,
            "ecg": [
                {"signal": s.astype(np.float32), "sampling_rate": r, "lead_names": STANDARD_LEADS[: len(s)]}
                for s, r in zip(signals, every, strict=True)
            ],
            "r_peaks": [[] for _ in range(n)],
        },
        features=canonical_features(),
    )

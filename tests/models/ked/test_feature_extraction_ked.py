"""Scales of KED's signals: each lead by itself, or by the mean and deviation of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor

import ecg_hf  # noqa: F401
from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.models.ked.feature_extraction_ked import KedFeatureExtractor
from ecg_hf.processing.lead_statistics import lead_statistics
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

MEAN = [0.1 * number for number in range(12)]
STD = [0.5 + number for number in range(12)]


@pytest.fixture(scope="module")
def ecgs() -> np.ndarray:
    return simulate(3, seed=5, sampling_rate=100.0).signal.astype(np.float32)


def prepare(extractor: KedFeatureExtractor, ecg: Any) -> Any:
    return extractor(ecg, sampling_rate=100.0, lead_names=STANDARD_LEADS)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_each_lead_by_its_own_numbers(ecgs: np.ndarray, as_tensor: bool) -> None:
    given = torch.tensor(ecgs) if as_tensor else ecgs
    found = np.asarray(prepare(KedFeatureExtractor(mean=MEAN, std=STD), given)["input_values"])
    expected = (ecgs - np.array(MEAN)[:, None]) / np.array(STD)[:, None]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_missing_leads_and_padding_are_zeros(ecgs: np.ndarray) -> None:
    record = EcgRecord(ecgs[0, [1, 6], :400], 100.0, ("II", "V1"))
    out = KedFeatureExtractor(mean=MEAN, std=STD)(record)
    values = np.asarray(out["input_values"])[0]
    held = np.asarray(out["lead_mask"])[0].astype(bool)
    assert held.sum() == 2
    assert not values[~held].any()
    assert not values[:, 400:].any()
    np.testing.assert_allclose(values[6, :400], (ecgs[0, 6, :400] - MEAN[6]) / STD[6], rtol=0, atol=1e-5)


def test_without_them_each_lead_of_a_record_by_its_own(ecgs: np.ndarray) -> None:
    values = np.asarray(prepare(KedFeatureExtractor(), ecgs)["input_values"])
    np.testing.assert_allclose(values.mean(-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(values.std(-1), 1.0, atol=1e-4)


def test_measured_on_recordings(ecgs: np.ndarray, tmp_path: Path) -> None:
    records = [EcgRecord(ecg, 100.0, STANDARD_LEADS) for ecg in ecgs]
    # Shorter, without leads: what is missing and what is padding must not count.
    records.append(EcgRecord(ecgs[0, [1, 6], :400], 100.0, ("II", "V1")))
    extractor = KedFeatureExtractor(duration_s=5.0)
    found = lead_statistics(records, extractor)
    seen = [np.concatenate([ecg[lead, :500] for ecg in ecgs]).astype(float) for lead in range(12)]
    for lead in (1, 6):
        seen[lead] = np.concatenate([seen[lead], ecgs[0, lead, :400]])
    np.testing.assert_allclose(found["mean"], [values.mean() for values in seen], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["std"], [values.std() for values in seen], rtol=0, atol=1e-6)
    KedFeatureExtractor(**found).save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.mean, loaded.std, loaded.normalization) == (found["mean"], found["std"], "none")


def test_what_has_no_scale_is_refused(ecgs: np.ndarray) -> None:
    with pytest.raises(SignalError, match="lead I is missing"):
        lead_statistics([EcgRecord(ecgs[0, [6]], 100.0, ("V1",))], KedFeatureExtractor())
    flat = ecgs[0].copy()
    flat[7] = 0.25
    with pytest.raises(SignalError, match=r"lead V2 .* does not vary"):
        lead_statistics([EcgRecord(flat, 100.0, STANDARD_LEADS)], KedFeatureExtractor())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": MEAN}, "std has none"),
        ({"std": STD}, "mean has none"),
        ({"mean": MEAN[:3], "std": STD}, "mean has 3"),
        ({"mean": MEAN, "std": STD, "normalization": "zscore_lead"}, "normalization must be none"),
        ({"mean": MEAN, "std": [0.0] * 12}, "std must be"),
        ({"mean": [float("nan")] * 12, "std": STD}, "mean must be"),
        ({"mean": "0", "std": STD}, "mean must be"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        KedFeatureExtractor(**options)

"""Amplitudes on the scale of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.models.weimann_jepa.feature_extraction_weimann_jepa import WeimannJepaFeatureExtractor
from ecg_hf.processing.lead_statistics import LeadStatisticsFeatureExtractor, lead_statistics

LEADS = ("I", "II", "V1")
SCALE = {"mean": [0.1, -0.2, 0.0], "std": [0.5, 0.25, 2.0]}


def record(seed: int, samples: int = 1000, leads: int = 3) -> dict[str, object]:
    signal = np.random.default_rng(seed).normal(0.3, 0.7, size=(leads, samples)).astype(np.float32)
    return {"signal": signal, "sampling_rate": 100.0, "lead_names": list(LEADS[:leads])}


def extractor(**options: object) -> LeadStatisticsFeatureExtractor:
    return LeadStatisticsFeatureExtractor(sampling_rate=100, lead_names=LEADS, **options)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_each_lead_by_its_own_numbers(device: str | None) -> None:
    made = extractor(**SCALE)(record(0), return_tensors="np", device=device)["input_values"][0]
    wanted = (record(0)["signal"] - np.array(SCALE["mean"])[:, None]) / np.array(SCALE["std"])[:, None]
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


def test_missing_leads_and_padding_are_zeros() -> None:
    made = extractor(**SCALE)(record(0, 600, 2), return_tensors="np")
    assert made["lead_mask"].tolist() == [[1, 1, 0]]
    assert not made["input_values"][0, 2].any()
    assert not made["input_values"][0, :, 600:].any()


def test_without_numbers_each_lead_of_each_record_is_its_own_scale() -> None:
    assert extractor().normalization == "zscore_lead"
    made = extractor()(record(0), return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(made.mean(1), 0.0, atol=1e-5)
    np.testing.assert_allclose(made.std(1), 1.0, atol=1e-5)


def test_numbers_are_saved_and_loaded(tmp_path: Path) -> None:
    extractor(**SCALE).save_pretrained(tmp_path)
    loaded = LeadStatisticsFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.mean, loaded.std, loaded.normalization) == (SCALE["mean"], SCALE["std"], "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.0, 0.0, 0.0]}, "std has none"),
        ({**SCALE, "std": [1.0, 1.0]}, "each of 3 leads, std has 2"),
        ({**SCALE, "std": [1.0, 0.0, 1.0]}, "std must be a list of numbers in"),
        ({**SCALE, "mean": [0.0, float("nan"), 0.0]}, "mean must be a list of numbers in"),
        ({**SCALE, "mean": "0.1"}, "mean must be a list of numbers in"),
        ({**SCALE, "mean": [True, 0.0, 0.0]}, "mean must be a list of numbers in"),
        ({**SCALE, "normalization": "zscore_record"}, "normalization must be none"),
    ],
    ids=str,
)
def test_numbers_that_can_not_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        extractor(**options)


def test_statistics_are_those_of_all_samples() -> None:
    records = [record(0), record(1, 400), record(2, 1000, 2)]
    found = lead_statistics(records, extractor(clip=0.1))
    for row in range(3):
        samples = np.concatenate([r["signal"][row] for r in records if len(r["signal"]) > row])
        assert found["mean"][row] == pytest.approx(samples.mean(dtype=np.float64), abs=1e-6)
        assert found["std"][row] == pytest.approx(samples.std(dtype=np.float64), abs=1e-6)
    made = extractor(**found)(records[:1], return_tensors="pt")["input_values"]
    assert isinstance(made, torch.Tensor)
    with pytest.raises(SignalError, match="lead V1 is missing"):
        lead_statistics(records[2:], extractor())


def test_weimanns_extractor_limits_what_the_authors_limit() -> None:
    made = WeimannJepaFeatureExtractor()
    assert (made.sampling_rate, made.n_samples, made.clip, made.normalization) == (
        500,
        5000,
        5.0,
        "zscore_lead",
    )
    spike = np.random.default_rng(0).normal(0.0, 0.1, size=(12, 5000)).astype(np.float32)
    spike[:, 100] = 50.0
    values = made(spike, 500.0, made.lead_names, return_tensors="np")["input_values"]
    assert values.max() == 5.0

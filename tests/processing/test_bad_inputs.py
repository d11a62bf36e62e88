"""Rows of the project's table of bad inputs that extractor and tokenizer meet: 27, 28, 61, 64, 66-68."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
from transformers.utils import logging as transformers_logging

from ecg_hf.errors import NonFiniteSignal, SamplingRateError, SignalError
from ecg_hf.processing import NORMALIZATIONS, EcgFeatureExtractor
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

RATE = 100.0
ECG = simulate(1, seed=5, sampling_rate=RATE).signal[0]


def extract(ecg: Any, normalization: str = "zscore_lead", **options: Any) -> Any:
    extractor = EcgFeatureExtractor(sampling_rate=RATE, normalization=normalization)
    return extractor(ecg, **{"sampling_rate": RATE, "lead_names": STANDARD_LEADS, **options})


def test_row_27_another_rate_is_resampled_or_refused() -> None:
    fast = simulate(1, seed=5, sampling_rate=500.0).signal[0]
    assert extract(fast, sampling_rate=500.0)["input_values"].shape == (1, 12, 1000)
    strict = EcgFeatureExtractor(sampling_rate=RATE, resample_on_mismatch=False)
    with pytest.raises(SamplingRateError, match="500"):
        strict(fast, sampling_rate=500.0, lead_names=STANDARD_LEADS)
    with pytest.raises(SamplingRateError):
        extract(EcgRecord(fast, 500.0, STANDARD_LEADS), sampling_rate=250.0)


def test_the_rate_of_an_extractor_is_a_number() -> None:
    with pytest.raises(SamplingRateError, match="must be a number, got '500'"):
        EcgFeatureExtractor(sampling_rate="500")  # type: ignore[arg-type]


def test_row_28_rate_not_passed_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    transformers_logging.warning_once.cache_clear()  # another test may have used it up
    extractor = EcgFeatureExtractor(sampling_rate=RATE, normalization="zscore_lead")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            extractor(ECG, lead_names=STANDARD_LEADS)
    assert len([record for record in caplog.records if "sampling_rate" in record.getMessage()]) == 1


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("level", [0.0, 3.0, -1e-30])
def test_row_61_flat_signals_stay_finite(normalization: str, level: float) -> None:
    one = ECG.copy()
    one[4] = level
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(extract(one, normalization)["input_values"]).all()
        with pytest.raises(SignalError, match="record 0 of the batch is flat in every lead used"):
            extract(np.full_like(ECG, level), normalization)


@pytest.mark.parametrize("samples", [1, 500, 999, 6000])
def test_row_64_padded_with_a_mask_or_cropped(samples: int) -> None:
    out = extract(np.resize(ECG, (12, samples)))
    assert out["input_values"].shape == (1, 12, 1000)
    assert np.isfinite(out["input_values"]).all()
    mask = out.get("sample_mask")
    assert (1000 if mask is None else int(mask.sum())) == min(samples, 1000)


def test_row_64_no_samples() -> None:
    with pytest.raises(SignalError):
        extract(ECG[:, :0])


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e38, -3e38, 1e-42, 5e-324])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_row_66_extreme_values_end_finite_or_are_refused(value: float, normalization: str) -> None:
    ecg = ECG.astype(np.float64)
    ecg[3, 100] = value
    ecg[7] = value
    before = ecg.copy()
    try:
        values = extract(ecg, normalization)["input_values"]
    except NonFiniteSignal:
        assert abs(value) > 1
    else:
        assert np.isfinite(values).all()
        assert np.isfinite(values.astype(np.float16)).all()
    np.testing.assert_array_equal(ecg, before)


def test_row_67_records_of_different_length_and_leads_in_one_batch() -> None:
    records = [
        EcgRecord(ECG, RATE, STANDARD_LEADS),
        EcgRecord(np.ascontiguousarray(ECG[6:, :300]), RATE, STANDARD_LEADS[6:]),
        EcgRecord(np.ascontiguousarray(ECG[[1, 0], :900]), RATE, ("II", "I")),
    ]
    extractor = EcgFeatureExtractor(sampling_rate=RATE, normalization="zscore_lead")
    together = extractor(records, return_sample_mask=True)
    assert together["sample_mask"].sum(axis=1).tolist() == [1000, 300, 900]
    assert together["lead_mask"].tolist() == [[1] * 12, [0] * 6 + [1] * 6, [1] * 6 + [0] * 6]
    for row, record in enumerate(records):
        np.testing.assert_array_equal(together["input_values"][row], extractor(record)["input_values"][0])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from ecg_hf.training.vocabulary import make_tokenizer

    return make_tokenizer(["sinus rhythm. normal ecg"] * 3, vocab_size=200, max_length=32)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("***", id="stars"),
        pytest.param("\U0001fac0 sinus rhythm", id="emoji"),
        pytest.param("sinus\x00\x07\x1b[31m rhythm\u202e", id="control"),
        pytest.param("sinus rhythm " * 10_000, id="20k-words"),
    ],
)
def test_row_68_odd_reports_become_few_tokens(tokenizer: Any, text: str) -> None:
    from ecg_hf.processing import EcgProcessor

    processor = EcgProcessor(EcgFeatureExtractor(sampling_rate=RATE), tokenizer)
    encoded = processor(text=text, return_tensors="np")
    assert 2 <= encoded["input_ids"].shape[1] <= 32
    assert encoded["input_ids"].max() < len(tokenizer)


@pytest.mark.parametrize("text", [math.nan, 3, b"sinus", ["sinus", None], "\ud800 lone surrogate"])
def test_row_68_what_is_no_text_is_refused(tokenizer: Any, text: Any) -> None:
    from ecg_hf.processing import EcgProcessor

    with pytest.raises(SignalError):
        EcgProcessor(EcgFeatureExtractor(sampling_rate=RATE), tokenizer)(text=text)

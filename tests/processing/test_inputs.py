"""What is accepted as an ECG, what is refused, and what is only assumed with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.errors import (
    AmbiguousLayoutError,
    ConfigurationError,
    EcgError,
    LeadError,
    SamplingRateError,
    SignalError,
    UnknownUnit,
)
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

EXTRACTOR = EcgFeatureExtractor(sampling_rate=100, normalization="zscore_lead")
OPTIONS: dict[str, Any] = {"sampling_rate": 100, "lead_names": STANDARD_LEADS}
SIGNAL = simulate(2, seed=8, sampling_rate=100.0).signal


@pytest.mark.parametrize(
    "ecg",
    [
        SIGNAL[0].astype(object),
        SIGNAL[0].astype(np.complex64),
        SIGNAL[0] > 0,
        np.full((12, 100), "0.1"),
        "records100/00001_lr",
        Path("records100/00001_lr"),
        b"\x00\x01",
        None,
        object(),
        3.5,
        [],
        (),
        [None],
        [[[1.0, 2.0], [1.0]]],
        ["a", "b"],
        np.zeros((12, 0)),
        np.zeros((0, 12, 100)),
        np.zeros((3, 12, 0)),
        np.zeros(12),
        np.zeros((1, 2, 12, 100)),
        np.float32(1.0),
        {"sampling_rate": 100},
        {"signal": None, "lead_names": STANDARD_LEADS},
        [SIGNAL],
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'shape', '')}",
)
def test_what_is_no_ecg_is_refused_with_a_typed_error(ecg: Any) -> None:
    with pytest.raises(SignalError) as caught:
        EXTRACTOR(ecg, **OPTIONS)
    assert "\n" not in str(caught.value)


def test_layout_is_inferred_stated_or_refused() -> None:
    expected = EXTRACTOR(SIGNAL, **OPTIONS)["input_values"]
    transposed = EXTRACTOR(SIGNAL.swapaxes(1, 2), return_report=True, **OPTIONS)
    np.testing.assert_array_equal(transposed["input_values"], expected)
    assert transposed["report"].counts == {"layout_transposed": 2}
    square = SIGNAL[0][:, :12]
    with pytest.raises(AmbiguousLayoutError, match="layout="):
        EXTRACTOR(square, **OPTIONS)
    first = EXTRACTOR(square, layout="leads_first", **OPTIONS)["input_values"]
    np.testing.assert_array_equal(
        first, EXTRACTOR(square.T, layout="samples_first", **OPTIONS)["input_values"]
    )
    with pytest.raises(AmbiguousLayoutError):
        EXTRACTOR(SIGNAL, layout="time_first", **OPTIONS)
    with pytest.raises(LeadError, match="12 lead names"):
        EXTRACTOR(SIGNAL, layout="samples_first", **OPTIONS)


def test_missing_metadata_is_assumed_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    # A rate no other test uses: the library warns once per message and process.
    extractor = EcgFeatureExtractor(sampling_rate=101, normalization="none", duration_s=None)
    for _ in range(2):
        out = extractor(SIGNAL, return_report=True)
    np.testing.assert_array_equal(out["input_values"], SIGNAL)
    assert out["report"].counts == {"lead_names_assumed": 2, "sampling_rate_assumed": 2}
    assert caplog.text.count("assuming the extractor's 101 Hz") == 1


def test_leads_are_not_guessed_from_another_count() -> None:
    with pytest.raises(LeadError, match="pass lead_names"):
        EXTRACTOR(SIGNAL[:, :8], sampling_rate=100)
    with pytest.raises(LeadError, match="lead names for an array"):
        EXTRACTOR(SIGNAL, sampling_rate=100, lead_names=STANDARD_LEADS[:8])
    with pytest.raises(LeadError):
        EXTRACTOR(SIGNAL, sampling_rate=100, lead_names=("I", "lead I", *STANDARD_LEADS[2:]))
    with pytest.raises(LeadError, match="single string"):
        EXTRACTOR(SIGNAL, sampling_rate=100, lead_names="I,II")
    with pytest.raises(
        LeadError, match="has only vx, vy; this model needs a signal in at least one of I, II"
    ):
        EXTRACTOR(SIGNAL[:, :2], sampling_rate=100, lead_names=("vx", "vy"))


@pytest.mark.parametrize("rate", [0, -500, float("nan"), float("inf"), 5e9, "fast", True, [500]])
def test_impossible_rates(rate: Any) -> None:
    with pytest.raises(SamplingRateError):
        EXTRACTOR(SIGNAL, sampling_rate=rate, lead_names=STANDARD_LEADS)


@pytest.mark.parametrize("unit", ["furlong", "", None, 1000])
def test_unknown_units(unit: Any) -> None:
    with pytest.raises(UnknownUnit):
        EXTRACTOR(SIGNAL, unit=unit, **OPTIONS)


def test_contradictions_between_record_and_call() -> None:
    record = EcgRecord(SIGNAL[0], 100.0, STANDARD_LEADS)
    EXTRACTOR(record, sampling_rate=100, lead_names=[name.lower() for name in STANDARD_LEADS])
    with pytest.raises(SamplingRateError, match="100 Hz, the call says sampling_rate=500"):
        EXTRACTOR(record, sampling_rate=500)
    with pytest.raises(LeadError):
        EXTRACTOR(record, lead_names=STANDARD_LEADS[::-1])
    with pytest.raises(UnknownUnit, match="in mV"):
        EXTRACTOR(record, unit="uV")
    with pytest.raises(SamplingRateError):
        EXTRACTOR({"signal": SIGNAL[0], "sampling_rate": 250, "lead_names": STANDARD_LEADS}, **OPTIONS)


def test_mapping_may_leave_metadata_to_the_call_and_state_its_unit() -> None:
    expected = EXTRACTOR(SIGNAL[0], **OPTIONS)["input_values"]
    out = EXTRACTOR({"array": SIGNAL[0] * 1000, "unit": "µV"}, **OPTIONS)["input_values"]
    np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize(
    "key",
    ["units", "fs", "sample_rate", "sampling_rte", "samplingRate", "leads", "leadnames", "sig_name", "array"],
)
def test_what_a_mapping_says_under_another_name_is_refused(key: str) -> None:
    mapping = {"signal": SIGNAL[0], key: "x"}
    with pytest.raises(ConfigurationError, match=key):
        EXTRACTOR(mapping)
    others = {"record_id": "r", "rate": None, "labels": ["x"], "split": "train"}
    EXTRACTOR({"signal": SIGNAL[0], "sampling_rate": 100, "lead_names": STANDARD_LEADS, **others})


def test_units_that_contradict_each_other() -> None:
    mapping = {"signal": SIGNAL[0], "sampling_rate": 100, "lead_names": STANDARD_LEADS, "unit": "V"}
    with pytest.raises(UnknownUnit, match="says V, the call says unit='uV'"):
        EXTRACTOR(mapping, unit="uV")
    EXTRACTOR({**mapping, "unit": "microvolt"}, unit="uV")


def test_single_lead_as_a_plain_series() -> None:
    out = EXTRACTOR(SIGNAL[0, 1], sampling_rate=100, lead_names=["II"])
    assert out["lead_mask"][0].nonzero()[0].tolist() == [1]
    np.testing.assert_array_equal(
        out["input_values"][0, 1], EXTRACTOR(SIGNAL[0], **OPTIONS)["input_values"][0, 1]
    )


def test_masked_arrays_do_not_reveal_what_is_masked() -> None:
    hidden = SIGNAL[0].copy()
    hidden[4, 30:40] = 1e6
    masked = np.ma.masked_greater(hidden, 1e5)
    out = EXTRACTOR(masked, return_report=True, **OPTIONS)
    assert out["report"].counts == {"nan_interpolated": 1}
    assert np.abs(out["input_values"]).max() < 50


def test_errors_in_a_list_are_typed_too() -> None:
    with pytest.raises(EcgError):
        EXTRACTOR([SIGNAL[0], SIGNAL[0][:5]], **OPTIONS)


@pytest.mark.parametrize("as_list", [False, True])
def test_inputs_are_never_changed(as_list: bool) -> None:
    signal = SIGNAL[0].copy()
    signal[3, 5] = np.nan
    before = signal.copy()
    extractor = EcgFeatureExtractor(
        sampling_rate=100, normalization="minmax_record", highpass_hz=0.5, clip=1.0
    )
    extractor([signal, signal] if as_list else signal, **OPTIONS)
    extractor(EcgRecord(signal, 100, STANDARD_LEADS))
    np.testing.assert_array_equal(signal, before)


@pytest.mark.parametrize("kind", ["numpy", "torch", "record"])
def test_output_shares_no_memory_with_the_input(kind: str) -> None:
    signal = SIGNAL[0].copy()
    ecg: Any = EcgRecord(signal, 100, STANDARD_LEADS) if kind == "record" else signal[None]
    if kind == "torch":
        ecg = torch.from_numpy(ecg)
    out = EcgFeatureExtractor(sampling_rate=100)(ecg, **OPTIONS)["input_values"]
    out[:] = 7.0
    np.testing.assert_array_equal(signal, SIGNAL[0])

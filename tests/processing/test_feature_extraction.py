"""What EcgFeatureExtractor promises, on synthetic and real recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_hf.errors import ConfigurationError, EcgError, NonFiniteSignal, SamplingRateError, SignalError
from ecg_hf.processing import NORMALIZATIONS, EcgFeatureExtractor
from ecg_hf.signal import STANDARD_LEADS, EcgRecord, read_record
from ecg_hf.signal.synthetic import simulate

RATE = 100.0
MIMIC_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture(scope="module")
def ecgs() -> np.ndarray:
    """Four synthetic 10 s recordings at 100 Hz, (4, 12, 1000)."""
    return simulate(4, seed=3, sampling_rate=RATE).signal


def make_extractor(**options: Any) -> EcgFeatureExtractor:
    return EcgFeatureExtractor(**{"sampling_rate": RATE, "normalization": "zscore_lead", **options})


def values(extractor: EcgFeatureExtractor, ecg: Any, **options: Any) -> np.ndarray:
    return extractor(ecg, **{"sampling_rate": RATE, "lead_names": STANDARD_LEADS, **options})["input_values"]


# ---------------------------------------------------------------- shapes and types


def test_output_of_one_record_has_a_batch_axis(ecgs: np.ndarray) -> None:
    record = EcgRecord(ecgs[0], RATE, STANDARD_LEADS)
    out = make_extractor()(record)
    assert out["input_values"].shape == (1, 12, 1000)
    assert out["input_values"].dtype == np.float32
    assert out["lead_mask"].tolist() == [[1] * 12]
    assert set(out) == {"input_values", "lead_mask"}


def test_tensors_on_request(ecgs: np.ndarray) -> None:
    out = make_extractor()(ecgs, sampling_rate=RATE, lead_names=STANDARD_LEADS, return_tensors="pt")
    assert out["input_values"].dtype == torch.float32
    assert out["lead_mask"].dtype == torch.int64
    assert out.to(torch.bfloat16)["input_values"].dtype == torch.bfloat16


def test_torch_is_not_imported_by_numpy_use() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from ecg_hf.processing import EcgFeatureExtractor as E;"
        "E(highpass_hz=0.5)(np.ones((12, 1)) * np.arange(900), sampling_rate=250, lead_names=E().lead_names);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_accepted_type_gives_the_same_numbers(ecgs: np.ndarray) -> None:
    extractor = make_extractor()
    signal = ecgs[0]
    expected = values(extractor, signal)
    mapping = {"sampling_rate": RATE, "lead_names": STANDARD_LEADS}
    for same in (
        EcgRecord(signal, RATE, STANDARD_LEADS),
        {"signal": signal, **mapping},
        {"array": signal.tolist(), **mapping},
        [{"signal": signal, **mapping}],
    ):
        np.testing.assert_array_equal(extractor(same)["input_values"], expected)
    read_only = signal.copy()
    read_only.setflags(write=False)
    strided = np.repeat(signal, 2, axis=1)[:, ::2]
    for array in (signal.astype(np.float64), signal.astype(">f4"), read_only, strided, signal.T, [signal]):
        np.testing.assert_array_equal(values(extractor, array), expected)


# ---------------------------------------------------------------- batches


def test_batch_equals_singles(ecgs: np.ndarray) -> None:
    for normalization in NORMALIZATIONS:
        extractor = make_extractor(normalization=normalization, highpass_hz=0.5, lowpass_hz=40.0)
        batch = values(extractor, ecgs)
        singles = np.concatenate([values(extractor, ecg) for ecg in ecgs])
        np.testing.assert_allclose(batch, singles, atol=1e-6)
        np.testing.assert_array_equal(batch, values(extractor, list(ecgs)))


def test_mixed_batch_keeps_its_order(ecgs: np.ndarray) -> None:
    extractor = make_extractor()
    high = simulate(1, seed=3, sampling_rate=500.0).signal[0]
    items = [
        EcgRecord(ecgs[0], RATE, STANDARD_LEADS),
        EcgRecord(high, 500.0, STANDARD_LEADS),
        EcgRecord(ecgs[1][:8, :600], RATE, STANDARD_LEADS[:8]),
        EcgRecord(ecgs[2], RATE, STANDARD_LEADS),
    ]
    out = extractor(items)
    for position, item in enumerate(items):
        alone = extractor(item)
        np.testing.assert_allclose(out["input_values"][position], alone["input_values"][0], atol=1e-6)
        np.testing.assert_array_equal(out["lead_mask"][position], alone["lead_mask"][0])
    assert out["sample_mask"].sum(axis=1).tolist() == [1000, 1000, 600, 1000]


def test_one_vectorised_call_for_a_batch(ecgs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import ecg_hf.processing.feature_extraction as module

    calls = []
    original = module.normalize
    monkeypatch.setattr(module, "normalize", lambda *a: calls.append(a[0].shape) or original(*a))
    values(make_extractor(), np.concatenate([ecgs] * 8))
    values(make_extractor(), list(ecgs))
    assert calls == [(32, 12, 1000), (4, 12, 1000)]


# ---------------------------------------------------------------- leads


def test_input_lead_order_does_not_matter(ecgs: np.ndarray) -> None:
    extractor = make_extractor(normalization="minmax_record")
    expected = values(extractor, ecgs)
    order = np.random.default_rng(0).permutation(12)
    shuffled = values(extractor, ecgs[:, order], lead_names=[STANDARD_LEADS[i] for i in order])
    np.testing.assert_array_equal(shuffled, expected)


def test_leads_go_by_name_whatever_the_spelling(ecgs: np.ndarray) -> None:
    # MIMIC-IV-ECG stores aVF before aVL, PTB-XL writes capitals.
    to_mimic = make_extractor(lead_names=MIMIC_ORDER)
    shouted = [name.upper() for name in STANDARD_LEADS]
    out = values(to_mimic, ecgs, lead_names=shouted)
    np.testing.assert_array_equal(out[:, 4], values(make_extractor(), ecgs)[:, 5])
    np.testing.assert_array_equal(out[:, 5], values(make_extractor(), ecgs)[:, 4])


def test_limb_leads_are_derived_exactly() -> None:
    one, two = np.random.default_rng(1).normal(size=(2, 1000)).astype(np.float32)
    record = EcgRecord(np.stack([two, one]), RATE, ("II", "I"))
    out = make_extractor(normalization="none")(record, return_report=True)
    signal = out["input_values"][0]
    for index, expected in enumerate([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]):
        np.testing.assert_allclose(signal[index], expected, atol=1e-6)
    assert out["lead_mask"][0].tolist() == [1] * 6 + [0] * 6
    assert {note.lead for note in out["report"].notes[0] if note.code == "lead_derived"} == {
        "III", "aVR", "aVL", "aVF"
    }  # fmt: skip


def test_missing_leads_are_masked_zeros_and_leave_the_others_alone(ecgs: np.ndarray) -> None:
    for normalization in NORMALIZATIONS:
        extractor = make_extractor(normalization=normalization)
        without = extractor(EcgRecord(ecgs[0][:11], RATE, STANDARD_LEADS[:11]))
        assert without["lead_mask"][0].tolist() == [1] * 11 + [0]
        assert not without["input_values"][0, 11].any()
        # The statistics must be those of the eleven leads, as if a twelfth had never been thought of.
        eleven = make_extractor(normalization=normalization, lead_names=STANDARD_LEADS[:11])
        expected = eleven(EcgRecord(ecgs[0][:11], RATE, STANDARD_LEADS[:11]))["input_values"][0]
        np.testing.assert_allclose(without["input_values"][0, :11], expected, atol=1e-6)


def test_extra_leads_are_dropped_and_reported(ecgs: np.ndarray) -> None:
    frank = np.concatenate([ecgs[0], ecgs[1][:3]])
    record = EcgRecord(frank, RATE, (*STANDARD_LEADS, "vx", "vy", "vz"))
    out = make_extractor()(record, return_report=True)
    np.testing.assert_array_equal(out["input_values"], values(make_extractor(), ecgs[0]))
    assert out["report"].counts == {"leads_dropped": 1}


def test_lead_that_is_nan_throughout_is_derived_or_missing(ecgs: np.ndarray) -> None:
    batch = ecgs[:3].copy()
    batch[1, 2] = np.nan  # III: derivable
    batch[2, 8] = np.nan  # V3: not
    out = make_extractor(nan_policy="raise")(
        batch, sampling_rate=RATE, lead_names=STANDARD_LEADS, return_report=True
    )
    assert np.isfinite(out["input_values"]).all()
    assert out["lead_mask"].sum(axis=1).tolist() == [12, 12, 11]
    np.testing.assert_allclose(out["input_values"][1, 2], values(make_extractor(), ecgs)[1, 2], atol=2e-2)
    assert out["report"].counts == {"lead_derived": 1, "lead_missing": 1}
    with pytest.raises(SignalError, match="no valid sample"):
        values(make_extractor(), np.full_like(batch, np.nan))


# ---------------------------------------------------------------- gaps, flat leads, absurd values


def test_nan_policies(ecgs: np.ndarray) -> None:
    broken = ecgs[0].copy()
    broken[6, 100:110] = np.nan
    broken[6, -5:] = np.inf
    line = np.linspace(broken[6, 99], broken[6, 110], 12)[1:-1]
    out = make_extractor(normalization="none")(
        broken, sampling_rate=RATE, lead_names=STANDARD_LEADS, return_report=True
    )
    np.testing.assert_allclose(out["input_values"][0, 6, 100:110], line, atol=1e-6)
    np.testing.assert_array_equal(out["input_values"][0, 6, -5:], broken[6, -6])
    (note,) = out["report"].notes[0]
    assert (note.code, note.lead, note.detail) == ("nan_interpolated", "V1", "15 of 1000 samples")
    zeroed = values(make_extractor(normalization="none", nan_policy="zero"), broken)
    assert not zeroed[0, 6, 100:110].any()
    with pytest.raises(NonFiniteSignal, match=r"15 invalid samples \(lead V1\)"):
        values(make_extractor(nan_policy="raise"), broken)


def test_nan_in_a_lead_nobody_asked_for_is_not_refused(ecgs: np.ndarray) -> None:
    signal = np.concatenate([ecgs[0], np.full((1, 1000), np.nan, np.float32)])
    signal[12, 0] = 1.0
    record = EcgRecord(signal, RATE, (*STANDARD_LEADS, "vx"))
    assert make_extractor(nan_policy="raise")(record)["input_values"].shape == (1, 12, 1000)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("level", [0.0, 1.0, 300.1])
def test_constant_leads_give_no_division_by_zero(
    ecgs: np.ndarray, normalization: str, level: float, recwarn: pytest.WarningsRecorder
) -> None:
    extractor = make_extractor(normalization=normalization, highpass_hz=0.5)
    one_flat, all_but_one = ecgs[0].copy(), np.full_like(ecgs[0], level)
    one_flat[3] = level
    all_but_one[1] = ecgs[0, 1]
    out = values(extractor, np.stack([one_flat, all_but_one]))
    assert np.isfinite(out).all()
    if normalization == "zscore_lead":
        assert not out[0, 3].any()
        assert not out[1, [0, *range(2, 12)]].any()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_flat_leads_can_be_masked(ecgs: np.ndarray) -> None:
    flat = ecgs[0].copy()
    flat[9] = 0.0
    for mask_flat_leads, expected in ((False, 1), (True, 0)):
        extractor = make_extractor(mask_flat_leads=mask_flat_leads)
        out = extractor(flat, sampling_rate=RATE, lead_names=STANDARD_LEADS, return_report=True)
        assert out["lead_mask"][0, 9] == expected
        assert out["report"].counts == {"flat_lead": 1}


def test_constant_leads_stay_constant_through_resampling(ecgs: np.ndarray) -> None:
    flat = ecgs[0].copy()
    flat[6] = 0.25
    extractor = EcgFeatureExtractor(sampling_rate=360, normalization="zscore_lead", highpass_hz=0.5)
    out = values(extractor, flat)
    assert not out[0, 6].any()
    kept = values(EcgFeatureExtractor(sampling_rate=360), flat)
    np.testing.assert_array_equal(kept[0, 6], np.float32(0.25))


@pytest.mark.parametrize("value", [1e38, -3e38, 1e300, 1e-40])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_absurd_values_end_finite_also_in_half_precision(value: float, normalization: str) -> None:
    signal = np.tile(np.sin(np.arange(1000) / 9.0), (12, 1))
    signal[0, 500:510] = value
    out = values(make_extractor(normalization=normalization), signal)
    assert np.isfinite(out.astype(np.float16)).all()


def test_raw_values_are_refused_where_nothing_rescales_them(ecgs: np.ndarray) -> None:
    with pytest.raises(SignalError, match="be an ECG"):
        values(make_extractor(normalization="none"), ecgs * 1e6)


def test_implausible_amplitude_is_announced_and_reported(
    ecgs: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.utils import logging

    logging.warning_once.cache_clear()  # another test may have used the one warning up
    out = make_extractor()(
        ecgs[:1] * 987.0, sampling_rate=RATE, lead_names=STANDARD_LEADS, return_report=True
    )
    assert out["report"].counts == {"amplitude_implausible": 1}
    assert "raw ADC values" in caplog.text


def test_units(ecgs: np.ndarray) -> None:
    extractor = make_extractor(normalization="none")
    np.testing.assert_allclose(
        values(extractor, ecgs * 1000, unit="µV"), values(extractor, ecgs), rtol=1e-5, atol=1e-6
    )
    steps = np.rint(ecgs * 1000).astype(np.int16)
    np.testing.assert_allclose(values(extractor, steps, unit="uV"), ecgs, atol=6e-4)


# ---------------------------------------------------------------- rate, filter, window


def test_resampling_on_mismatch_or_refusal() -> None:
    time_500, time_100 = np.arange(5000) / 500, np.arange(1000) / 100
    wave = lambda t: np.tile(np.sin(2 * np.pi * 5 * t), (12, 1))  # noqa: E731
    for method in ("polyphase", "fft"):
        extractor = make_extractor(normalization="none", resampling=method)
        out = values(extractor, wave(time_500), sampling_rate=500)
        assert np.abs(out[0, :, 50:-50] - wave(time_100)[:, 50:-50]).max() < 5e-3
    with pytest.raises(SamplingRateError, match="expected 100 Hz, got 500 Hz"):
        values(make_extractor(resample_on_mismatch=False), wave(time_500), sampling_rate=500)


def test_filters_do_what_they_say() -> None:
    time = np.arange(5000) / 500.0
    drift, signal, hum = (np.sin(2 * np.pi * f * time) for f in (0.1, 8.0, 50.0))
    mixed = np.tile(2 * drift + signal + hum, (12, 1)).astype(np.float32)
    extractor = EcgFeatureExtractor(highpass_hz=0.5, notch_hz=50.0)
    out = extractor(mixed, sampling_rate=500, lead_names=STANDARD_LEADS)["input_values"]
    assert np.abs(out[0, 0, 1500:-1500] - signal[1500:-1500]).max() < 0.06
    lowpassed = EcgFeatureExtractor(lowpass_hz=20.0)(hum[None], 500, ["II"])["input_values"]
    assert np.abs(lowpassed[0, 1, 500:-500]).max() < 0.01


def test_windows(ecgs: np.ndarray) -> None:
    long = np.concatenate([ecgs[0], ecgs[1]], axis=-1)
    np.testing.assert_array_equal(values(make_extractor(normalization="none"), long)[0], ecgs[0])
    centre = values(make_extractor(normalization="none", crop="center"), long)[0]
    np.testing.assert_array_equal(centre, long[:, 500:1500])
    short = ecgs[0, :, :999]  # 9.99 s
    for side, real in (("right", slice(0, 999)), ("left", slice(1, 1000))):
        extractor = make_extractor(padding_side=side, padding_value=-3.0, normalization="none")
        out = extractor(short, sampling_rate=RATE, lead_names=STANDARD_LEADS)
        np.testing.assert_array_equal(out["input_values"][0][:, real], short)
        assert (out["input_values"][0].sum(axis=0) == -36.0).sum() == 1
        assert out["sample_mask"][0, real].all()
        assert out["sample_mask"].sum() == 999


def test_sample_mask_comes_with_padding_or_on_request(ecgs: np.ndarray) -> None:
    extractor = make_extractor()
    options = {"sampling_rate": RATE, "lead_names": STANDARD_LEADS}
    assert "sample_mask" not in extractor(ecgs, **options)
    assert extractor(ecgs, return_sample_mask=True, **options)["sample_mask"].all()
    assert "sample_mask" not in extractor(ecgs[..., :300], return_sample_mask=False, **options)
    assert "sample_mask" in make_extractor(return_sample_mask=True)(ecgs, **options)


def test_padding_level_does_not_depend_on_the_data_unless_asked_for(ecgs: np.ndarray) -> None:
    short = ecgs[..., :500]
    out = values(make_extractor(normalization="minmax_record"), short)
    assert not out[..., 500:].any()
    merl = values(make_extractor(normalization="minmax_record", pad_before_normalization=True), short)
    levels = merl[:, :, 500:]
    np.testing.assert_allclose(levels, np.broadcast_to(levels[:, :1, :1], levels.shape))
    assert len(np.unique(levels.round(6))) == len(short)


def test_without_duration_lengths_are_kept_and_padded_to_the_longest(ecgs: np.ndarray) -> None:
    extractor = make_extractor(duration_s=None)
    assert extractor.n_samples is None
    out = extractor([EcgRecord(ecgs[0][:, :n], RATE, STANDARD_LEADS) for n in (300, 777)])
    assert out["input_values"].shape == (2, 12, 777)
    assert out["sample_mask"].sum(axis=1).tolist() == [300, 777]


def test_clip(ecgs: np.ndarray) -> None:
    assert np.abs(values(make_extractor(clip=1.5), ecgs)).max() == pytest.approx(1.5)


def test_single_sample(ecgs: np.ndarray) -> None:
    for rate in (RATE, 500.0, 50.0):
        out = values(make_extractor(), ecgs[..., :1], sampling_rate=rate)
        assert np.isfinite(out).all()


# ---------------------------------------------------------------- configuration


def test_save_and_load_round_trip(tmp_path: Path, ecgs: np.ndarray) -> None:
    extractor = make_extractor(
        lead_names=["V6", "avl", "II"], normalization="zscore_record", highpass_hz=0.5, crop="center",
        clip=4.0, nan_policy="zero", duration_s=7.5, padding_side="left", notch_hz=49.0,
    )  # fmt: skip
    extractor.save_pretrained(tmp_path)
    loaded = EcgFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    assert loaded.lead_names == ("V6", "aVL", "II")
    np.testing.assert_array_equal(values(loaded, ecgs), values(extractor, ecgs))
    stored = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert stored["feature_extractor_type"] == "EcgFeatureExtractor"
    changed = EcgFeatureExtractor.from_pretrained(tmp_path, lead_names=["I"])
    assert (changed.lead_names, changed.feature_size) == (("I",), 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"normalization": "zscore"},
        {"resampling": "linear"},
        {"crop": "end"},
        {"nan_policy": "ignore"},
        {"padding_side": "both"},
        {"duration_s": 0.0},
        {"duration_s": 1e6},
        {"duration_s": float("inf")},
        {"duration_s": "10"},
        {"duration_s": True},
        {"duration_s": 10**400},
        {"max_repaired_share": 1.5},
        {"derive_leads": 1},
        {"clip": "x"},
        {"padding_value": None},
        {"filter_order": 2.5},
        {"highpass_hz": 1e-12},
        {"highpass_hz": 20.0, "lowpass_hz": 10.0},
        {"return_attention_mask": "yes"},
        {"highpass_hz": 60.0},
        {"notch_hz": -1.0},
        {"filter_order": 0},
        {"clip": 0.0},
        {"padding_value": float("nan")},
    ],
)
def test_impossible_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        make_extractor(**wrong)
    with pytest.raises(SamplingRateError):
        EcgFeatureExtractor(sampling_rate=0)


def test_report_is_of_the_call_and_not_kept(ecgs: np.ndarray) -> None:
    extractor = make_extractor()
    before = extractor.to_dict()
    short = extractor(ecgs[..., :100], sampling_rate=RATE, lead_names=STANDARD_LEADS, return_report=True)
    assert short["report"].counts == {"padded": 4}
    assert extractor.to_dict() == before


# ---------------------------------------------------------------- nothing silent


def announced(caplog: pytest.LogCaptureFixture, call: Any) -> list[str]:
    """Warnings of a call that comes twice: each is given once."""
    from transformers.utils import logging

    logging.warning_once.cache_clear()  # another test may have used the one warning up
    caplog.clear()
    call()
    first = [record.getMessage() for record in caplog.records]
    call()
    assert len(caplog.records) == len(first)
    return first


def test_repairs_are_announced_counted_and_bounded(ecgs: np.ndarray, caplog: Any) -> None:
    broken = ecgs[:3].copy()
    broken[0, 6, 100:200] = np.nan
    broken[1, 7, :600] = np.inf  # more invented than measured
    extractor = make_extractor(normalization="none")
    call = lambda: extractor(broken, RATE, STANDARD_LEADS, return_report=True)  # noqa: E731
    beyond, repaired = announced(caplog, call)
    assert "more than 50% are invalid" in beyond
    assert "replaced by straight lines" in repaired
    out = call()
    assert out["report"].counts == {"lead_beyond_repair": 1, "lead_missing": 1, "nan_interpolated": 1}
    assert out["lead_mask"].sum(axis=1).tolist() == [12, 11, 12]
    assert not out["input_values"][1, 7].any()
    assert not announced(caplog, lambda: values(extractor, ecgs))
    patient = make_extractor(normalization="none", max_repaired_share=0.7)
    assert patient(broken, RATE, STANDARD_LEADS)["lead_mask"].all()
    broken[2, :, 300:] = np.nan
    with pytest.raises(
        SignalError, match="record 2 of the batch has more than 50% invalid samples in every lead"
    ):
        values(extractor, broken)


@pytest.mark.parametrize("policy", ["interpolate", "zero", "raise"])
def test_gaps_beside_the_window_are_none_of_its_business(ecgs: np.ndarray, policy: str) -> None:
    long = np.concatenate([ecgs[0], ecgs[1]], axis=-1)
    expected = values(make_extractor(), long)
    long[3, 1050:] = np.nan
    long[4, 1000:1900] = np.nan
    extractor = make_extractor(nan_policy=policy)
    out = extractor(long, RATE, STANDARD_LEADS, return_report=True)
    np.testing.assert_array_equal(out["input_values"], expected)
    assert set(out["report"].counts) == {"cropped"}
    # A lead that is valid beside the window only is missing within it, not continued into it.
    long = np.concatenate([ecgs[0], ecgs[1]], axis=-1)
    long[8, :1000] = np.nan
    assert extractor(long, RATE, STANDARD_LEADS)["lead_mask"][0].tolist() == [1] * 8 + [0] + [1] * 3


def test_what_is_cut_off_is_announced(ecgs: np.ndarray, caplog: Any) -> None:
    long = np.tile(ecgs[:2], (1, 1, 3))
    for crop, where in (("start", "first 10 s"), ("center", "middle 10 s")):
        extractor = make_extractor(crop=crop)
        (message,) = announced(caplog, lambda extractor=extractor: values(extractor, long))
        assert where in message
        report = extractor(long, RATE, STANDARD_LEADS, return_report=True)["report"]
        assert [str(note) for note in report.notes[1]] == [f"cropped: the {where} of 30 s are used"]
    assert not announced(caplog, lambda: values(make_extractor(), ecgs))
    assert not announced(caplog, lambda: values(make_extractor(duration_s=None), long))


@pytest.mark.parametrize("crop", ["start", "center"])
@pytest.mark.parametrize("resampling", ["polyphase", "fft"])
@pytest.mark.parametrize("filters", [{}, {"highpass_hz": 0.67, "lowpass_hz": 40.0}])
def test_a_long_record_is_prepared_as_if_it_were_whole(
    crop: str, resampling: str, filters: dict[str, float]
) -> None:
    """Cut first, the window is what it would be if all were resampled and filtered."""
    long = np.concatenate([simulate(1, seed=k, sampling_rate=250.0).signal[0] for k in range(7)], axis=-1)
    options: Any = {"sampling_rate": 204.8, "resampling": resampling, "normalization": "none", **filters}
    whole = EcgFeatureExtractor(duration_s=None, **options)(long, 250, STANDARD_LEADS)["input_values"]
    out = EcgFeatureExtractor(crop=crop, **options)(long, 250, STANDARD_LEADS)["input_values"]
    start = 0 if crop == "start" else (whole.shape[-1] - 2048) // 2
    # The Fourier method takes a recording for periodic: its beginning follows its end, which then is another one.
    tolerance, edge = (2e-3, 30) if resampling == "polyphase" else (0.02, 250)
    np.testing.assert_allclose(out[..., edge:-30], whole[..., start + edge : start + 2018], atol=tolerance)


def test_ten_seconds_of_a_day_cost_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is never touched: here it could not even be allocated as float32."""
    import ecg_hf.processing.backend as backend

    sizes: list[int] = []
    original = backend.resample
    monkeypatch.setattr(
        backend, "resample", lambda s, *a, **k: sizes.append(s.shape[-1]) or original(s, *a, **k)
    )
    day = np.broadcast_to(np.sin(np.arange(2000) / 7.0), (43_200, 2000)).reshape(-1)[: 250 * 86_400]
    extractor = EcgFeatureExtractor(sampling_rate=100, crop="center")
    assert extractor(day[None], 250, ["II"])["input_values"].shape == (1, 12, 1000)
    assert max(sizes) < 250 * 16


def test_modified_leads_stand_in_and_others_are_named(ecgs: np.ndarray, caplog: Any) -> None:
    record = EcgRecord(ecgs[0, [1, 10, 6]], RATE, ("MLII", "CM5", "vx"))
    extractor = make_extractor()
    messages = announced(caplog, lambda: extractor(record))
    assert ["MLII is used as II" in messages[0], "CM5 is used as V5" in messages[1]] == [True, True]
    assert "not used: vx" in messages[2]
    out = extractor(record, return_report=True)
    assert out["lead_mask"][0].tolist() == [0, 1, *[0] * 8, 1, 0]
    details = [note.detail for note in out["report"].notes[0] if note.code == "lead_substituted"]
    assert details == ["MLII stands for II", "CM5 stands for V5"]
    both = EcgRecord(ecgs[0, :2], RATE, ("MLII", "II"))
    expected = extractor(EcgRecord(ecgs[0, 1:2], RATE, ("II",)))["input_values"]
    np.testing.assert_array_equal(extractor(both)["input_values"], expected)
    # What follows from leads that are used is not lost.
    assert not announced(
        caplog, lambda: values(make_extractor(lead_names=["I", "II", *STANDARD_LEADS[6:]]), ecgs)
    )


def test_misspelt_options_are_refused(tmp_path: Path) -> None:
    for wrong, right in (("sample_rate", "sampling_rate"), ("normalisation", "normalization")):
        with pytest.raises(ConfigurationError, match=f"no option '{wrong}'; did you mean {right}"):
            EcgFeatureExtractor(**{wrong: 1})
        make_extractor().save_pretrained(tmp_path)
        with pytest.raises(ConfigurationError, match=right):
            EcgFeatureExtractor.from_pretrained(tmp_path, **{wrong: 1})
    with pytest.raises(ConfigurationError, match="no option 'colour'; it has clip"):
        EcgFeatureExtractor(colour=1)
    extractor = make_extractor()
    extractor.normalization = "bogus"  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="normalization must be one of"):
        values(extractor, np.ones((12, 1000)))


def test_options_newer_than_the_file_can_be_given_when_loading(tmp_path: Path) -> None:
    make_extractor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    stored = json.loads(path.read_text())
    del stored["max_repaired_share"]
    path.write_text(json.dumps(stored))
    assert EcgFeatureExtractor.from_pretrained(tmp_path).max_repaired_share == 0.5
    assert EcgFeatureExtractor.from_pretrained(tmp_path, max_repaired_share=0.1).max_repaired_share == 0.1


@pytest.mark.parametrize(
    "change",
    [
        {"duration_s": 1e7}, {"duration_s": 1e300}, {"duration_s": -1}, {"duration_s": []}, {"n_samples": 5},
        {"extra_features": 1}, {"to_dict": "x"}, {"__class__": "x"}, {"lead_names": "I"}, {"lead_names": [1]},
        {"lead_names": []}, {"lead_names": [f"lead{k}" for k in range(10_000)]}, {"sampling_rate": "x"},
        {"sampling_rate": 1e-300}, {"filter_order": 10**9}, {"clip": float("nan")}, {"crop": ["start"]},
        {"nan_policy": {}}, {"mask_flat_leads": "yes"}, {"auto_map": 3}, {"padding_value": 1e39},
        {"highpass_hz": "0.5"}, {"option_rules": {}}, {"check_configuration": None},
    ],
)  # fmt: skip
def test_a_strangers_file_is_looked_at_when_it_is_loaded(tmp_path: Path, change: dict[str, Any]) -> None:
    make_extractor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EcgError):
        EcgFeatureExtractor.from_pretrained(tmp_path)


# ---------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_real_array_gives_a_finite_window_and_is_left_alone(data: st.DataObject) -> None:
    n_leads = data.draw(st.integers(1, 12), label="leads")
    n_samples = data.draw(st.integers(1, 400).filter(lambda n: n != n_leads), label="samples")
    names = data.draw(st.permutations(STANDARD_LEADS), label="names")[:n_leads]
    rate = data.draw(st.sampled_from([50.0, 100.0, 125.0, 360.0]), label="rate")
    dtype = data.draw(st.sampled_from(["f4", "f8", ">f4", "i2", ">i2", "u1"]), label="dtype")
    seed = data.draw(st.integers(0, 2**31), label="seed")
    rng = np.random.default_rng(seed)
    scale = data.draw(st.sampled_from([1e-30, 1.0, 50.0]))
    signal = (rng.normal(size=(n_leads, n_samples)) * scale).astype(dtype)
    if signal.dtype.kind == "f":
        holes = rng.random(signal.shape) < data.draw(st.sampled_from([0.0, 0.1, 0.6]), label="holes")
        holes[:, 0] = False
        signal[holes] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]), label="hole")
    extractor = EcgFeatureExtractor(
        sampling_rate=100,
        duration_s=2.0,
        normalization=data.draw(st.sampled_from(NORMALIZATIONS), label="normalization"),
        pad_before_normalization=data.draw(st.booleans()),
        mask_flat_leads=data.draw(st.booleans()),
        nan_policy=data.draw(st.sampled_from(["interpolate", "zero"])),
        max_repaired_share=1.0,
    )
    before = signal.copy()
    used = min(n_samples, round(2.0 * rate))
    if used > 1 and (scale < 1e-6 or not np.ptp(signal[:, :used].astype(float), axis=1).any()):
        with pytest.raises(SignalError, match="flat in every lead"):
            extractor(signal, sampling_rate=rate, lead_names=names)
        return
    out = extractor(signal, sampling_rate=rate, lead_names=names, return_sample_mask=True)
    np.testing.assert_array_equal(signal, before)
    assert out["input_values"].shape == (1, 12, 200)
    assert out["input_values"].dtype == np.float32
    assert np.isfinite(out["input_values"]).all()
    assert out["lead_mask"].shape == (1, 12)
    assert not out["input_values"][0][out["lead_mask"][0] == 0].any()
    assert out["sample_mask"].sum() == min(200, max(1, round(n_samples * 100 / rate)))


# ---------------------------------------------------------------- published numbers and real recordings


@pytest.mark.fixtures
def test_min_max_equals_the_official_merl_code(shared_fixtures: Path) -> None:
    from safetensors.numpy import load_file

    fixture = load_file(shared_fixtures / "merl" / "signal_scaling.safetensors")
    signal = fixture["input.signal_mV_f64"]
    extractor = EcgFeatureExtractor(duration_s=0.8, normalization="minmax_record")
    out = extractor(signal, sampling_rate=500, lead_names=STANDARD_LEADS)["input_values"][0]
    np.testing.assert_allclose(out, fixture["out.downstream_minmax_f32"], atol=2e-7)
    # MERL swaps rows 4 and 5 by position; here the order asked for does it.
    mimic = EcgFeatureExtractor(duration_s=0.8, normalization="minmax_record", lead_names=MIMIC_ORDER)
    out = mimic(signal, sampling_rate=500, lead_names=STANDARD_LEADS)["input_values"][0]
    np.testing.assert_allclose(out, fixture["out.downstream_minmax_avl_avf_swapped_f32"], atol=2e-7)
    # Pretraining stored truncated thousandths.
    assert (
        np.abs(fixture["out.pretrain_loader_div1000_f64"] - fixture["out.downstream_minmax_f32"]).max()
        <= 1e-3
    )


@pytest.mark.fixtures
def test_z_score_equals_the_official_st_mem_code(shared_fixtures: Path) -> None:
    from safetensors.numpy import load_file

    fixture = load_file(shared_fixtures / "st_mem" / "standardize.safetensors")
    extractor = EcgFeatureExtractor(sampling_rate=250, normalization="zscore_record", lead_names=["I", "II"])
    out = extractor(fixture["input"], sampling_rate=250, lead_names=["I", "II"])["input_values"][0]
    np.testing.assert_allclose(out, fixture["out.standardize"], atol=1e-5)


@pytest.mark.realdata
@pytest.mark.parametrize("normalization", ["zscore_lead", "minmax_record"])
def test_ptbxl_at_100_and_500_hz_agree(recordings: Path, normalization: str) -> None:
    root = recordings / "ptbxl"
    files = sorted((root / "records500").rglob("*_hr.hea"))
    pairs = [
        (root / "records100" / high.parent.name / high.name.replace("_hr", "_lr"), high) for high in files
    ]
    assert len(pairs) == 5
    extractor = EcgFeatureExtractor(sampling_rate=100, normalization=normalization)
    low = extractor([read_record(low) for low, _ in pairs])
    high = extractor([read_record(high) for _, high in pairs])
    assert low["lead_mask"].all()
    for a, b in zip(low["input_values"], high["input_values"], strict=True):
        assert np.corrcoef(a[:, 20:-20].ravel(), b[:, 20:-20].ravel())[0, 1] > 0.99


def test_the_library_s_name_of_the_mask_is_offered() -> None:
    """``attention_mask`` is what the library's audio extractors call the mask of padding."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((12, 300))
    options = {"sampling_rate": 100, "lead_names": STANDARD_LEADS}
    extractor = EcgFeatureExtractor(sampling_rate=100, duration_s=5.0, return_attention_mask=True)
    features = extractor(signal, **options)
    np.testing.assert_array_equal(features["attention_mask"], features["sample_mask"])
    assert features["attention_mask"].sum() == 300
    assert "attention_mask" not in extractor(signal, return_attention_mask=False, **options)
    again = EcgFeatureExtractor.from_dict(extractor.to_dict())
    assert again.return_attention_mask
    plain = EcgFeatureExtractor(sampling_rate=100, duration_s=5.0)
    assert "attention_mask" not in plain(signal, **options)
    assert plain(signal, return_attention_mask=True, **options)["attention_mask"].sum() == 300

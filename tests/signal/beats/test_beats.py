"""Beats on the energy of all leads, their median, its fiducials, and RR statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal.beats.beats import detect_beats, detect_beats_in_batch
from ecg_hf.signal.beats.fiducials import find_fiducials
from ecg_hf.signal.beats.heartbeats import detect_r_peaks, heart_rate_bpm
from ecg_hf.signal.beats.median_beat import align_beats, beat_windows, median_beat
from ecg_hf.signal.beats.rr_statistics import RR_STATISTICS, rr_statistics
from ecg_hf.signal.beats.xqrs import xqrs
from ecg_hf.signal.filtering import bandpass
from ecg_hf.signal.resampling import resample

RATE = 250.0
LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")


def train_of_beats(
    times_s: np.ndarray, *, seconds: float = 10.0, noise: float = 0.01, rate: float = RATE
) -> np.ndarray:
    """Three leads of P, QRS and T as Gaussians; the last lead upside down."""
    t = np.arange(round(seconds * rate)) / rate
    wave = np.zeros(t.size)
    for centre, height, width in ((-0.16, 0.1, 0.02), (0.0, 1.0, 0.012), (0.28, 0.3, 0.04)):
        wave += (height * np.exp(-0.5 * ((t[:, None] - times_s - centre) / width) ** 2)).sum(axis=1)
    random = np.random.default_rng(0)
    return np.stack([wave, 0.5 * wave, -0.8 * wave]) + noise * random.normal(size=(3, t.size))


def test_finds_every_beat_and_no_other() -> None:
    times = np.array([0.5, 1.4, 2.2, 3.1, 3.5, 5.0, 5.9, 6.8, 7.7, 8.6, 9.5])
    signal = train_of_beats(times)
    peaks = align_beats(signal, detect_beats(signal, RATE), RATE)
    np.testing.assert_allclose(peaks / RATE, times, atol=0.006)


@pytest.mark.parametrize("rate", [60.0, 100.0, 257.0, 1000.0])
def test_any_rate_any_gain(rate: float) -> None:
    times = np.arange(0.6, 9.8, 0.8)
    peaks = detect_beats(0.3 * train_of_beats(times, rate=rate), rate)
    np.testing.assert_allclose(peaks / rate, times, atol=0.03)


def test_a_noisy_and_a_dead_lead_do_not_hide_the_beats() -> None:
    times = np.arange(0.6, 9.8, 0.8)
    signal = np.concatenate(
        [train_of_beats(times), np.zeros((1, 2500)), np.random.default_rng(1).normal(size=(1, 2500))]
    )
    signal[2, 100:140] = np.nan
    np.testing.assert_allclose(detect_beats(signal, RATE) / RATE, times, atol=0.03)


def test_a_pause_and_a_small_beat() -> None:
    times = np.array([0.6, 1.4, 2.2, 3.0, 7.0, 7.8, 8.6, 9.4])
    np.testing.assert_allclose(detect_beats(train_of_beats(times), RATE) / RATE, times, atol=0.03)
    even = np.arange(0.6, 9.8, 0.8)
    signal = train_of_beats(even)
    weak = slice(round(4.4 * RATE), round(4.8 * RATE))  # the beat at 4.6 s
    signal[:, weak] *= 0.3
    np.testing.assert_allclose(detect_beats(signal, RATE) / RATE, even, atol=0.03)


def test_nothing_where_there_is_nothing() -> None:
    assert detect_beats(np.zeros((12, 2500)), RATE).size == 0
    assert detect_beats(np.full((2, 2500), np.nan), RATE).size == 0
    assert detect_beats(np.ones((2, 50)), RATE).size == 0
    assert detect_beats(np.ones((2, 500)), 40.0).size == 0
    with pytest.raises(SignalError):
        detect_beats(np.zeros(2500), RATE)
    with pytest.raises(SamplingRateError):
        detect_beats(np.zeros((1, 500)), 0.0)


@pytest.mark.parametrize("leads", [1, 2, 3, 12])
def test_a_batch_is_its_records(leads: int) -> None:
    """Whatever else is in the batch, and however many leads there are."""
    trains = [np.arange(0.5 + 0.02 * k, 9.7, 0.6 + 0.03 * k) for k in range(11)]
    batch = np.stack([np.tile(train_of_beats(times), (4, 1))[:leads] for times in trains])
    batch[3] = 0.0
    together = detect_beats_in_batch(batch, RATE)
    for signal, times, found in zip(batch, trains, together, strict=True):
        assert np.array_equal(found, detect_beats(signal, RATE))
        if signal.any():
            np.testing.assert_allclose(found / RATE, times, atol=0.03)
    assert together[3].size == 0


@pytest.mark.parametrize("clean", [[0], [1], [2], [0, 1, 2]])
def test_several_bad_leads_at_once(clean: list[int]) -> None:
    """One clean lead among noise, drift, hum and none at all, three if there are bursts of noise too."""
    times = np.arange(0.6, 9.8, 0.8)
    random = np.random.default_rng(2)
    t = np.arange(2500) / RATE
    bursts = random.normal(size=2500) * ((t % 4 > 2) * 5.0)
    bad = np.stack(
        [
            random.normal(size=2500),
            random.normal(size=2500) * 3.0,
            bursts,
            np.cumsum(random.normal(size=2500)) * 0.2,
            3.0 * np.sin(2 * np.pi * 50 * t),
            np.zeros(2500),
            np.full(2500, np.nan),
            np.full(2500, 1e20),
        ]
    )
    bad = bad if len(clean) > 1 else np.delete(bad, 2, axis=0)
    for position in range(len(bad) + 1):
        signal = np.insert(bad, [position] * len(clean), train_of_beats(times)[clean], axis=0)
        np.testing.assert_allclose(detect_beats(signal, RATE) / RATE, times, atol=0.04)


def test_spikes_in_one_lead_are_no_beats() -> None:
    times = np.arange(0.6, 9.8, 0.8)
    signal = np.concatenate([train_of_beats(times), [5.0 * (np.arange(2500) % 613 < 4)]])
    np.testing.assert_allclose(detect_beats(signal, RATE) / RATE, times, atol=0.04)


def test_long_recordings_are_gone_through_in_pieces_that_do_not_show() -> None:
    times = np.arange(0.6, 1190.0, 0.83)
    for rate in (100.0, 360.0):
        signal = train_of_beats(times[:1], seconds=1195.0, rate=rate)
        beat = train_of_beats(np.array([0.6]), seconds=1.2, rate=rate, noise=0.0)
        for start in np.rint((times - 0.6) * rate).astype(int):
            signal[:, start : start + beat.shape[1]] += beat
        np.testing.assert_allclose(detect_beats(signal, rate) / rate, times, atol=0.03)


def test_median_beat_leaves_others_out() -> None:
    times = np.arange(0.6, 9.8, 0.8)
    signal = train_of_beats(times, noise=0.0)
    strange = slice(round(4.5 * RATE), round(4.75 * RATE))
    signal[:, strange] = -2.0 * np.hanning(strange.stop - strange.start)
    peaks = np.rint(times * RATE).astype(int)
    beat = median_beat(signal, peaks, RATE)
    assert (beat.similarity < 0.8).sum() == 1
    assert beat.n_used == len(times) - 1 - int(peaks[-1] + 125 >= signal.shape[1])
    np.testing.assert_allclose(beat.signal[0, beat.origin], 1.0, atol=0.01)
    assert beat.signal.shape == (3, 75 + 1 + 125)
    with pytest.raises(ConfigurationError):
        median_beat(signal, np.zeros(0, int), RATE)


def test_windows_at_the_ends_repeat_the_last_sample() -> None:
    windows = beat_windows(np.arange(10.0)[None], np.array([0, 9]), 2, 1)
    assert windows[:, 0].tolist() == [[0, 0, 0, 1], [7, 8, 9, 9]]


def test_fiducials_of_known_waves() -> None:
    times = np.arange(0.6, 9.8, 0.8)
    signal = train_of_beats(times, noise=0.001)
    beat = median_beat(signal, align_beats(signal, detect_beats(signal, RATE), RATE), RATE)
    marks = find_fiducials(beat, 0.8)
    assert marks is not None
    at = (np.array([marks.qrs_onset, marks.qrs_offset, marks.p_peak, marks.t_peak]) - beat.origin) / RATE
    # A Gaussian is above a hundredth of its height within three standard deviations.
    np.testing.assert_allclose(at, [-0.036, 0.036, -0.16, 0.28], atol=0.02)
    assert marks.t_end is not None
    assert (marks.t_end - beat.origin) / RATE == pytest.approx(0.36, abs=0.03)
    assert find_fiducials(median_beat(np.zeros((2, 2500)), beat.r_peaks, RATE)) is None


def test_rr_statistics_by_hand() -> None:
    peaks = np.cumsum([0, 100, 100, 50, 150, 100])
    values = dict(zip(RR_STATISTICS, rr_statistics(peaks, 100.0), strict=True))
    rr = np.array([1000.0, 1000, 500, 1500, 1000])
    steps = np.array([0.0, -500, 1000, -500])
    expected = {
        "rate_bpm": 60, "rate_min_bpm": 40, "rate_max_bpm": 120, "rr_median_ms": 1000, "rr_mean_ms": 1000,
        "rr_sd_ms": rr.std(), "rr_iqr_ms": 0, "rr_rmssd_ms": np.sqrt((steps**2).mean()), "rr_median_step_ms": 500,
        "rr_pnn50": 0.75, "rr_cv": rr.std() / 1000, "rr_relative_rmssd": np.sqrt((steps**2).mean()) / 1000,
        "rr_lag1_correlation": -0.25 / 4 / 0.1, "rr_lag2_correlation": 0.0, "rr_short_share": 0.2,
        "rr_long_share": 0.2, "rr_largest_ratio": 3.0,
    }  # fmt: skip
    assert values == pytest.approx(expected)


def test_rr_statistics_of_few_beats() -> None:
    assert np.isnan(rr_statistics(np.array([5]), 100.0)).all()
    two = rr_statistics(np.array([0, 80]), 100.0)
    assert two[0] == 75.0
    assert np.isnan(two[[5, 7, 12, 16]]).all()
    constant = rr_statistics(np.arange(8) * 80, 100.0)
    assert constant[[5, 12, 13]].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(SamplingRateError):
        rr_statistics(np.arange(5), 0.0)


def scores(found_s: np.ndarray, true_s: np.ndarray, tolerance_s: float) -> np.ndarray:
    """True positives, detections and annotated beats, within the stretch that was annotated."""
    found_s = found_s[(found_s > true_s[0] - tolerance_s) & (found_s < true_s[-1] + tolerance_s)]
    if not found_s.size:
        return np.array([0, 0, len(true_s)])
    distance = np.abs(found_s[:, None] - true_s)
    return np.array([(distance.min(axis=0) <= tolerance_s).sum(), len(found_s), len(true_s)])


@pytest.mark.realdata
def test_ludb_at_every_rate_and_without_its_good_leads(recordings: Path) -> None:
    """All 101 beats marked in lead II, of which XQRS finds 86 there; the same at any rate, beside broken leads."""
    import wfdb

    folder = recordings / "ludb" / "data"
    names = sorted(p.stem for p in folder.glob("*.hea"))
    signals = np.stack([wfdb.rdrecord(str(folder / name)).p_signal.T.astype(np.float32) for name in names])
    marks = [wfdb.rdann(str(folder / name), "ii") for name in names]
    truth = [mark.sample[np.array(mark.symbol) == "N"] / 500.0 for mark in marks]

    def total(found: list[np.ndarray], rate: float, tolerance_s: float) -> list[int]:
        return np.sum(
            [scores(own / rate, true, tolerance_s) for own, true in zip(found, truth, strict=True)], axis=0
        ).tolist()

    found = detect_beats_in_batch(signals, 500.0)
    assert total(found, 500.0, 0.05) == [101, 101, 101]
    assert total([xqrs(signal[1], 500.0) for signal in signals], 500.0, 0.15)[0] == 86
    for rate in (50.0, 100.0, 204.8, 257.0, 360.0, 1000.0):
        again = detect_beats_in_batch(resample(signals, 500.0, rate), rate)
        for own, same in zip(found, again, strict=True):
            np.testing.assert_allclose(same / rate, own / 500.0, atol=0.05)
    random = np.random.default_rng(0)
    broken = signals.copy()
    broken[:, 1] = 2.0 * random.normal(size=broken[:, 1].shape)
    broken[:, 3:6] = 0.0
    broken[:, 6] = np.nan
    broken[:, 7] = random.normal(size=broken[:, 7].shape).cumsum(axis=-1)
    assert total(detect_beats_in_batch(broken, 500.0), 500.0, 0.15) == [101, 101, 101]
    broken[:, [0, 2, *range(3, 11)]] = random.normal(size=broken[:, :10].shape)  # V6 alone is left
    assert min(total(detect_beats_in_batch(broken, 500.0), 500.0, 0.15)[:2]) >= 100


@pytest.mark.realdata
def test_every_beat_of_mitdb_100(real_data: Path) -> None:
    import wfdb

    path = str(real_data / "mitdb" / "100")
    signal = wfdb.rdrecord(path).p_signal.T.astype(np.float32)
    mark = wfdb.rdann(path, "atr")
    truth = mark.sample[np.isin(mark.symbol, list("NAV"))] / 360.0
    assert scores(detect_beats(signal, 360.0) / 360.0, truth, 0.05).tolist() == [2273, 2273, 2273]
    noisy = signal.copy()
    noisy[0] = np.random.default_rng(0).normal(size=noisy.shape[1])  # MLII decides nothing
    assert min(scores(detect_beats(noisy, 360.0) / 360.0, truth, 0.15)[:2]) >= 2250
    # R peaks of one lead, which is what a record's heart rate is counted from.
    minutes = signal[0, : 360 * 120]
    peaks, marked = detect_r_peaks(minutes, 360.0), truth[truth < 120.0]
    assert (np.abs(peaks[:, None] / 360.0 - marked).min(axis=0) <= 0.05).all()
    assert len(peaks) - len(marked) in (0, 1)  # one may lie beyond the last annotation
    rate = heart_rate_bpm(peaks, 360.0)
    assert rate is not None
    assert 60 < rate < 90


@pytest.mark.realdata
def test_against_the_marks_of_ludb(recordings: Path) -> None:
    """QRS complexes and durations of 100 Hz signals against the cardiologists' marks."""
    import wfdb

    folder = recordings / "ludb" / "data"
    names = sorted(p.stem for p in folder.glob("*.hea"))
    found = marked = right = 0
    durations = []
    for name in names:
        record = wfdb.rdrecord(str(folder / name)).p_signal.T.astype(np.float32)
        signal = bandpass(resample(resample(record, 500.0, 100.0), 100.0, RATE), RATE, 0.5, 40.0, order=2)
        peaks = align_beats(signal, detect_beats(signal, RATE), RATE)
        mark = wfdb.rdann(str(folder / name), "ii")
        symbols = np.array(mark.symbol)
        truth = mark.sample[symbols == "N"] / 500.0
        inside = peaks[(peaks / RATE > truth[0] - 0.15) & (peaks / RATE < truth[-1] + 0.15)] / RATE
        distance = np.abs(inside[:, None] - truth)
        found += len(inside)
        marked += len(truth)
        right += int((distance.min(axis=0) < 0.15).sum())
        spans = []
        for lead in LEADS:
            mark = wfdb.rdann(str(folder / name), lead)
            at = np.flatnonzero(np.array(mark.symbol) == "N")
            at = at[(at > 0) & (at < len(mark.symbol) - 1)]
            spans.append(np.median(mark.sample[at + 1] - mark.sample[at - 1]) * 2.0)
        marks = find_fiducials(median_beat(signal, peaks, RATE), float(np.median(np.diff(peaks)) / RATE))
        assert marks is not None
        durations.append(((marks.qrs_offset - marks.qrs_onset) * 1000.0 / RATE, float(np.median(spans))))
    assert right >= 0.995 * marked
    assert found <= 1.005 * marked
    ours, theirs = np.array(durations).T
    assert np.corrcoef(ours, theirs)[0, 1] > 0.8
    assert np.median(np.abs(ours - theirs)) < 15.0

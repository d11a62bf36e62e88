"""Codes tell the truth about the waveform: each class is measured on its own, undisturbed signals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import SyntheticBatch, simulate

RATE = 250.0
BEFORE, AFTER = 75, 125  # samples around the R peak
LEAD = {name: k for k, name in enumerate(STANDARD_LEADS)}
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def corpus() -> SyntheticBatch:
    return simulate(2000, seed=9, sampling_rate=RATE, noise=0.0)


def rows(
    corpus: SyntheticBatch, code: str, *, without: tuple[str, ...] = (), only: bool = False
) -> list[int]:
    """Records with ``code``: without some others, or with no other but sinus rhythm."""
    found = [k for k, codes in enumerate(corpus.codes) if code in codes and not set(without) & set(codes)]
    if only:
        found = [k for k in found if set(corpus.codes[k]) <= {code, "SR", "SBRAD", "SARRH"}]
    assert len(found) >= 8, f"only {len(found)} records show {code}"
    return found


def mean_beats(corpus: SyntheticBatch, chosen: list[int]) -> Array:
    """``(records, 12, 200)`` median beat."""
    beats = []
    for k in chosen:
        signal, peaks = corpus.signal[k].astype(np.float64), corpus.r_peaks[k]
        inner = peaks[(peaks >= BEFORE) & (peaks < signal.shape[1] - AFTER)]
        pieces = np.stack([signal[:, p - BEFORE : p + AFTER] for p in inner])
        beats.append(np.median(pieces, axis=0))
    return np.stack(beats)


def qrs(beats: Array) -> Array:
    return beats[:, :, BEFORE - 22 : BEFORE + 28]


def st_level(beats: Array, lead: str) -> Array:
    """80 to 100 ms after the R peak."""
    return beats[:, LEAD[lead], BEFORE + 20 : BEFORE + 25].mean(axis=1)


def t_wave(beats: Array, lead: str) -> Array:
    """Greatest excursion, with its sign, 160 to 420 ms after the R peak."""
    part = beats[:, LEAD[lead], BEFORE + 40 : BEFORE + 105]
    return part[np.arange(len(part)), np.abs(part).argmax(axis=1)]


def rr_of(corpus: SyntheticBatch, k: int) -> Array:
    return np.diff(corpus.r_peaks[k]) / RATE


def active_width(beats: Array) -> Array:
    """Seconds during which the leads together change quickly: grows with QRS duration."""
    slope = np.abs(np.diff(beats[:, :, BEFORE - 30 : BEFORE + 35], axis=2)).sum(axis=1)
    return (slope > 0.12 * slope.max(axis=1, keepdims=True)).sum(axis=1) / RATE


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [("NORM", 59, 100), ("SBRAD", 38, 60), ("STACH", 100, 155), ("AFIB", 45, 160), ("PACE", 58, 82)],
)
def test_rates(corpus: SyntheticBatch, code: str, low: float, high: float) -> None:
    for k in rows(corpus, code, without=("PVC", "PAC")):
        rate = 60.0 / rr_of(corpus, k).mean()
        assert low <= rate <= high
        assert rate == pytest.approx(corpus.measurements[k].heart_rate_bpm, abs=0.5)


def test_regularity_separates_rhythms(corpus: SyntheticBatch) -> None:
    def variation(code: str) -> Array:
        chosen = rows(corpus, code, without=("PVC", "PAC"))
        return np.asarray([rr_of(corpus, k).std() / rr_of(corpus, k).mean() for k in chosen])

    assert variation("AFIB").min() > 0.08
    assert np.median(variation("AFIB")) > 0.15
    assert variation("NORM").max() < 0.07
    assert variation("SARRH").min() > 0.06
    assert variation("PACE").max() < 0.02
    flutter = variation("AFLT")
    assert np.median(flutter) < 0.02  # most conduct at a fixed ratio


def test_fibrillation_has_no_p_wave_and_sinus_has_one(corpus: SyntheticBatch) -> None:
    def p_height(code: str) -> Array:
        beats = mean_beats(corpus, rows(corpus, code, without=("PVC", "PAC", "1AVB", "LVOLT")))
        part = beats[:, LEAD["II"], BEFORE - 50 : BEFORE - 18]
        return part.max(axis=1) - np.median(part, axis=1)

    assert np.median(p_height("NORM")) > 0.07
    assert np.median(p_height("AFIB")) < 0.5 * np.median(p_height("NORM"))


def test_flutter_waves_have_a_line_in_the_spectrum(corpus: SyntheticBatch) -> None:
    chosen = rows(corpus, "AFLT", without=("CLBBB", "CRBBB", "LVH"))
    frequency = np.fft.rfftfreq(corpus.signal.shape[2], 1 / RATE)
    band = (frequency > 4.1) & (frequency < 5.5)
    shares = []
    for group in (chosen, rows(corpus, "NORM")):
        power = np.abs(np.fft.rfft(corpus.signal[group, LEAD["aVF"]], axis=1)) ** 2
        shares.append(np.median(power[:, band].max(axis=1) / power[:, band].mean(axis=1)))
    assert shares[0] > 1.3 * shares[1]


def test_bundle_branch_blocks_are_wide(corpus: SyntheticBatch) -> None:
    normal = np.median(active_width(mean_beats(corpus, rows(corpus, "NORM"))))
    for code in ("CLBBB", "CRBBB", "PACE"):
        chosen = rows(corpus, code, without=("PVC",))
        assert min(corpus.measurements[k].qrs_ms for k in chosen) >= 120
        if code != "PACE":  # a spike is quicker than any wave
            assert np.median(active_width(mean_beats(corpus, chosen))) > 1.25 * normal
    assert max(corpus.measurements[k].qrs_ms for k in rows(corpus, "NORM")) <= 110


def test_left_bundle_branch_block(corpus: SyntheticBatch) -> None:
    beats = mean_beats(corpus, rows(corpus, "CLBBB", without=("PVC",)))
    wave = qrs(beats)
    assert (wave[:, LEAD["V1"]].min(axis=1) < -0.6).mean() > 0.95
    assert (wave[:, LEAD["V6"]].max(axis=1) > 0.3).mean() > 0.95
    assert (t_wave(beats, "V1") > 0).mean() > 0.9  # discordant
    assert (t_wave(beats, "V6") < 0).mean() > 0.8


def test_right_bundle_branch_block_ends_to_the_right_and_front(corpus: SyntheticBatch) -> None:
    wave = qrs(mean_beats(corpus, rows(corpus, "CRBBB", without=("PVC", "AFLT"))))
    first = wave[:, LEAD["V1"]]
    assert (first.max(axis=1) > 0.2).mean() > 0.95
    late = first.argmax(axis=1) > first.argmin(axis=1)
    assert late.mean() > 0.85
    end = wave[:, LEAD["I"], 26:44].min(axis=1)
    assert np.median(end) < -0.1  # broad S


def sokolow(beats: Array) -> Array:
    wave = qrs(beats)
    return -wave[:, LEAD["V1"]].min(axis=1) + np.maximum(
        wave[:, LEAD["V5"]].max(axis=1), wave[:, LEAD["V6"]].max(axis=1)
    )


def test_voltages(corpus: SyntheticBatch) -> None:
    tall = mean_beats(corpus, rows(corpus, "LVH", without=("PVC", "AFLT", "AFIB")))
    assert (sokolow(tall) > 3.5).mean() > 0.95
    normal = mean_beats(corpus, rows(corpus, "NORM"))
    assert (sokolow(normal) < 3.5).all()

    low = mean_beats(corpus, rows(corpus, "LVOLT", without=("PVC", "AFLT", "AFIB")))
    limb = np.ptp(qrs(low)[:, :6], axis=2).max(axis=1)
    assert (limb < 0.5).mean() > 0.9
    assert (np.ptp(qrs(normal)[:, :6], axis=2).max(axis=1) > 0.6).all()


def test_right_ventricular_hypertrophy(corpus: SyntheticBatch) -> None:
    chosen = rows(corpus, "RVH", without=("PVC", "AFLT"))
    first = qrs(mean_beats(corpus, chosen))[:, LEAD["V1"]]
    assert (first.max(axis=1) > 0.5).mean() > 0.95
    assert (first.max(axis=1) > -first.min(axis=1)).mean() > 0.95
    assert min(corpus.measurements[k].axis_deg for k in chosen) > 90


def initial_q(corpus: SyntheticBatch, code: str, leads: tuple[str, ...]) -> Array:
    """Depth of the first deflection of each record, averaged over ``leads``."""
    clean = ("PVC", "AFLT", "AFIB", "CRBBB", "LAFB", "LVH", "LVOLT")
    beats = mean_beats(corpus, rows(corpus, code, without=clean))
    part = beats[:, [LEAD[name] for name in leads], BEFORE - 14 : BEFORE - 2]
    return part.min(axis=2).mean(axis=1)


@pytest.mark.parametrize(
    ("code", "leads"),
    [("IMI", ("II", "III", "aVF")), ("AMI", ("V2", "V3")), ("LMI", ("I", "aVL", "V5", "V6"))],
)
def test_infarcts_have_q_waves_in_their_leads(
    corpus: SyntheticBatch, code: str, leads: tuple[str, ...]
) -> None:
    infarct, normal = initial_q(corpus, code, leads), initial_q(corpus, "NORM", leads)
    assert np.median(infarct) < -0.12
    assert np.median(infarct) < 2 * np.median(normal)
    assert (infarct < np.percentile(normal, 10)).mean() > 0.8


def test_fascicular_block_turns_the_axis_left(corpus: SyntheticBatch) -> None:
    chosen = rows(corpus, "LAFB", without=("PVC", "AFLT", "AMI", "LMI"))
    assert max(corpus.measurements[k].axis_deg for k in chosen) < -30
    wave = qrs(mean_beats(corpus, chosen))
    assert (wave[:, LEAD["III"]].sum(axis=1) < 0).all()
    assert (wave[:, LEAD["aVL"]].sum(axis=1) > 0).all()
    for k in rows(corpus, "NORM"):
        assert -30 <= corpus.measurements[k].axis_deg <= 90


def test_reported_axis_is_that_of_the_signal(corpus: SyntheticBatch) -> None:
    chosen = rows(corpus, "NORM")[:100]
    wave = qrs(mean_beats(corpus, chosen))
    measured = np.degrees(
        np.arctan2(2 / np.sqrt(3) * wave[:, LEAD["aVF"]].sum(axis=1), wave[:, LEAD["I"]].sum(axis=1))
    )
    stated = np.asarray([corpus.measurements[k].axis_deg for k in chosen])
    assert np.median(np.abs(measured - stated)) < 10


def test_intervals(corpus: SyntheticBatch) -> None:
    facts = corpus.measurements
    assert min(facts[k].pr_ms or 0 for k in rows(corpus, "1AVB")) > 200
    assert min(facts[k].qtc_ms for k in rows(corpus, "LNGQT")) >= 470
    for k in rows(corpus, "NORM"):
        assert 120 <= (facts[k].pr_ms or 0) <= 200
        assert 350 <= facts[k].qtc_ms <= 450
    assert all(facts[k].pr_ms is None for k in rows(corpus, "AFIB") + rows(corpus, "AFLT"))


def test_t_wave_ends_later_at_slow_rates_and_with_long_qt(corpus: SyntheticBatch) -> None:
    def t_peak(code: str) -> float:
        beats = mean_beats(corpus, rows(corpus, code, only=code != "NORM"))
        part = np.abs(beats[:, LEAD["V4"], BEFORE + 35 : BEFORE + 115])
        return float(np.median(part.argmax(axis=1) + 35) / RATE)

    assert t_peak("LNGQT") > t_peak("NORM") + 0.05
    assert t_peak("SBRAD") > t_peak("NORM")


def test_repolarisation(corpus: SyntheticBatch) -> None:
    leads = ("I", "II", "aVF", "V2", "V3", "V4", "V5", "V6")

    def lowest(code: str, measure: str) -> Array:
        chosen = (
            rows(corpus, code, only=code != "NORM")
            if code != "ISC_"
            else rows(corpus, code, without=("AFIB",))
        )
        beats = mean_beats(corpus, chosen)
        values = [st_level(beats, name) if measure == "st" else t_wave(beats, name) for name in leads]
        return np.stack(values).min(axis=0)

    assert np.median(lowest("STD_", "st")) < -0.08
    assert np.median(lowest("NORM", "st")) > -0.06
    assert np.median(lowest("INVT", "t")) < -0.15
    assert np.median(lowest("ISC_", "st")) < -0.08
    assert (lowest("NORM", "t") > -0.15).mean() > 0.9
    flat = mean_beats(corpus, rows(corpus, "NDT", only=True))
    assert np.median(np.abs(t_wave(flat, "V5"))) < 0.1


def test_left_atrial_enlargement_is_negative_in_v1(corpus: SyntheticBatch) -> None:
    def terminal(code: str) -> float:
        beats = mean_beats(corpus, rows(corpus, code, without=("PVC", "PAC", "1AVB", "STACH", "LVOLT")))
        return float(np.median(beats[:, LEAD["V1"], BEFORE - 38 : BEFORE - 14].min(axis=1)))

    assert terminal("LAO/LAE") < terminal("NORM") - 0.04


def test_premature_beats_come_early_and_ventricular_ones_pause(corpus: SyntheticBatch) -> None:
    for code in ("PVC", "PAC"):
        for k in rows(corpus, code, without=("AFIB", "PACE", "SARRH")):
            rr = rr_of(corpus, k)
            early = np.flatnonzero(rr[:-1] < 0.92 * np.median(rr))
            assert rr.min() < 0.92 * rr.max()
            if code == "PVC" and len(early):
                pair = rr[early[0]] + rr[early[0] + 1]
                usual = 60.0 / corpus.measurements[k].heart_rate_bpm
                assert pair == pytest.approx(2 * usual, rel=0.12)


def test_pacing_spikes(corpus: SyntheticBatch) -> None:
    def jump(code: str) -> Array:
        chosen = rows(corpus, code, without=("PVC",))
        step = np.abs(np.diff(corpus.signal[chosen, LEAD["II"]], n=2, axis=1))
        return np.percentile(step, 99.5, axis=1)

    assert np.median(jump("PACE")) > 1.5 * np.median(jump("NORM"))


def test_beats_join_without_steps(corpus: SyntheticBatch) -> None:
    """Away from ventricular complexes and pacing spikes nothing moves quickly, at no border between beats."""
    for k in range(len(corpus)):
        if {"PACE", "AFLT"} & set(corpus.codes[k]):
            continue  # spikes and the upstroke of flutter waves are steep
        step = np.abs(np.diff(corpus.signal[k, :2], axis=1)).max(axis=0)
        far = np.ones(len(step), dtype=bool)
        for peak in corpus.r_peaks[k]:
            far[max(peak - 40, 0) : peak + 45] = False
        far[:45] = far[-45:] = False  # a beat just outside may reach in
        assert step[far].max(initial=0.0) < 0.05, corpus.codes[k]

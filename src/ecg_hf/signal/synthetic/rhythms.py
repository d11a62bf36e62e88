"""When beats happen: intervals, premature beats, and the atria's own activity in fibrillation and flutter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.synthetic.draws import Draws, FloatArray, IntArray, Stream
from ecg_hf.signal.synthetic.findings import Plan

__all__ = ["BeatKind", "Beats", "Pulse", "atrial_waves", "draw_pulse", "place_beats"]

BoolArray = npt.NDArray[np.bool_]

_SHORTEST_RR_S = 0.33
_LEAD_IN_S = 1.6  # beats begin before the recording does, so that it starts in the middle of things
_LEAD_OUT_S = 1.2


class BeatKind:
    """Codes of the kinds of beats."""

    USUAL = 0
    ATRIAL_PREMATURE = 1
    VENTRICULAR_PREMATURE = 2


@dataclass(slots=True)
class Pulse:
    """The rhythm of each record before beats are placed: all arrays are ``(n,)``.

    Attributes:
        rate: Mean ventricular rate in beats per minute.
        breathing_hz: Respiratory frequency.
        sinus_arrhythmia: Relative swing of RR with breathing.
        slow_swing: Relative swing of RR around 0.1 Hz.
        irregularity: Relative standard deviation of RR in atrial fibrillation.
        cycle: Flutter cycle in seconds.
        conduction: Flutter waves per beat; 0 where it varies.
    """

    rate: FloatArray
    breathing_hz: FloatArray
    sinus_arrhythmia: FloatArray
    slow_swing: FloatArray
    irregularity: FloatArray
    cycle: FloatArray
    conduction: IntArray


@dataclass(slots=True)
class Beats:
    """Beat times of a batch, ``(n, beats)``; rows are padded with beats far after the recording.

    Attributes:
        times: R peaks in seconds from the start of the recording.
        kinds: :class:`BeatKind`.
        rr: Interval before each beat in seconds.
        breathing_phase: Phase of respiration at each beat, radians.
    """

    times: FloatArray
    kinds: IntArray
    rr: FloatArray
    breathing_phase: FloatArray


def draw_pulse(plan: Plan) -> Pulse:
    """Choose rates and their variability."""
    draw = plan.draws
    u = draw.uniform()
    rate = np.clip(plan.patient_draws.normal(72.0, 7.0) + draw.normal(0.0, 4.0), 62.0, 95.0)
    rate = np.where(plan.has("1AVB"), np.clip(rate, 62.0, 82.0), rate)
    rate = np.where(plan.has("SBRAD"), 41.0 + 16.0 * np.sqrt(u), rate)
    rate = np.where(plan.has("STACH"), 103.0 + 45.0 * np.square(u), rate)
    rate = np.where(plan.has("SARRH"), 62.0 + 22.0 * u, rate)
    rate = np.where(plan.has("AFIB"), 58.0 + 80.0 * u**1.3, rate)
    rate = np.where(plan.has("PACE"), 60.0 + 18.0 * u, rate)

    youth = np.clip((90.0 - plan.ages) / 60.0, 0.3, 1.1)
    swing = youth * (0.012 + 0.040 * draw.uniform())
    swing = np.where(plan.has("STACH"), 0.3 * swing, swing)
    swing = np.where(plan.has("SARRH"), 0.115 + 0.075 * draw.uniform(), swing)
    swing = np.where(plan.has("PACE"), 0.002, swing)
    slow = 0.6 * swing * draw.uniform(0.4, 1.4)

    cycle = 60.0 / draw.uniform(255.0, 320.0)
    ratio = draw.choice(np.asarray([0.22, 0.30, 0.18, 0.30]))  # variable, 2:1, 3:1, 4:1
    conduction = np.asarray([0, 2, 3, 4])[ratio]
    mean_ratio = np.where(conduction == 0, 3.1, conduction)
    rate = np.where(plan.has("AFLT"), 60.0 / (cycle * mean_ratio), rate)
    return Pulse(
        rate=rate,
        breathing_hz=draw.uniform(0.18, 0.32),
        sinus_arrhythmia=swing,
        slow_swing=slow,
        irregularity=draw.uniform(0.19, 0.27),
        cycle=cycle,
        conduction=conduction.astype(np.int64),
    )


def place_beats(plan: Plan, pulse: Pulse, qtc: FloatArray, seed: int, duration_s: float) -> Beats:
    """Lay out all beats from before the start to after the end of the recording.

    Args:
        plan: What the records show.
        pulse: Their rates.
        qtc: Corrected QT in seconds; premature beats keep clear of the T wave before them.
        seed: Seed of the corpus.
        duration_s: Length of the recording.
    """
    count = int(np.ceil((duration_s + _LEAD_IN_S + _LEAD_OUT_S) / _SHORTEST_RR_S)) + 3
    draw = Draws(seed, Stream.BEATS, plan.records.tolist(), 4 * count + 8)
    mean = (60.0 / pulse.rate)[:, None]
    start = -_LEAD_IN_S - draw.uniform()
    nominal = start[:, None] + mean * np.arange(count)
    breathing = 2 * np.pi * (pulse.breathing_hz[:, None] * nominal + draw.block(1))
    mayer = 2 * np.pi * (0.1 * nominal + draw.block(1))
    jitter = draw.normals(count)
    swing = pulse.sinus_arrhythmia[:, None] * np.sin(breathing) + pulse.slow_swing[:, None] * np.sin(mayer)
    rr = mean * (1.0 + swing + 0.15 * pulse.sinus_arrhythmia[:, None] * jitter)

    # Fibrillation: right-skewed and without memory. exp() keeps the mean near one.
    wide = pulse.irregularity[:, None]
    fibrillating = mean * np.exp(wide * np.clip(jitter, -1.9, 2.3) - 0.5 * np.square(wide))
    rr = np.where(plan.has("AFIB")[:, None], np.maximum(fibrillating, _SHORTEST_RR_S), rr)

    varying = np.asarray([2, 3, 4, 4])[(draw.block(count) * 4).astype(np.int64)]
    waves = np.where(pulse.conduction[:, None] == 0, varying, pulse.conduction[:, None])
    rr = np.where(plan.has("AFLT")[:, None], waves * pulse.cycle[:, None], rr)

    planned = start[:, None] + np.cumsum(rr, axis=1) - rr[:, :1]
    kinds = _premature_beats(plan, draw, planned, duration_s)
    coupling = 0.60 + 0.16 * draw.uniform()[:, None]
    qt = qtc[:, None] * np.cbrt(rr)
    coupling = np.clip(np.maximum(coupling, (qt + 0.02) / rr), 0.5, 0.86)
    ventricular = kinds == BeatKind.VENTRICULAR_PREMATURE
    atrial = kinds == BeatKind.ATRIAL_PREMATURE
    rest = np.where(plan.has("AFIB")[:, None], 1.25, 2.0 - coupling)
    premature_rr = rr * coupling
    after = np.zeros_like(ventricular)
    after[:, 1:] = ventricular[:, :-1]
    after_atrial = np.zeros_like(atrial)
    after_atrial[:, 1:] = atrial[:, :-1]
    rr = np.where(
        ventricular | atrial, premature_rr, np.where(after, rr * rest, np.where(after_atrial, rr * 1.12, rr))
    )
    times = start[:, None] + np.cumsum(rr, axis=1) - rr[:, :1]
    return Beats(times=times, kinds=kinds, rr=rr, breathing_phase=breathing)


def _premature_beats(plan: Plan, draw: Draws, planned: FloatArray, duration_s: float) -> IntArray:
    """``(n, beats)`` kinds: one to three single premature beats, or bigeminy, or trigeminy."""
    count = planned.shape[1]
    ordinal = np.arange(count)
    inside = (planned > 0.75) & (planned < duration_s - 0.75)
    score = np.where(inside & (ordinal % 2 == 0), draw.block(count), 2.0)
    rank = np.argsort(np.argsort(score, axis=1), axis=1)
    number = 1 + draw.choice(np.asarray([0.4, 0.35, 0.25]))
    number = np.maximum(1, np.round(number * duration_s / 10.0)).astype(np.int64)
    single = (rank < number[:, None]) & (score < 2.0)
    pattern = draw.uniform()[:, None]
    trigeminy = inside & (ordinal % 3 == 0)
    bigeminy = inside & (ordinal % 2 == 0)
    ventricular = np.where(pattern < 0.1, bigeminy, np.where(pattern < 0.2, trigeminy, single))
    kinds = np.zeros(planned.shape, dtype=np.int64)
    kinds[plan.has("PAC")[:, None] & single] = BeatKind.ATRIAL_PREMATURE
    kinds[plan.has("PVC")[:, None] & ventricular] = BeatKind.VENTRICULAR_PREMATURE
    return kinds


def atrial_waves(
    time: npt.NDArray[np.float32], plan: Plan, pulse: Pulse, beats: Beats, lead_field: FloatArray, draw: Draws
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Fibrillatory and flutter waves.

    Args:
        time: ``(samples,)`` seconds.
        plan: What the records show.
        pulse: Their rates.
        beats: Their beats, to which flutter is locked.
        lead_field: ``(n, 8, 3)``.
        draw: Random columns of all records of the plan.

    Returns:
        The rows concerned ``(m,)`` and their waves in the eight independent leads ``(m, 8, samples)``, mV.
    """
    phases = 2 * np.pi * draw.block(10)
    frequency = draw.uniform(5.0, 7.6)
    size = draw.uniform(0.65, 1.6)
    turns = draw.normals(6).reshape(-1, 2, 3)
    block_waves = draw.uniform(0.85, 1.25)

    fib = np.flatnonzero(plan.has("AFIB"))
    flutter = np.flatnonzero(plan.has("AFLT"))
    rows = np.concatenate([fib, flutter])
    waves = np.empty((len(rows), 8, len(time)), dtype=np.float32)
    two_pi = np.float32(2 * np.pi)

    def column(values: FloatArray) -> npt.NDArray[np.float32]:
        return values[:, None].astype(np.float32)

    if len(fib):
        f, p = column(frequency[fib]), phases[fib]
        drift = np.float32(1.1) * np.sin(two_pi * np.float32(0.37) * time + column(p[:, 0]))
        drift += np.float32(0.8) * np.sin(two_pi * np.float32(0.91) * time + column(p[:, 1]))
        swell = 1 + np.float32(0.45) * np.sin(two_pi * np.float32(0.53) * time + column(p[:, 2]))
        swell_two = 1 + np.float32(0.5) * np.sin(two_pi * np.float32(0.71) * time + column(p[:, 3]))
        one = two_pi * f * time + drift + column(p[:, 4])
        two = two_pi * (f * np.float32(1.13)) * time - np.float32(1.3) * drift + column(p[:, 5])
        source = np.stack(
            [
                swell * (np.sin(one) + np.float32(0.35) * np.sin(2 * one + column(p[:, 6]))),
                swell_two * (np.sin(two) + np.float32(0.3) * np.sin(2 * two + column(p[:, 7]))),
            ],
            axis=1,
        )
        vectors = np.asarray([[-0.008, 0.022, 0.040], [0.012, 0.018, 0.004]]) + 0.006 * turns[fib]
        vectors = vectors * size[fib][:, None, None]
        gains = np.matmul(lead_field[fib], np.ascontiguousarray(np.swapaxes(vectors, 1, 2)))
        waves[: len(fib)] = np.matmul(gains.astype(np.float32), source)
    if len(flutter):
        angle = two_pi * (time - column(beats.times[flutter, 0])) / column(pulse.cycle[flutter])
        angle += column(phases[flutter, 8])
        # Fourier series of a sawtooth, tapered: slow fall, quick rise.
        saw = sum(np.sin(h * angle) * np.float32(np.exp(-0.05 * h * h) / h) for h in range(1, 6))
        bump = np.cos(angle + np.float32(0.6)) + np.float32(0.3) * np.cos(2 * angle)
        source = np.stack([np.asarray(saw), bump], axis=1)
        vectors = np.asarray([[0.004, 0.125, 0.010], [0.0, 0.012, 0.060]]) + 0.006 * turns[flutter]
        vectors = vectors * block_waves[flutter][:, None, None]
        gains = np.matmul(lead_field[flutter], np.ascontiguousarray(np.swapaxes(vectors, 1, 2)))
        waves[len(fib) :] = np.matmul(gains.astype(np.float32), source)
    return rows, waves

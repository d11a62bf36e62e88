"""Disturbances, added to the electrodes' potentials so that lead identities survive them.

Baseline wander from breathing and drifting electrodes, 1/f noise, muscle activity in bursts, amplifier noise,
mains hum and electrode motion. Each record has a quality: some are clean, most fair, some poor.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.synthetic.draws import Draws, FloatArray, IntArray, Stream, generator

__all__ = ["electrode_noise"]

Float32Array = npt.NDArray[np.float32]

_ELECTRODES = 9
_OCTAVES_HZ = (0.5, 1.0, 2.0, 4.0, 8.0)
# Log10 of the overall noise factor: clean, fair, poor.
_QUALITY_WEIGHTS = np.asarray([0.3, 0.55, 0.15])
_QUALITY = np.asarray([[0.12, 0.3], [0.5, 1.4], [1.8, 3.6]])


@lru_cache(maxsize=8)
def _drift_basis(samples: int, sampling_rate: float) -> Float32Array:
    """``(knots, samples)``: linear maps from random knots to noise with equal power per octave.

    Each octave is a cosine-interpolated sequence; together they fall as 1/f up to the highest one.
    """
    time = np.arange(samples) / sampling_rate
    parts = []
    for rate in _OCTAVES_HZ:
        knots = int(np.ceil(time[-1] * rate)) + 2
        distance = np.abs(time[None, :] * rate - np.arange(knots)[:, None])
        parts.append(np.where(distance < 1.0, 0.5 + 0.5 * np.cos(np.pi * distance), 0.0))
    basis = np.concatenate(parts).astype(np.float32)
    basis.setflags(write=False)
    return basis


def electrode_noise(
    records: IntArray, draw: Draws, seed: int, samples: int, sampling_rate: float, breathing_hz: FloatArray
) -> Float32Array:
    """Noise potentials of RA, LA, LL, V1..V6 in mV, ``(n, 9, samples)``.

    Args:
        records: Record numbers; each has its own generator for the noise samples.
        draw: Random columns of these records.
        seed: Seed of the corpus.
        samples: Length.
        sampling_rate: Hertz. White noise keeps its density: a slower recorder sees less of it.
        breathing_hz: Respiratory frequency of each record.
    """
    count = len(records)
    band = draw.choice(_QUALITY_WEIGHTS)
    low, high = _QUALITY[band, 0], _QUALITY[band, 1]
    level = low * (high / low) ** draw.uniform()
    wander = level * np.exp(0.5 * draw.normal())
    unequal = np.exp(0.4 * draw.normals(_ELECTRODES))
    white_mv = 0.0045 * level[:, None] * unequal
    muscle_mv = 0.009 * level[:, None] * np.exp(0.5 * draw.normal())[:, None] * draw.block(_ELECTRODES)
    drift_mv = 0.020 * wander[:, None] * np.exp(0.4 * draw.normals(_ELECTRODES))

    basis = _drift_basis(samples, sampling_rate)
    knots = basis.shape[0]
    white = np.empty((count, _ELECTRODES, samples), dtype=np.float32)
    coarse = np.empty((count, _ELECTRODES, knots), dtype=np.float32)
    for row, record in enumerate(records.tolist()):
        source = generator(seed, Stream.NOISE, record)
        source.standard_normal(dtype=np.float32, out=coarse[row])
        source.standard_normal(dtype=np.float32, out=white[row])

    time = (np.arange(samples) / sampling_rate).astype(np.float32)
    two_pi = np.float32(2 * np.pi)

    def column(values: FloatArray) -> Float32Array:
        return values.astype(np.float32)[..., None]

    # Muscle noise comes and goes; it is the white noise, made louder.
    burst_hz, burst_phase = draw.uniform(0.08, 0.5), 2 * np.pi * draw.uniform()
    burst = np.square(0.5 + 0.5 * np.sin(two_pi * column(burst_hz) * time + column(burst_phase)))
    density = np.float32(np.sqrt(min(sampling_rate, 500.0) / 500.0))
    envelope = column(white_mv) + column(muscle_mv) * burst[:, None, :].astype(np.float32)
    white *= envelope
    white *= density

    coarse *= column(drift_mv)
    white += np.matmul(coarse, basis)

    # Breathing moves all electrodes, each by its own amount.
    depth = 0.030 * wander[:, None] * draw.normals(_ELECTRODES)
    breath_phase = 2 * np.pi * draw.uniform()
    breath = np.sin(two_pi * column(breathing_hz) * time + column(breath_phase))
    white += column(depth) * breath[:, None, :]

    hum = _mains(draw, level, time, sampling_rate)
    white += hum
    _electrode_motion(white, draw, band, time)
    return white


def _mains(draw: Draws, level: FloatArray, time: Float32Array, sampling_rate: float) -> Float32Array:
    """Hum of 50 or 60 Hz in a third of the records; gone where the recorder's own filter would remove it."""
    frequency = np.where(draw.chance(0.5), 50.0, 60.0)
    there = draw.chance(0.35) & (frequency < 0.45 * sampling_rate)
    amplitude = there * 0.010 * np.sqrt(level) * np.exp(0.6 * draw.normal())
    share = amplitude[:, None] * (0.3 + 0.7 * draw.block(_ELECTRODES))
    phase = 2 * np.pi * draw.uniform()
    wave = np.sin(2 * np.pi * frequency[:, None] * time + phase[:, None]).astype(np.float32)
    return share.astype(np.float32)[:, :, None] * wave[:, None, :]


def _electrode_motion(noise: Float32Array, draw: Draws, band: IntArray, time: Float32Array) -> None:
    """In some records one electrode jumps and creeps back."""
    chance = np.asarray([0.02, 0.10, 0.35])[band]
    moved = np.flatnonzero(draw.chance(chance))
    electrode = (draw.uniform() * _ELECTRODES).astype(np.int64)
    when = draw.uniform(0.05, 0.95) * float(time[-1])
    size = draw.normal(0.0, 0.35)
    recovery = draw.uniform(0.15, 0.9)
    if len(moved):
        late = time - when[moved, None].astype(np.float32)
        rise = 1.0 / (1.0 + np.exp(np.clip(-late / np.float32(0.012), -30.0, 30.0)))
        decay = np.exp(-np.maximum(late, 0.0) / recovery[moved, None].astype(np.float32))
        noise[moved, electrode[moved]] += (size[moved, None] * rise * decay).astype(np.float32)

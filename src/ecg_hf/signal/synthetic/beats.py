"""Draw P waves, QRS complexes and ST-T at the beats' places, in the eight independent leads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ecg_hf.signal.synthetic.dipole import flat_top
from ecg_hf.signal.synthetic.draws import FloatArray, IntArray
from ecg_hf.signal.synthetic.findings import Plan
from ecg_hf.signal.synthetic.morphologies import Complexes, Hearts
from ecg_hf.signal.synthetic.rhythms import BeatKind, Beats

__all__ = ["draw_beats"]

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_BEFORE_S, _AFTER_S = 1.5, 1.5  # room for beats that begin or end outside the recording
_P_WINDOW_S = (-0.06, 0.24)
_QRS_WINDOW_S = (-0.06, 0.26)
_ST_T_WINDOW_S = (0.0, 0.90)
_PACING_SPIKE_S = 0.0012


class _Canvas:
    """Leads ``(n, 8, samples)`` with margins, on which pieces of beats are added."""

    def __init__(self, count: int, samples: int, rate: float) -> None:
        self.rate = rate
        self.samples = samples
        self.margin = int(np.ceil(_BEFORE_S * rate))
        self.padded = np.zeros(
            (count, 8, samples + self.margin + int(np.ceil(_AFTER_S * rate))), dtype=np.float32
        )

    def grid(self, onset: FloatArray, window_s: tuple[float, float]) -> tuple[IntArray, Float32Array]:
        """First padded sample of each piece, and its samples' times after onset ``(pieces, 1, width)``."""
        width = int(np.ceil((window_s[1] - window_s[0]) * self.rate)) + 1
        start = np.floor((onset + window_s[0]) * self.rate).astype(np.int64)
        time = (start[:, None] + np.arange(width)) / self.rate - onset[:, None]
        return start + self.margin, time.astype(np.float32)[:, None, :]

    def add(self, rows: IntArray, ordinals: IntArray, starts: IntArray, pieces: Float32Array) -> None:
        """Add ``(pieces, 8, width)``; within one ordinal every record occurs at most once."""
        view = sliding_window_view(self.padded, pieces.shape[2], axis=2, writeable=True)
        inside = (starts >= 0) & (starts < view.shape[2])
        for ordinal in np.unique(ordinals[inside]):
            chosen = np.flatnonzero(inside & (ordinals == ordinal))
            view[rows[chosen], :, starts[chosen]] += pieces[chosen]

    @property
    def leads(self) -> Float32Array:
        """``(n, 8, samples)`` without the margins."""
        return np.ascontiguousarray(self.padded[:, :, self.margin : self.margin + self.samples])


def draw_beats(plan: Plan, hearts: Hearts, beats: Beats, samples: int, rate: float) -> Float32Array:
    """The noise-free ventricular and sinus activity of a batch.

    Args:
        plan: What the records show.
        hearts: Their morphology.
        beats: Their beats.
        samples: Length.
        rate: Sampling rate in Hz.

    Returns:
        ``I II V1..V6`` in mV, float32 ``(n, 8, samples)``.
    """
    canvas = _Canvas(len(plan), samples, rate)
    near = (beats.times > -1.0) & (beats.times < samples / rate + 0.6)
    rows, ordinals = np.nonzero(near)
    kinds, times = beats.kinds[rows, ordinals], beats.times[rows, ordinals]
    # The heart moves with the diaphragm: complexes swell and shrink a little.
    breath = (1.0 + 0.035 * np.sin(beats.breathing_phase[rows, ordinals] + 0.8)).astype(np.float32)[
        :, None, None
    ]
    premature = kinds == BeatKind.VENTRICULAR_PREMATURE

    qt = _qt_intervals(hearts, beats)[rows, ordinals]
    for complexes, chosen in ((hearts.usual, ~premature), (hearts.premature, premature)):
        r, o = rows[chosen], ordinals[chosen]
        onset = times[chosen] - complexes.peak[r]
        starts, time = canvas.grid(onset, _QRS_WINDOW_S)
        canvas.add(r, o, starts, _qrs(complexes, r, time) * breath[chosen])
        starts, time = canvas.grid(onset, _ST_T_WINDOW_S)
        extra = 0.07 if complexes is hearts.premature else 0.0
        canvas.add(r, o, starts, _st_t(complexes, r, time, qt[chosen] + extra) * breath[chosen])

    with_p: BoolArray = np.any(hearts.p, axis=(1, 2, 3))
    has_p = with_p[rows] & ~premature
    r, o = rows[has_p], ordinals[has_p]
    starts, time = canvas.grid(times[has_p] - hearts.usual.peak[r] - hearts.pr[r], _P_WINDOW_S)
    which = (kinds[has_p] == BeatKind.ATRIAL_PREMATURE).astype(np.int64)
    canvas.add(r, o, starts, _p_wave(hearts, r, which, time))

    paced = plan.has("PACE")[rows] & ~premature
    r, o = rows[paced], ordinals[paced]
    starts, time = canvas.grid(times[paced] - hearts.usual.peak[r] - 0.012, (-0.03, 0.03))
    canvas.add(r, o, starts, _spike(hearts, r, time, rate))
    return canvas.leads


def _qt_intervals(hearts: Hearts, beats: Beats) -> FloatArray:
    """QT of every beat: it follows the rate of the last beats, not the last interval alone."""
    rr = beats.rr
    recent = 0.25 * rr
    for lag, weight in ((1, 0.20), (2, 0.15), (3, 0.10)):
        recent[:, lag:] += weight * rr[:, :-lag]
        recent[:, :lag] += weight * rr[:, :lag]
    recent += 0.30 * rr.mean(axis=1, keepdims=True)
    return hearts.qtc[:, None] * np.cbrt(recent)


def _single(values: FloatArray) -> Float32Array:
    return values.astype(np.float32)


def _qrs(complexes: Complexes, rows: IntArray, time: Float32Array) -> Float32Array:
    duration = complexes.duration[rows, None]
    center = _single(complexes.places[rows] * duration)[:, :, None]
    width = _single(complexes.widths[rows] * duration)[:, :, None]
    kernels = flat_top(time, center, width, width)
    leads: Float32Array = np.matmul(_single(complexes.qrs[rows]), kernels)
    return leads


def _st_t(complexes: Complexes, rows: IntArray, time: Float32Array, qt: FloatArray) -> Float32Array:
    """ST plateau from the J point into the T wave, and an asymmetric T wave that ends at QT."""
    duration = complexes.duration[rows]
    rise, fall = 0.150 * qt, 0.095 * qt
    peak = qt - 2.1 * fall
    begin, end = duration + 0.004, np.maximum(peak - 0.9 * rise, duration + 0.03)
    middle, half = 0.5 * (begin + end), 0.5 * (end - begin)
    soft = np.full_like(middle, 0.016)
    center = _single(np.stack([middle, peak], axis=1))[:, :, None]
    left = _single(np.stack([soft, rise], axis=1))[:, :, None]
    right = _single(np.stack([0.45 * rise, fall], axis=1))[:, :, None]
    plateau = _single(np.stack([half, np.zeros_like(half)], axis=1))[:, :, None]
    kernels = flat_top(time, center, left, right, plateau)
    leads: Float32Array = np.matmul(_single(complexes.st_t[rows]), kernels)
    return leads


def _p_wave(hearts: Hearts, rows: IntArray, which: IntArray, time: Float32Array) -> Float32Array:
    duration = hearts.p_duration[rows, None]
    center = _single(hearts.p_places[rows] * duration)[:, :, None]
    width = _single(np.broadcast_to(0.165 * duration, (len(rows), 2)).copy())[:, :, None]
    kernels = flat_top(time, center, width, width)
    leads: Float32Array = np.matmul(_single(hearts.p[rows, which]), kernels)
    return leads


def _spike(hearts: Hearts, rows: IntArray, time: Float32Array, rate: float) -> Float32Array:
    """Pacing spike; a slow recorder smears it, keeping its area."""
    width = max(_PACING_SPIKE_S, 0.45 / rate)
    shape = np.exp(np.float32(-0.5) * np.square(time / np.float32(width))) * np.float32(
        _PACING_SPIKE_S / width
    )
    direction = np.asarray([0.7, 1.2, -0.5])
    gain = np.matmul(hearts.lead_field[rows], direction)
    spike: Float32Array = _single(gain)[:, :, None] * shape
    return spike

"""Which lead and which moment a model's tokens stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WAVES, WaveTimes, annotated_span

__all__ = [
    "NUM_CLASSES",
    "UNKNOWN",
    "TokenLayout",
    "WaveRules",
    "classes_at",
    "token_layout",
    "token_times",
    "waves_from_probabilities",
]


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Order of the tokens of ``last_hidden_state``.

    Attributes:
        steps: Consecutive tokens in time, each of ``samples_per_token`` samples.
        samples_per_token: Samples of the model's input between the starts of neighbours.
        leads: Leads that follow one another, each with its ``steps``; None where a token stands for all leads.
        before: Tokens ahead of these that stand for no moment, such as [CLS].
    """

    steps: int
    samples_per_token: int
    leads: int | None = None
    before: int = 0

    @property
    def count(self) -> int:
        """Tokens in all."""
        return self.before + self.steps * (self.leads or 1)


def token_layout(model: Any, samples: int, tokens: int) -> TokenLayout:
    """Layout of the ``tokens`` a model makes of ``samples`` samples.

    A model that knows better has a method ``token_layout(samples, tokens) -> TokenLayout``. Otherwise the
    configuration tells: ``patch_size`` (or ``samples_per_step``), and ``num_leads`` or ``lead_names``.

    * ``leads * (samples // patch)`` tokens are the patches of each lead in turn (ECG-JEPA, CG-DMER);
    * one token more than that is a class token that stands first (CoRe-ECG);
    * ``samples / patch`` tokens, rounded up or down, are steps in time of all leads together (ECG-CPC, ACL-ECG).

    Args:
        model: Model with a ``config``.
        samples: Samples of its input.
        tokens: Tokens it gives for them.

    Raises:
        ConfigurationError: if the configuration does not tell, as for models whose tokens are beats.
    """
    own = getattr(model, "token_layout", None)
    if own is not None:
        layout: TokenLayout = own(samples, tokens)
        return layout
    config = getattr(model, "config", None)
    # As attributes of the class, too: a model's tokens may follow from other fields.
    patch = int(getattr(config, "patch_size", None) or getattr(config, "samples_per_step", None) or 0)
    leads = int(getattr(config, "num_leads", None) or 0)
    if patch > 0:
        if leads > 1:
            steps = samples // patch
            if tokens - leads * steps in (0, 1):
                return TokenLayout(steps, patch, leads, tokens - leads * steps)
        if tokens in (samples // patch, -(-samples // patch)):
            return TokenLayout(tokens, patch)
    raise ConfigurationError(
        f"the configuration does not tell which moments {tokens} tokens of {samples} samples stand for",
        value=tokens,
    )


def token_times(
    model: Any, samples: int, tokens: int
) -> tuple[npt.NDArray[np.intp] | None, npt.NDArray[np.intp]]:
    """Lead and first sample of every token.

    Args:
        model: See :func:`token_layout`.
        samples: Samples of the model's input.
        tokens: Tokens it gives for them.

    Returns:
        Row of the model's leads ``(tokens,)``, -1 for tokens of no moment, or None where tokens stand for all leads;
        first sample ``(tokens,)``, -1 likewise.
    """
    layout = token_layout(model, samples, tokens)
    starts = np.arange(layout.steps) * layout.samples_per_token
    nothing = np.full(layout.before, -1, dtype=np.intp)
    first = np.concatenate([nothing, np.tile(starts, layout.leads or 1)])
    if layout.leads is None:
        return None, first
    return np.concatenate([nothing, np.repeat(np.arange(layout.leads), layout.steps)]), first


FloatArray = npt.NDArray[np.float64]


NUM_CLASSES = 1 + len(WAVES)
"""Background, P, QRS, T."""


UNKNOWN = -1
"""Class of a moment nobody judged."""


# Classes are written in this order, later ones over earlier ones, where marks of two waves overlap.
_WRITTEN = ("P", "T", "QRS")


@dataclass(frozen=True, slots=True)
class WaveRules:
    """How probabilities become waves.

    1. Probabilities are interpolated linearly to ``rate_hz``, so that a boundary lies where two classes are equally
       likely and not on the grid of the model's input;
    2. each class is smoothed by a running median of ``smooth_ms``, and the likeliest class taken;
    3. runs of one wave that are less than ``join_ms`` apart, with background alone between them, become one;
    4. runs shorter than the wave's shortest duration are dropped.

    A run that begins with the first moment, or ends with the last, has no such boundary (NaN). The peak of a wave is
    given as its middle.

    The durations are ours: half of what 1 % of the waves of 40 recordings of LUDB stay below (P 52, QRS 64, T 92 ms).

    Attributes:
        rate_hz: Rate on which boundaries are read.
        smooth_ms: Width of the running median.
        join_ms: Shortest pause between two waves of one kind.
        shortest_ms: Wave -> shortest duration.
    """

    rate_hz: float = 500.0
    smooth_ms: float = 30.0
    join_ms: float = 40.0
    shortest_ms: tuple[float, float, float] = (26.0, 32.0, 46.0)

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.rate_hz > 0 or min(self.smooth_ms, self.join_ms, *self.shortest_ms) < 0:
            raise ConfigurationError("rate_hz must be positive and no duration negative", value=self)


def classes_at(
    waves: Mapping[str, WaveTimes], times_ms: FloatArray, doubt_ms: float = 150.0
) -> npt.NDArray[np.int64]:
    """Class of every moment of one lead.

    Args:
        waves: Annotated waves of the lead.
        times_ms: ``(moments,)`` ascending.
        doubt_ms: Where one boundary of a wave is not marked, moments up to this far from its peak on that side are
            unknown.

    Returns:
        int64 ``(moments,)``: 0 background, 1 P, 2 QRS, 3 T, :data:`UNKNOWN` outside the annotated span.
    """
    span = annotated_span(waves)
    if span is None:
        return np.full(len(times_ms), UNKNOWN, dtype=np.int64)
    classes = np.where((times_ms >= span[0]) & (times_ms <= span[1]), 0, UNKNOWN).astype(np.int64)
    for wave in _WRITTEN:
        if wave not in waves:
            continue
        found = waves[wave]
        number = 1 + WAVES.index(wave)
        for onset, peak, offset in zip(found.onset, found.peak, found.offset, strict=True):
            start, stop = (peak if np.isnan(end) else end for end in (onset, offset))
            classes[_between(times_ms, start, stop)] = number
            if np.isnan(onset):
                classes[_between(times_ms, peak - doubt_ms, peak)] = UNKNOWN
            if np.isnan(offset):
                classes[_between(times_ms, peak, peak + doubt_ms)] = UNKNOWN
    return classes


def _between(times: FloatArray, start: float, stop: float) -> slice:
    # A hair of room: 0.1 s at 100 Hz must be its tenth sample whatever the last bit says.
    return slice(
        int(np.searchsorted(times, start - 1e-6)), int(np.searchsorted(times, stop + 1e-6, side="right"))
    )


def waves_from_probabilities(
    probabilities: npt.NDArray[np.floating], sampling_rate: float, rules: WaveRules | None = None
) -> dict[str, WaveTimes]:
    """Waves of one lead.

    Args:
        probabilities: ``(samples, 4)``: background, P, QRS, T.
        sampling_rate: Hertz.
        rules: How; see :class:`WaveRules`.

    Raises:
        ConfigurationError: if the shape is wrong.
    """
    rules = rules or WaveRules()
    if probabilities.ndim != 2 or probabilities.shape[1] != NUM_CLASSES or not len(probabilities):
        raise ConfigurationError(
            f"probabilities must be (samples, {NUM_CLASSES}), got {probabilities.shape}",
            value=probabilities.shape,
        )
    times = np.arange(len(probabilities)) * (1000.0 / sampling_rate)
    step = 1000.0 / rules.rate_hz
    grid = np.arange(0.0, times[-1] + step / 2, step)
    fine = np.stack([np.interp(grid, times, column) for column in probabilities.T], axis=1)
    width = 2 * round(rules.smooth_ms / step / 2) + 1
    classes = median_filter(fine, size=(width, 1), mode="nearest").argmax(axis=1)
    return {wave: _waves_of(classes, number, step, rules) for number, wave in enumerate(WAVES, start=1)}


def _waves_of(classes: npt.NDArray[np.intp], number: int, step: float, rules: WaveRules) -> WaveTimes:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (classes == number).astype(np.int8), [0]])))
    runs: list[list[int]] = []
    for first, last in zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
        pause = classes[runs[-1][1] + 1 : first] if runs else classes[:0]
        if runs and len(pause) * step < rules.join_ms and not pause.any():
            runs[-1][1] = last
        else:
            runs.append([first, last])
    shortest = rules.shortest_ms[number - 1]
    kept = np.array([run for run in runs if (run[1] - run[0]) * step >= shortest], dtype=np.float64).reshape(
        -1, 2
    )
    onset, offset = kept[:, 0] * step, kept[:, 1] * step
    middle = (onset + offset) / 2
    onset = np.where(kept[:, 0] == 0, np.nan, onset)
    offset = np.where(kept[:, 1] == len(classes) - 1, np.nan, offset)
    return WaveTimes(onset, middle, offset)

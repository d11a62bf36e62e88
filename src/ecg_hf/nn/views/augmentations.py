"""Views as data: a configuration names augmentations with physical units, in order.

An entry is ``{"op": "time_out", "share": [0.2, 0.4]}``; ``"p": 0.5`` applies it to half of the records, and
``"snr_db": [6, 24]`` makes what it adds to a record so much weaker than the record. All random numbers are uniform
and drawn beforehand (:func:`count_draws` says how many), so that a view is a function of the signal and its draws.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.filtering import zero_phase_bandpass
from ecg_hf.nn.views.cardiac import render, render_mask, scale_crop

__all__ = ["AUGMENTATIONS", "Signals", "apply_views", "check_views", "count_draws", "lead_locked"]

_ADDITIVE = ("noise", "wander", "powerline")

# Limb leads as combinations of I and II.
_LIMB_LEADS = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}

_INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_INVERSE_DOWER = (
    (0.156, -0.009, -0.172, -0.073, 0.122, 0.231, 0.239, 0.193),
    (-0.227, 0.886, 0.057, -0.019, -0.106, -0.022, 0.040, 0.048),
    (0.021, 0.102, -0.228, -0.310, -0.245, -0.063, 0.054, 0.108),
)
"""Rows X, Y and Z of the dipole from the independent leads."""


class Signals(NamedTuple):
    """A batch of recordings on its way through a view.

    Attributes:
        values: float32 ``(batch, leads, samples)``; missing leads and padding are zeros.
        mask: bool ``(batch, samples)``, False for padding; None without padding.
        lead_names: Leads, in the order of ``values``.
        sampling_rate: Hertz.
    """

    values: Tensor
    mask: Tensor | None
    lead_names: Sequence[str]
    sampling_rate: float


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One operation.

    Attributes:
        apply: ``(signals, draws, **options)`` to the changed signals.
        draws: Uniform numbers per record, by leads and samples.
    """

    apply: Callable[..., Signals]
    draws: Callable[[int, int], int]

    @property
    def options(self) -> dict[str, Any]:
        """Options and their defaults."""
        parameters = inspect.signature(self.apply).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


AUGMENTATIONS: dict[str, Augmentation] = {}
"""Operations by name."""


def _augmentation(
    draws: Callable[[int, int], int],
) -> Callable[[Callable[..., Signals]], Callable[..., Signals]]:
    def register(function: Callable[..., Signals]) -> Callable[..., Signals]:
        AUGMENTATIONS[function.__name__] = Augmentation(function, draws)
        return function

    return register


def _between(uniform: Tensor, bounds: Sequence[float]) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


@_augmentation(lambda leads, samples: 2)
def crop_resize(signals: Signals, draws: Tensor, *, length: Sequence[float] = (0.5, 1.0)) -> Signals:
    """Stretch a window of the record to the record's length, all leads alike.

    Lead identities hold; the apparent heart rate falls by the window's share, drawn from ``length``.
    """
    samples = signals.values.shape[-1]
    no_peaks = torch.empty(len(draws), 0, dtype=torch.int64, device=draws.device)
    view = scale_crop(_between(draws[:, 0], length), draws[:, 1], samples, no_peaks)
    mask = None if signals.mask is None else render_mask(signals.mask, view)
    return signals._replace(values=render(signals.values, view), mask=mask)


@_augmentation(lambda leads, samples: 1)
def segment(
    signals: Signals, draws: Tensor, *, start: Sequence[float] = (0.0, 0.5), length: float = 0.5
) -> Signals:
    """Cut a stretch out, all leads alike: ``length`` and ``start`` are shares of the record. Lead identities hold.

    The view is shorter than the record, so this entry has no ``p``.
    """
    samples = signals.values.shape[-1]
    width = min(max(1, round(length * samples)), samples)
    first = (_between(draws[:, 0], start) * samples).round().long().clamp(0, samples - width)
    index = first[:, None] + torch.arange(width, device=draws.device)
    mask = None if signals.mask is None else signals.mask.gather(1, index)
    return signals._replace(values=_at(signals.values, index), mask=mask)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Samples of all leads by index ``(batch, samples)``."""
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))


@_augmentation(lambda leads, samples: 2)
def time_out(signals: Signals, draws: Tensor, *, share: Sequence[float] = (0.2, 0.4)) -> Signals:
    """Zero one window of all leads, of a ``share`` of the record. Lead identities hold."""
    samples = signals.values.shape[-1]
    width = _between(draws[:, 0], share) * samples
    start = (draws[:, 1] * (samples - width))[:, None]
    index = torch.arange(samples, device=draws.device)
    kept = (index < start) | (index >= start + width[:, None])
    return signals._replace(values=signals.values * kept[:, None, :])


@_augmentation(lambda leads, samples: leads * samples)
def noise(signals: Signals, draws: Tensor, *, std: float = 0.02, above_hz: float = 0.0) -> Signals:
    """Add white noise of ``std`` (units of the signal), independent in every lead and sample.

    ``above_hz`` takes its slower part out afterwards, which makes it much like that of muscles.
    """
    values = signals.values
    normal = torch.special.ndtri(draws.clamp(1e-6, 1.0 - 1e-6))
    added = std * normal[:, : values[0].numel()].reshape(values.shape)
    if above_hz > 0.0:
        added = zero_phase_bandpass(added, signals.sampling_rate, above_hz, math.inf)
    return signals._replace(values=values + added)


@_augmentation(lambda leads, samples: samples)
def scaling(signals: Signals, draws: Tensor, *, std: float = 0.1) -> Signals:
    """Multiply each moment by a normal factor of mean 1 and ``std``, all leads alike. Lead identities hold.

    Paper: TS-TCC, whose code has a mean of 2.
    """
    normal = torch.special.ndtri(draws.clamp(1e-6, 1.0 - 1e-6))
    factors = 1.0 + std * normal[:, : signals.values.shape[-1]]
    return signals._replace(values=signals.values * factors[:, None])


_MOST_SEGMENTS = 16


@_augmentation(lambda leads, samples: 2 * _MOST_SEGMENTS)
def permutation(signals: Signals, draws: Tensor, *, segments: float = 5) -> Signals:
    """Cut the record into up to ``segments`` pieces at random places and shuffle them, all leads alike.

    Lead identities hold; rhythm does not, and cuts are no physiology: TS-TCC alone has this view.

    Raises:
        ConfigurationError: for no segments, or more than 16.
    """
    if not 1 <= segments <= _MOST_SEGMENTS:
        raise ConfigurationError(f"segments must be 1 to {_MOST_SEGMENTS}", value=segments)
    samples = signals.values.shape[-1]
    count = (draws[:, :1] * int(segments)).floor() + 1.0
    cuts = (draws[:, 1:_MOST_SEGMENTS] * samples).floor()
    unused = torch.arange(1, _MOST_SEGMENTS, device=draws.device) >= count
    cuts = cuts.masked_fill(unused, float(samples))
    time = torch.arange(samples, device=draws.device)
    piece = (cuts[:, :, None] <= time).sum(1)
    index = draws[:, _MOST_SEGMENTS:].gather(1, piece).argsort(dim=1, stable=True)
    mask = None if signals.mask is None else signals.mask.gather(1, index)
    return signals._replace(values=_at(signals.values, index), mask=mask)


@_augmentation(lambda leads, samples: 0)
def bandpass(signals: Signals, draws: Tensor, *, low_hz: float = 0.5, high_hz: float = 40.0) -> Signals:
    """Take out what is slower or faster, without delay. Lead identities hold."""
    return signals._replace(
        values=zero_phase_bandpass(signals.values, signals.sampling_rate, low_hz, high_hz)
    )


@_augmentation(lambda leads, samples: leads)
def gain(
    signals: Signals, draws: Tensor, *, factor: Sequence[float] = (0.7, 1.4), per_lead: bool = False
) -> Signals:
    """Multiply by a factor whose logarithm is uniform, one of the record or one of each lead.

    Lead identities hold unless ``per_lead``.
    """
    uniform = draws if per_lead else draws[:, :1]
    factors = _between(uniform, [math.log(bound) for bound in factor]).exp()
    return signals._replace(values=signals.values * factors[..., None])


@_augmentation(lambda leads, samples: 6 + 2 + leads)
def wander(
    signals: Signals,
    draws: Tensor,
    *,
    amplitude: Sequence[float] = (0.0, 0.2),
    frequency_hz: Sequence[float] = (0.05, 0.5),
) -> Signals:
    """Add three slow sines, each lead with its own ``amplitude`` (units of the signal). Lead identities hold."""
    time = torch.arange(signals.values.shape[-1], device=draws.device) / signals.sampling_rate
    frequency, phase = _between(draws[:, :3, None], frequency_hz), draws[:, 3:6, None]
    wave = torch.sin(2.0 * math.pi * (frequency * time + phase)).mean(1)
    size = lead_locked(_between(draws[:, 6:], amplitude), signals.lead_names)
    return signals._replace(values=signals.values + size[:, :, None] * wave[:, None, :])


@_augmentation(lambda leads, samples: 2 + 2 + leads)
def powerline(
    signals: Signals,
    draws: Tensor,
    *,
    amplitude: Sequence[float] = (0.0, 0.2),
    frequency_hz: Sequence[float] = (50.0, 60.0),
) -> Signals:
    """Add mains hum of one of the frequencies, each lead with its own ``amplitude``. Lead identities hold.

    Signals of 120 Hz or less are left as they are: they can't hold it.
    """
    if signals.sampling_rate <= 2.0 * max(frequency_hz):
        return signals
    time = torch.arange(signals.values.shape[-1], device=draws.device) / signals.sampling_rate
    frequency = torch.where(draws[:, :1] < 0.5, frequency_hz[0], frequency_hz[-1])
    wave = torch.sin(2.0 * math.pi * (frequency * time + draws[:, 1:2]))
    size = lead_locked(_between(draws[:, 2:], amplitude), signals.lead_names)
    return signals._replace(values=signals.values + size[:, :, None] * wave[:, None, :])


@_augmentation(lambda leads, samples: leads)
def lead_mask(signals: Signals, draws: Tensor, *, probability: float = 0.5) -> Signals:
    """Zero each lead with a probability; at least one stays."""
    kept = (draws >= probability) | (draws == draws.amax(1, keepdim=True))
    return signals._replace(values=signals.values * kept[:, :, None])


@_augmentation(lambda leads, samples: leads)
def lead_time_out(signals: Signals, draws: Tensor, *, share: float = 0.5) -> Signals:
    """Zero a window of each lead, each at another place; a window that reaches the end goes on at the beginning."""
    samples = signals.values.shape[-1]
    start = (draws * samples).floor()[..., None]
    index = torch.arange(samples, device=draws.device)
    masked = (index - start) % samples < math.floor(share * samples)
    return signals._replace(values=signals.values.masked_fill(masked, 0.0))


@_augmentation(lambda leads, samples: 6)
def vcg(
    signals: Signals,
    draws: Tensor,
    *,
    degrees: Sequence[float] = (-45.0, 45.0),
    scale: Sequence[float] = (1.0, 1.5),
) -> Signals:
    """Rotate the heart's dipole about z, y and x, scale it along x, y and z, and look at it by the leads again.

    The dipole is what the inverse Dower matrix makes of I, II and V1 to V6; what no dipole explains is lost. Limb
    leads follow from I and II. Paper: 3KG; the first of a record's draws is the angle about z.

    Raises:
        ConfigurationError: if one of the eight leads is not among the signals'.
    """
    absent = [lead for lead in _INDEPENDENT_LEADS if lead not in signals.lead_names]
    if absent:
        raise ConfigurationError(f"vcg needs leads {', '.join(absent)} too", value=absent)
    about_z, about_y, about_x = torch.deg2rad(_between(draws[:, :3], degrees)).unbind(1)
    turn = _rotation(about_x, 1, 2) @ _rotation(about_y, 2, 0) @ _rotation(about_z, 0, 1)
    moved = _between(draws[:, 3:6], scale)[:, :, None] * turn
    inverse_dower = torch.tensor(_INVERSE_DOWER, dtype=torch.float64)
    to_leads = torch.linalg.pinv(inverse_dower)
    rows = [signals.lead_names.index(lead) for lead in _INDEPENDENT_LEADS]
    matrix = to_leads.to(moved) @ moved @ inverse_dower.to(moved)
    seen = matrix.to(signals.values) @ signals.values[:, rows]
    limb = seen.new_tensor([_LIMB_LEADS[name] for name in signals.lead_names if name in _LIMB_LEADS])
    derived = iter((limb @ seen[:, :2]).unbind(1))
    leads = [
        next(derived) if name in _LIMB_LEADS else seen[:, _INDEPENDENT_LEADS.index(name)]
        for name in signals.lead_names
    ]
    return signals._replace(values=torch.stack(leads, dim=1))


def _rotation(angle: Tensor, first: int, second: int) -> Tensor:
    """Rotations in the plane of two axes by angles ``(batch,)``: ``(batch, 3, 3)``."""
    matrix = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, second, first] = angle.sin()
    matrix[:, first, second] = -angle.sin()
    return matrix


def _at_ratio(signals: Signals, changed: Signals, decibels: Tensor) -> Signals:
    """``signals`` with what was added to them at a ratio of the powers, over all leads, of ``decibels``."""
    added = changed.values - signals.values
    power, noise_power = (values.square().mean((1, 2)) for values in (signals.values, added))
    factor = (power / noise_power.clamp(min=1e-12)).sqrt() * 10.0 ** (-decibels / 20.0)
    return changed._replace(values=signals.values + factor[:, None, None] * added)


def lead_locked(amplitudes: Tensor, lead_names: Sequence[str]) -> Tensor:
    """Amplitudes of additive disturbances that obey Einthoven and Goldberger, as those of electrodes do.

    Args:
        amplitudes: float ``(batch, 2 + leads)``: of I, of II, and of each lead, which counts for chest leads alone.
        lead_names: The leads.

    Returns:
        float ``(batch, leads)``.
    """
    columns = []
    for index, name in enumerate(lead_names):
        if name in _LIMB_LEADS:
            one, two = _LIMB_LEADS[name]
            columns.append(one * amplitudes[:, 0] + two * amplitudes[:, 1])
        else:
            columns.append(amplitudes[:, 2 + index])
    return torch.stack(columns, dim=1)


def check_views(views: Sequence[Mapping[str, Any]], field: str = "views") -> None:
    """Check names and kinds of values of the entries of a configuration.

    Args:
        views: The entries.
        field: What the configuration calls them.

    Raises:
        ConfigurationError: naming the entry.
    """
    for number, entry in enumerate(views):
        where = f"{field}[{number}]"
        name = entry.get("op")
        if name not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            raise ConfigurationError(f"{where}: unknown op {name!r}; known: {known}", value=name)
        options = AUGMENTATIONS[name].options
        for option, value in entry.items():
            if option == "op":
                continue
            if option == "p":
                fits = name != "segment" and _is_number(value) and 0.0 <= value <= 1.0
            elif option == "snr_db":
                fits = name in _ADDITIVE and _is_range(value)
            elif option not in options:
                raise ConfigurationError(
                    f"{where}: {name} has no option {option!r}; it has {', '.join(options)} and p",
                    value=option,
                )
            elif isinstance(options[option], tuple):
                fits = _is_range(value)
            elif isinstance(options[option], bool):
                fits = isinstance(value, bool)
            else:
                fits = _is_number(value)
            if not fits:
                raise ConfigurationError(f"{where}: {option} of {name} can't be {value!r}", value=value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_range(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return bool(value[0] <= value[1])


def count_draws(views: Sequence[Mapping[str, Any]], leads: int, samples: int) -> int:
    """Uniform numbers that :func:`apply_views` needs per record."""
    return sum(
        AUGMENTATIONS[entry["op"]].draws(leads, samples) + ("snr_db" in entry) + ("p" in entry)
        for entry in views
    )


@torch.no_grad()
def apply_views(
    signals: Signals, views: Sequence[Mapping[str, Any]], draws: Tensor, *, max_samples: int
) -> Signals:
    """One view of each record: the entries in turn.

    Args:
        signals: The batch.
        views: Entries of a configuration.
        draws: float ``(batch, draws)`` uniform in [0, 1), :func:`count_draws` of them or more.
        max_samples: The number of samples that the draws were counted for.
    """
    draws = draws.float()
    leads, used = signals.values.shape[1], 0
    for entry in views:
        operation = AUGMENTATIONS[entry["op"]]
        count = operation.draws(leads, max_samples)
        options = {name: value for name, value in entry.items() if name not in ("op", "p", "snr_db")}
        changed = operation.apply(signals, draws[:, used : used + count], **options)
        used += count
        if "snr_db" in entry:
            changed = _at_ratio(signals, changed, _between(draws[:, used], entry["snr_db"]))
            used += 1
        if "p" in entry:
            chosen = draws[:, used] < entry["p"]
            values = torch.where(chosen[:, None, None], changed.values, signals.values)
            mask = changed.mask
            if mask is not None and signals.mask is not None:
                mask = torch.where(chosen[:, None], mask, signals.mask)
            changed = changed._replace(values=values, mask=mask)
            used += 1
        signals = changed
    return signals

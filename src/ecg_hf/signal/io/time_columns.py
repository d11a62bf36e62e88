"""Time columns of tables: which columns hold time, in what unit, and the sampling rate they imply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import MetadataMissing, SamplingRateError
from ecg_hf.signal.record import Note
from ecg_hf.signal.units import checked_sampling_rate

__all__ = [
    "TimeColumn",
    "is_counter",
    "is_index_name",
    "is_ramp",
    "is_time_name",
    "seconds_of",
    "stated_rate",
    "time_unit",
]

_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "micros", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), 1e-9),
}  # fmt: skip
_TIME_WORDS = {
    "time",
    "times",
    "timestamp",
    "timestamps",
    "t",
    "elapsed",
    "date",
    "datetime",
    "clock",
    *_UNITS,
}
_INDEX_WORDS = {"sample", "samples", "index", "idx", "n", "row", "no", "nr", "number", "frame", "unnamed"}
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
# Without a unit, assume the one that makes the rate that of an ECG; the range spans less than 1000, so only one can.
_PLAUSIBLE_HZ = (25.0, 20_000.0)
# A rate this near a whole number is that number: times are printed with few digits.
_NEAR = 1e-3
_MIN_RAMP = 16


class TimeColumn(NamedTuple):
    """A column that rises with time.

    Attributes:
        name: Its name, for messages.
        values: As written, or seconds where it was written as clock times.
        scale: Seconds per unit of ``values``, None where nothing says it.
    """

    name: str
    values: npt.NDArray[np.float64]
    scale: float | None


def _words(name: str) -> list[str]:
    return [
        word
        for word in re.split(r"[^a-z0-9]+", name.lower().replace("\u00b5", "u").replace("\u03bc", "u"))
        if word
    ]


def is_time_name(name: str) -> bool:
    """Whether a column's name says that it holds time: ``time``, ``Time (s)``, ``sensor timestamp [ns]``."""
    return any(word in _TIME_WORDS for word in _words(name))


def is_index_name(name: str) -> bool:
    """Whether a column's name says that it numbers the rows, or it has none."""
    words = [word for word in _words(name) if not word.isdigit()]
    return all(word in _INDEX_WORDS for word in words) and not name.strip().isdigit()


def time_unit(*texts: str | None) -> float | None:
    """Seconds per unit that the first of some texts states: a column's unit, then its name."""
    for text in texts:
        for word in _words(text or ""):
            if word in _UNITS:
                return _UNITS[word]
    return None


def seconds_of(cell: str) -> tuple[float, bool] | None:
    """A cell as a number, or as seconds if it is a clock time or a date; None if it is neither.

    Returns:
        The number, and whether it is in seconds because it was a clock time.
    """
    try:
        return float(cell), False
    except ValueError:
        pass
    text = cell.strip("[]() ")
    match = _CLOCK.fullmatch(text)
    if match:
        hours, minutes, seconds = match.groups()
        return int(hours or 0) * 3600.0 + int(minutes) * 60.0 + float(seconds.replace(",", ".")), True
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # Only differences matter, so count from the year 2000, which keeps the microseconds exact.
    return (moment.replace(tzinfo=None) - datetime(2000, 1, 1)).total_seconds(), True


def is_counter(values: npt.NDArray[np.float64]) -> bool:
    """Whether a column numbers the rows."""
    return len(values) > 1 and bool((np.diff(values) == 1.0).all())


def is_ramp(values: npt.NDArray[np.float64]) -> bool:
    """Whether a column rises in equal steps from row to row, as no lead does."""
    if len(values) < _MIN_RAMP or not np.isfinite(values).all():
        return False
    steps = np.diff(values)
    return bool(steps.min() > 0.0) and _unevenness(values) < 1.0


def _unevenness(values: npt.NDArray[np.float64]) -> float:
    """Largest distance from the straight line between the ends, in steps."""
    line = np.linspace(values[0], values[-1], len(values))
    return float(np.abs(values - line).max() * (len(values) - 1) / (values[-1] - values[0]))


def stated_rate(columns: Sequence[TimeColumn], given: float | None) -> tuple[float | None, tuple[Note, ...]]:
    """The sampling rate that time columns state, compared with each other and with the caller's.

    The rate is (n - 1) / (last - first), taken to the nearest integer where that is within 0.1 %.

    Args:
        columns: Time columns, of equal length.
        given: Rate of the caller in Hz.

    Returns:
        The rate, None if neither a time column nor the caller gives it; notes.

    Raises:
        SamplingRateError: if times descend, skip, or contradict each other or the caller.
    """
    found = [measured for column in columns if (measured := _measured(column, given)) is not None]
    notes = [note for _, _, _, note in found if note]
    found.sort(key=lambda one: one[1])
    for rate, doubt, name, _ in found:
        reference, whose = (given, "the caller") if given is not None else (found[0][0], found[0][2])
        if abs(rate / reference - 1.0) > max(_NEAR, doubt):
            raise SamplingRateError(
                f"column {name!r} says {rate:.6g} Hz, {whose} says {reference:.6g} Hz", value=rate
            )
    if given is not None or not found:
        return given, tuple(notes)
    rate, doubt, name, _ = found[0]
    if doubt > _NEAR:
        raise MetadataMissing(
            f"column {name!r} is too coarse to tell the sampling rate (about {rate:.4g} Hz); pass sampling_rate",
            value="sampling_rate",
        )
    whole = round(rate)
    if whole and abs(rate / whole - 1.0) <= _NEAR:
        rate = float(whole)
    notes.append(Note("sampling_rate_from_time", f"{rate:.6g} Hz, from the column {name!r}"))
    return checked_sampling_rate(rate), tuple(notes)


def _measured(column: TimeColumn, given: float | None) -> tuple[float, float, str, Note | None] | None:
    """Rate of one column, its relative doubt, the column's name and a note; None if it can't be told."""
    name, values, scale = column
    if len(values) < 2:
        return None
    if not np.isfinite(values).all():
        raise SamplingRateError(f"column {name!r} has rows without a time", value=name)
    steps = np.diff(values)
    if steps.min() < 0.0 or values[-1] <= values[0]:
        raise SamplingRateError(f"the times in column {name!r} do not ascend", value=name)
    if scale is None and is_counter(values):
        return None
    middle = float(np.median(steps))
    uneven = _unevenness(values)
    # Times that were rounded to less than a step repeat: they only bound the rate.
    if middle > 0.0 and steps.max() > 1.75 * middle and uneven > 1.0:
        row = int(steps.argmax()) + 1
        raise SamplingRateError(
            f"the times in column {name!r} jump after row {row} of the samples: samples are missing",
            value=row,
        )
    mean = float(values[-1] - values[0]) / len(steps)
    note = None
    if scale is None:
        fitting = [
            s for s in (1.0, 1e-3, 1e-6, 1e-9) if _PLAUSIBLE_HZ[0] <= 1.0 / (mean * s) <= _PLAUSIBLE_HZ[1]
        ]
        if given is not None:
            exact = [s for s in (1.0, 1e-3, 1e-6, 1e-9) if abs(1.0 / (mean * s * given) - 1.0) <= _NEAR]
            fitting = exact or fitting
        if not fitting:
            raise SamplingRateError(
                f"column {name!r} rises by {mean:.6g} a row, which in no unit of time is the rate of an ECG",
                value=mean,
            )
        scale = fitting[0]
        note = Note("time_unit_assumed", f"column {name!r} is taken to count {scale:g} s")
    doubt = 2.0 * uneven / len(steps) if uneven > 1.0 else 0.0
    return 1.0 / (mean * scale), doubt, name, note

"""Which of a file's signals are read as ECG leads, and under which names.

Both the file (names, units) and the caller (``lead_names=``, ``leads=``, ``unit=``) may describe a signal. Statements
that agree or complete each other are used, with a note; contradictions are errors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ecg_hf.errors import LeadError, MetadataMissing, UnknownUnit
from ecg_hf.signal.leads import (
    STANDARD_LEADS,
    is_generic_name,
    is_scalp_electrode,
    normalize_lead_name,
    normalize_lead_names,
)
from ecg_hf.signal.record import Note
from ecg_hf.signal.units import is_dimensionless, is_voltage, millivolts_per_unit

__all__ = ["Channels", "choose_channels", "stated_unit"]

# Words in the names of other signals stored beside an ECG, some of them in volts too; digits may follow.
_OTHER_WORDS = {
    "acc", "art", "bp", "flow", "hr", "imp", "leg", "loc", "mark", "o", "pos", "roc", "st", "stim", "time",
}  # fmt: skip
_OTHER_BEGINNINGS = (
    "abp", "accel", "airflow", "annot", "breath", "chin", "co2", "cvp", "eda", "eeg", "effort", "emg", "eog", "etco2",
    "event", "gsr", "gyro", "ibp", "icp", "light", "marker", "nasal", "nbp", "nibp", "pap", "pcg", "pcwp", "phono",
    "pleth", "position", "ppg", "press", "pulse", "resp", "rsp", "sao2", "scg", "snor", "spo2", "status", "stroke",
    "temp", "trig", "uap", "uvp",
)  # fmt: skip


class Channels(NamedTuple):
    """The signals to read.

    Attributes:
        rows: Their places in the file, in the order of ``names``.
        names: Canonical names.
        notes: On signals left out and names given by the caller.
    """

    rows: tuple[int, ...]
    names: tuple[str, ...]
    notes: tuple[Note, ...]


def choose_channels(
    written: Sequence[str | None],
    units: Sequence[str | None],
    *,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[str] | None = None,
    unit: str | None = None,
) -> Channels:
    """The ECG leads among a file's signals, or those the caller wants.

    Args:
        written: Name of each signal in the file, None where it has none.
        units: Unit of each signal in the file, None where it has none (volts are possible).
        lead_names: One name per signal (or per signal that is read) from the caller. It fills in absent, repeated and
            generic names such as ``ECG1``; any other name must be the file's.
        leads: Signals to read, in this order. By default all that are voltages and not named as something else.
        unit: Unit from the caller for signals that have none.

    Raises:
        MetadataMissing: if a signal that is read has no name.
        LeadError: if names are repeated, contradict the file's or are missing, or no signal looks like an ECG.
        UnknownUnit: if a signal asked for is not a voltage.
    """
    # The records of a dataset tend to have the same signals, so results are cached by their names.
    given = None if lead_names is None else normalize_lead_names(lead_names)
    wanted = None if leads is None else normalize_lead_names(leads)
    return _choose(tuple(written), tuple(units), given, wanted, unit)


@lru_cache(maxsize=512)
def _choose(
    written: tuple[str | None, ...],
    units: tuple[str | None, ...],
    lead_names: tuple[str, ...] | None,
    leads: tuple[str, ...] | None,
    unit: str | None,
) -> Channels:
    reasons = _reasons_against(written, units, unit)
    labels, notes = _labels(written, reasons, lead_names)
    if leads is not None:
        return _wanted(labels, units, leads, unit, notes)
    rows = [row for row, reason in enumerate(reasons) if not reason]
    if not rows:
        found = "; ".join(sorted(set(reasons))[:8])
        raise LeadError(f"no voltage lead named as ECG ({found}); choose with leads=", value=written)
    if any(labels[row] is None for row in rows):
        raise MetadataMissing("the file does not name its leads; pass lead_names")
    names = normalize_lead_names([labels[row] for row in rows])
    left_out = [Note("signal_left_out", reason, labels[row]) for row, reason in enumerate(reasons) if reason]
    return Channels(tuple(rows), names, (*notes, *left_out))


def stated_unit(written: str | None, given: str | None) -> str | None:
    """The unit of a signal: the file's, or the caller's where the file's says nothing.

    Raises:
        MetadataMissing: if both are stated and are not the same.
    """
    if written is None or (given is not None and is_dimensionless(written)):
        return given
    if given is not None and millivolts_per_unit(given) != millivolts_per_unit(written):
        raise MetadataMissing(f"unit {given!r} contradicts the file's {written[:32]!r}", value=given)
    return written


def _reasons_against(
    written: Sequence[str | None], units: Sequence[str | None], given: str | None
) -> list[str]:
    """Why each signal is not an ECG lead; empty for those that may be one."""
    is_montage = any(is_scalp_electrode(name) for name in written if name)
    reasons = []
    for row, (name, unit) in enumerate(zip(written, units, strict=True)):
        text = name or f"signal {row + 1}"
        stated = unit is not None and not (is_dimensionless(unit) and given is not None)
        is_scalp = is_montage and name is not None and name.strip()[:1] in ("c", "C")
        if name and not is_scalp and _is_named_as_ecg(name):
            reason = ""  # asked for by the caller: a wrong unit is an error, not a reason to leave it out
        elif stated and unit is not None and not is_voltage(unit):
            reason = f"{text} is in {unit[:32]}, not a voltage"
        elif name and (is_scalp or _is_named_as_other(name)):
            reason = f"{text} is not named as an ECG"
        else:
            reason = ""
        reasons.append(reason)
    return reasons


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _is_named_as_ecg(name: str) -> bool:
    if normalize_lead_name(name) in STANDARD_LEADS:
        return True
    return any(word.startswith(("ecg", "ekg")) for word in _words(name))


def _is_named_as_other(name: str) -> bool:
    words = _words(name)
    return is_scalp_electrode(name) or any(
        word.rstrip("0123456789") in _OTHER_WORDS or word.startswith(_OTHER_BEGINNINGS) for word in words
    )


def _labels(
    written: Sequence[str | None], reasons: Sequence[str], given: tuple[str, ...] | None
) -> tuple[list[str | None], tuple[Note, ...]]:
    """The name of each signal after the caller's names were compared with the file's."""
    labels = [name.strip() if name and name.strip() else None for name in written]
    if given is None:
        return labels, ()
    rows = list(range(len(labels)))
    if len(given) != len(rows):
        rows = [row for row in rows if not reasons[row]]
    if len(given) != len(rows):
        raise LeadError(f"{len(given)} lead names given for {len(labels)} signals", value=given)
    repeated = Counter(normalize_lead_name(label) for label in labels if label)
    notes = []
    for row, name in zip(rows, given, strict=True):
        label = labels[row]
        if label is not None and normalize_lead_name(label) != name:
            if repeated[normalize_lead_name(label)] < 2 and not is_generic_name(label):
                raise LeadError(
                    f"lead_names contradict the file, which calls signal {row + 1} {label!r} and not {name!r}; "
                    "they may only fill in missing, repeated or generic names",
                    value=given,
                )
            notes.append(Note("lead_name_assumed", f"called {label!r} in the file", name))
        labels[row] = name
    return labels, tuple(notes)


def _wanted(
    labels: Sequence[str | None],
    units: Sequence[str | None],
    wanted: tuple[str, ...],
    given: str | None,
    notes: tuple[Note, ...],
) -> Channels:
    names = [None if label is None else normalize_lead_name(label) for label in labels]
    rows = []
    for lead in wanted:
        found = [row for row, name in enumerate(names) if name == lead]
        found = found or [row for row, label in enumerate(labels) if label and label.lower() == lead.lower()]
        if len(found) > 1:
            raise LeadError(f"{len(found)} signals are called {lead}; pass lead_names", value=lead)
        if not found:
            there = ", ".join(name for name in names if name) or "no named signal"
            raise LeadError(f"no signal {lead}: the file has {there}", value=lead)
        unit = units[found[0]]
        if unit is not None and not is_voltage(unit) and not (is_dimensionless(unit) and given is not None):
            raise UnknownUnit(f"{lead} is in {unit[:32]!r}, not a voltage", value=unit)
        rows.append(found[0])
    return Channels(tuple(rows), wanted, tuple(note for note in notes if note.lead in wanted))

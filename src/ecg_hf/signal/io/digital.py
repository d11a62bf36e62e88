"""A recording as its file stores it: integer samples, gain and baseline, nothing rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import LeadError, NonFiniteSignal, SignalError
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.record import EcgRecord, Note

__all__ = ["DigitalRecord", "to_millivolts"]

Samples = npt.NDArray[np.int16] | npt.NDArray[np.int32] | npt.NDArray[np.float32]

# Gains outside this range are divided in double precision, because float32 can't represent them well enough.
SAFE_GAIN = (1e-20, 1e20)


@dataclass(frozen=True, slots=True, eq=False)
class DigitalRecord:
    """One recording in digital units: stored in datasets because it is exact.

    Attributes:
        samples: ``(leads, samples)``, int16 (int32 for wider formats, float32 for floating sources).
        gain: float64 ``(leads,)``, digital units per millivolt; unit conversion is folded in.
        baseline: int32 ``(leads,)``, the digital value of 0 mV.
        sampling_rate: Hertz.
        lead_names: Canonical names in row order.
        record_id: Name of the recording within its source.
        notes: What was assumed or found odd while reading.
        invalid: Digital value that means "no sample"; None if the format has none. Floating samples use NaN.
    """

    samples: Samples
    gain: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.int32]
    sampling_rate: float
    lead_names: tuple[str, ...]
    record_id: str | None = None
    notes: tuple[Note, ...] = field(default=())
    invalid: int | None = None

    def to_record(self) -> EcgRecord:
        """The recording in millivolts: ``(samples - baseline) / gain`` as float32, invalid samples NaN.

        Raises:
            NonFiniteSignal: if gain or baseline turn a valid sample into an infinite amplitude.
        """
        try:
            signal = to_millivolts(self.samples, self.gain, self.baseline, self.invalid)
        except NonFiniteSignal as error:
            error.lead = self.lead_names[error.value] if isinstance(error.value, int) else None
            raise
        return EcgRecord(
            signal=signal,
            sampling_rate=self.sampling_rate,
            lead_names=self.lead_names,
            record_id=self.record_id,
            notes=self.notes,
        )

    def select_leads(self, lead_names: Sequence[str]) -> DigitalRecord:
        """The record with exactly ``lead_names``, in that order; notes on other leads are dropped.

        Raises:
            LeadError: if a lead is missing.
        """
        wanted = normalize_lead_names(lead_names)
        absent = [name for name in wanted if name not in self.lead_names]
        if absent:
            there = ", ".join(self.lead_names)
            raise LeadError(f"no lead {', '.join(absent)}: the file has {there}", value=absent)
        rows = [self.lead_names.index(name) for name in wanted]
        return replace(
            self,
            samples=self.samples[rows],
            gain=self.gain[rows],
            baseline=self.baseline[rows],
            lead_names=wanted,
            notes=tuple(note for note in self.notes if note.lead is None or note.lead in wanted),
        )


def to_millivolts(
    samples: Samples,
    gain: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.int32],
    invalid: int | None = None,
) -> npt.NDArray[np.float32]:
    """Convert digital ``(leads, samples)`` to float32 millivolts.

    A 16-bit sample, its difference from a 16-bit baseline and a usual gain are exact in float32, so the
    one division is the only rounding.

    Args:
        samples: Digital ``(leads, samples)``, never modified.
        gain: Digital units per millivolt, ``(leads,)``.
        baseline: Digital value of 0 mV, ``(leads,)``.
        invalid: Digital value that becomes NaN.

    Raises:
        SignalError: if the samples are not real numbers.
        NonFiniteSignal: if a valid sample becomes infinite.
    """
    if samples.dtype.kind not in "iuf":
        raise SignalError(f"samples of type {samples.dtype} can't be an ECG", value=str(samples.dtype))
    missing = None
    if invalid is not None and samples.min() == invalid:
        missing = samples == invalid
    if (samples.dtype.itemsize > 2 and samples.dtype.kind != "f") or not _is_plain_gain(gain):
        with np.errstate(all="ignore"):
            signal = ((samples - baseline[:, None].astype(np.float64)) / gain[:, None]).astype(
                np.float32, order="C"
            )
        check = True
    else:
        signal = samples.astype(np.float32, order="C")
        if baseline.any():
            signal -= baseline[:, None].astype(np.float32)
        signal /= gain[:, None].astype(np.float32)
        # A float source without a sentinel can hold anything; integers of 16 bits can't overflow here.
        check = samples.dtype.kind == "f"
    if missing is not None:
        signal[missing] = np.nan
    if check and np.isinf(signal).any():
        row = int(np.isinf(signal).any(axis=1).argmax())
        raise NonFiniteSignal(f"amplitudes in row {row} are infinite (gain {gain[row]:g} per mV)", value=row)
    return signal


def _is_plain_gain(gain: npt.NDArray[np.float64]) -> bool:
    smallest, largest = SAFE_GAIN
    return all(smallest < abs(value) < largest for value in gain.tolist())

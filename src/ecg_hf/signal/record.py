"""The representation of an ECG in memory: named leads, millivolts, hertz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, LeadError, SignalError
from ecg_hf.signal.leads import arrange_leads, normalize_lead_names
from ecg_hf.signal.units import checked_sampling_rate

__all__ = ["EcgRecord", "Note", "check_keys"]

_OTHER_NAMES = {
    "sampling_rate": ("sampling_frequency", "sample_rate", "frequency", "rate", "fs", "sr", "hz"),
    "lead_names": ("leads", "lead", "channels", "channel_names", "sig_name", "names"),
    "unit": ("units",),
}
"""How others call what an ECG given as a mapping carries."""

_NEAR = 0.85
"""From this similarity on, a key is taken for a misspelling."""


def check_keys(ecg: Mapping[str, object]) -> None:
    """Refuse a mapping that says its rate, leads or unit under another name, which would be passed over.

    Other keys are left alone: rows of datasets have many.

    Raises:
        ConfigurationError: naming the key and how it is called here; also if the signal is there twice.
    """
    if ecg.get("signal") is not None and ecg.get("array") is not None:
        raise ConfigurationError("an ECG has both 'signal' and 'array': which is meant?", value="array")
    for wanted, others in _OTHER_NAMES.items():
        if ecg.get(wanted) is not None:
            continue
        for key, value in ecg.items():
            # Letters alone: samplingRate, Lead-Names and samplng_rate are attempts at the name.
            plain = "".join(filter(str.isalpha, str(key).lower()))
            near = SequenceMatcher(None, plain, wanted.replace("_", "")).ratio() >= _NEAR
            if value is not None and key != wanted and (near or str(key).lower() in others):
                raise ConfigurationError(f"an ECG has {str(key)[:40]!r}: write {wanted!r}", value=key)


@dataclass(frozen=True, slots=True)
class Note:
    """Something assumed, converted, repaired or found odd about a record.

    Attributes:
        code: Stable snake_case identifier, the key under which build reports count it.
        detail: One sentence for a reader. Never contains header comments or other patient text.
        lead: The lead concerned, if it is about one lead.
    """

    code: str
    detail: str = ""
    lead: str | None = None

    def __str__(self) -> str:
        lead = f"[{self.lead}]" if self.lead else ""
        return f"{self.code}{lead}: {self.detail}" if self.detail else f"{self.code}{lead}"


@dataclass(frozen=True, slots=True, eq=False)
class EcgRecord:
    """One recording, the form in which all parts of the package exchange ECGs.

    Attributes:
        signal: float32 ``(leads, samples)`` in millivolts; NaN marks samples the device declared invalid.
        sampling_rate: Hertz.
        lead_names: Canonical names in row order (``I II III aVR aVL aVF V1..V6``; others verbatim).
        record_id: Name of the recording within its source.
        patient_id: Identifier shared by recordings of one person, if known.
        report: Clinical text belonging to the recording, if any.
        derived_leads: Leads computed from others (exact linear combinations), not measured.
        notes: What was assumed, converted, repaired or found odd while reading.

    Raises:
        SignalError: if ``signal`` is not a two-dimensional real array with at least one sample.
        LeadError: if the names do not fit the rows or one occurs twice.
        SamplingRateError: if the rate is not positive and finite.
    """

    signal: npt.NDArray[np.float32]
    sampling_rate: float
    lead_names: tuple[str, ...]
    record_id: str | None = None
    patient_id: str | None = None
    report: str | None = None
    derived_leads: tuple[str, ...] = ()
    notes: tuple[Note, ...] = field(default=())

    def __post_init__(self) -> None:
        signal = np.asarray(self.signal)
        if signal.ndim != 2 or signal.dtype.kind not in "fiu":
            raise SignalError(
                f"signal must be a real (leads, samples) array, got {signal.dtype} of shape {signal.shape}",
                value=signal.shape,
            )
        if 0 in signal.shape:
            raise SignalError(f"signal has no samples: shape {signal.shape}", value=signal.shape)
        names = normalize_lead_names(self.lead_names)
        if len(names) != signal.shape[0]:
            raise LeadError(f"{len(names)} lead names for {signal.shape[0]} rows", value=names)
        rate = checked_sampling_rate(self.sampling_rate)
        object.__setattr__(self, "signal", signal.astype(np.float32, copy=False))
        object.__setattr__(self, "sampling_rate", rate)
        object.__setattr__(self, "lead_names", names)
        object.__setattr__(self, "derived_leads", tuple(self.derived_leads))
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.signal.shape[1] / self.sampling_rate)

    def with_notes(self, *notes: Note) -> EcgRecord:
        """The same record with ``notes`` appended."""
        return replace(self, notes=(*self.notes, *notes))

    def select_leads(self, lead_names: Sequence[str], *, derive: bool = True) -> EcgRecord:
        """The record with exactly ``lead_names``, in that order.

        Args:
            lead_names: Wanted leads, in any accepted spelling.
            derive: Compute missing limb leads from two others where this is exact.

        Raises:
            LeadError: if a lead is neither present nor derivable.
        """
        wanted = normalize_lead_names(lead_names)
        signal, present, derived = arrange_leads(self.signal, self.lead_names, wanted, derive=derive)
        if not present.all():
            missing = [name for name, there in zip(wanted, present, strict=True) if not there]
            raise LeadError(f"record has no lead {', '.join(missing)}", value=missing)
        kept = tuple(name for name in wanted if name in self.derived_leads or name in derived)
        return replace(self, signal=signal, lead_names=wanted, derived_leads=kept)

    def resample(self, sampling_rate: float) -> EcgRecord:
        """The record at another sampling rate in Hz (see :func:`ecg_hf.signal.resampling.resample`)."""
        from ecg_hf.signal.resampling import resample  # loads scipy

        if sampling_rate == self.sampling_rate:
            return self
        signal = resample(self.signal, self.sampling_rate, sampling_rate)
        return replace(self, signal=signal, sampling_rate=float(sampling_rate))

"""From recordings of any origin to the tensors a model takes: :class:`EcgFeatureExtractor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast, get_args

import numpy as np
import numpy.typing as npt
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import logging

from ecg_hf.errors import ConfigurationError, LeadError, NonFiniteSignal, SamplingRateError, SignalError
from ecg_hf.processing.backend import Array, ArrayBackend, NumpyBackend, select_backend
from ecg_hf.processing.gaps import MAX_AMPLITUDE, NanPolicy, fill_gaps
from ecg_hf.processing.inputs import (
    EcgStack,
    Layout,
    as_batch,
    checked_rate,
    parse_inputs,
    stack_inputs,
    tensor_device,
)
from ecg_hf.processing.normalization import Normalization, normalize
from ecg_hf.processing.r_peaks import (
    KnownPeaks,
    checked_known_peaks,
    max_peaks_in,
    move_r_peaks,
    r_peak_table,
)
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.processing.windows import (
    Crop,
    PaddingSide,
    crop_start,
    crop_window,
    pad_window,
    window_mask,
)
from ecg_hf.shim import LeadsToPackage, without_shim
from ecg_hf.signal.filtering import MAX_ORDER
from ecg_hf.signal.leads import LIMB_LEADS, STANDARD_LEADS, normalize_lead_names
from ecg_hf.signal.resampling import RESAMPLING_METHODS, resampled_length

__all__ = ["EcgFeatureExtractor"]

logger = logging.get_logger(__name__)

# Largest finite float16: what is fed to a model must survive being cast to half precision.
_MAX_HALF = 65504.0
# Peak-to-peak range of the typical lead, in mV, outside which a signal is hardly an ECG in millivolts.
_PLAUSIBLE_MV = (0.01, 30.0)
# A lead whose whole range is below this (mV, or relative to its offset) carries no signal.
_FLAT = 1e-6


class EcgFeatureExtractor(LeadsToPackage, SequenceFeatureExtractor):
    """Prepare ECGs for a model: leads by name, millivolts, one rate, one length, one amplitude scale.

    The steps run in this order, each one vectorised over all records that agree in leads, rate and length:
    unit conversion, gaps, lead selection and derivation, resampling, filtering, cropping, normalisation,
    padding, clipping. Padding comes after normalisation, so that the padded level never depends on the data.

    Args:
        sampling_rate: Rate of the output in Hz.
        lead_names: Leads of the output, in this order; any accepted spelling.
        duration_s: Length of the output in seconds. ``None`` keeps lengths and pads to the longest record.
        normalization: ``"none"``, ``"zscore_record"``, ``"zscore_lead"`` or ``"minmax_record"``; see
            :func:`ecg_hf.processing.normalization.normalize`.
        resampling: ``"polyphase"`` or ``"fft"``.
        resample_on_mismatch: Resample recordings of another rate. ``False`` refuses them.
        derive_leads: Compute missing limb leads exactly from two others. Leads that can't be derived are
            zeros with ``lead_mask`` 0; nothing is ever copied from a neighbouring lead.
        highpass_hz: Cut-off of a zero-phase high-pass applied at the output rate, or ``None``.
        lowpass_hz: The same for a low-pass.
        notch_hz: Frequency of a zero-phase notch (mains hum), or ``None``.
        filter_order: Butterworth order of one pass of the high-pass and low-pass.
        crop: Part of a longer recording to keep: ``"start"`` or ``"center"``.
        padding_side: End of a shorter recording at which it is padded: ``"right"`` or ``"left"``.
        padding_value: Level of the padding.
        pad_before_normalization: Pad first, so that the padding takes part in the statistics (what MERL does
            with CPSC2018; the padded level then depends on the data).
        nan_policy: What happens to NaN, infinite and absurd (beyond 1e10 mV) samples of a lead that has
            valid ones: ``"interpolate"``, ``"zero"`` or ``"raise"``. A lead that is NaN throughout counts as
            missing.
        mask_flat_leads: Treat leads without any variation as missing (disconnected electrodes stored as
            zeros) instead of as measurements.
        clip: Limit the output to ``[-clip, clip]``.
        return_sample_mask: Return ``sample_mask`` always (``True``), never (``False``), or when a record of the
            batch was padded (``None``).
        return_attention_mask: Return ``attention_mask`` too, always: ``sample_mask`` under the name it has in the
            library's audio extractors, for code that looks for it. Our own models take ``sample_mask``, because
            ``attention_mask`` is the texts' in dual encoders.

    Raises:
        ConfigurationError: for values that can't work.

    Attributes:
        model_input_names: ``input_values`` float32 ``(batch, leads, samples)`` and ``lead_mask`` int64
            ``(batch, leads)``.
        wants_r_peaks: Whether the output has ``r_peaks`` too; set by subclasses whose models use them.

    Example:
        >>> extractor = EcgFeatureExtractor(sampling_rate=100, normalization="zscore_lead")
        >>> inputs = extractor(ecg_hf.read_record("00001_hr"), return_tensors="pt")
        >>> inputs["input_values"].shape
        torch.Size([1, 12, 1000])
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "lead_mask"]
    wants_r_peaks: ClassVar[bool] = False

    def __init__(
        self,
        sampling_rate: float = 500,
        lead_names: Sequence[str] = STANDARD_LEADS,
        duration_s: float | None = 10.0,
        normalization: Normalization = "none",
        resampling: str = "polyphase",
        resample_on_mismatch: bool = True,
        derive_leads: bool = True,
        highpass_hz: float | None = None,
        lowpass_hz: float | None = None,
        notch_hz: float | None = None,
        filter_order: int = 4,
        crop: Crop = "start",
        padding_side: PaddingSide = "right",
        padding_value: float = 0.0,
        pad_before_normalization: bool = False,
        nan_policy: NanPolicy = "interpolate",
        mask_flat_leads: bool = False,
        clip: float | None = None,
        return_sample_mask: bool | None = None,
        return_attention_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs = without_shim(kwargs)
        # It follows from the leads; a saved configuration brings it back as a keyword.
        kwargs.pop("feature_size", None)
        self.lead_names = normalize_lead_names(tuple(lead_names))
        self.duration_s = duration_s
        self.normalization = normalization
        self.resampling = resampling
        self.resample_on_mismatch = resample_on_mismatch
        self.derive_leads = derive_leads
        self.highpass_hz = highpass_hz
        self.lowpass_hz = lowpass_hz
        self.notch_hz = notch_hz
        self.filter_order = filter_order
        self.crop = crop
        self.pad_before_normalization = pad_before_normalization
        self.nan_policy = nan_policy
        self.mask_flat_leads = mask_flat_leads
        self.clip = clip
        self.return_sample_mask = return_sample_mask
        super().__init__(
            feature_size=len(self.lead_names),
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self._check_configuration()

    def auto_classes(self) -> dict[str, str]:
        """This class, by its Auto class."""
        return {"AutoFeatureExtractor": type(self).__name__}

    @property
    def n_samples(self) -> int | None:
        """Samples per lead of the output, ``None`` when ``duration_s`` is ``None``."""
        return None if self.duration_s is None else round(self.duration_s * self.sampling_rate)

    def __call__(
        self,
        ecg: Any,
        sampling_rate: float | None = None,
        lead_names: Sequence[str] | None = None,
        unit: str = "mV",
        return_tensors: str | None = None,
        device: Any | None = None,
        *,
        layout: Layout | None = None,
        return_sample_mask: bool | None = None,
        return_attention_mask: bool | None = None,
        return_report: bool = False,
        r_peaks: KnownPeaks | None = None,
    ) -> BatchFeature:
        """Prepare one ECG or a batch.

        Args:
            ecg: An ``EcgRecord``, a mapping with ``"signal"`` (or ``"array"``), ``"sampling_rate"`` and
                ``"lead_names"`` as the ``Ecg`` dataset feature decodes to, an array or tensor ``(leads,
                samples)`` or ``(batch, leads, samples)``, or a list of any of these or a column of a
                ``datasets.Dataset``. Never changed.
            sampling_rate: Rate in Hz of arrays; assumed to be the extractor's, with a warning, if not given.
            lead_names: Names of the leads of arrays; if not given, arrays must have the extractor's leads.
            unit: Amplitude unit of arrays: mV, uV, V, nV.
            return_tensors: ``"np"`` or ``"pt"``; by default numpy, or torch when that is where it was computed.
            device: Compute with torch on this device. Torch inputs are computed on their own device.
            layout: ``"leads_first"`` or ``"samples_first"``; by default decided by the number of leads.
            return_sample_mask: Override the extractor's setting.
            return_attention_mask: Override the extractor's setting.
            return_report: Add a :class:`~ecg_hf.processing.report.ProcessingReport` under ``"report"``.
            r_peaks: Sample indices of each record's R peaks at the rate it comes in, ``None`` or nothing for a
                record in which they are to be detected. Used if the extractor ``wants_r_peaks``.

        Returns:
            ``input_values`` float32 ``(batch, leads, samples)``; ``lead_mask`` int64 ``(batch, leads)``, 0 for
            leads that were neither recorded nor derivable; ``sample_mask`` int64 ``(batch, samples)``, 0 for
            padding, see the extractor's ``return_sample_mask``; the same as ``attention_mask`` if asked for; if the
            extractor ``wants_r_peaks``, ``r_peaks`` int64 ``(batch, 4 per second)``, ascending samples of
            ``input_values``, then -1; if asked for, ``report``.

        Raises:
            EcgError: a subclass naming what is wrong with the input.
        """
        ecg = as_batch(ecg)
        inputs = parse_inputs(
            ecg,
            sampling_rate=sampling_rate,
            lead_names=lead_names,
            unit=unit,
            layout=layout,
            expected_rate=float(self.sampling_rate),
            expected_leads=self.lead_names,
        )
        place = device if device is not None else tensor_device(ecg)
        backend = select_backend(place)
        n_records = len(inputs[0].signal) if inputs[0].signal.ndim == 3 else len(inputs)
        report = ReportBuilder(n_records) if return_report else None

        stacks = [
            part
            for stack in stack_inputs(inputs, backend, report)
            for part in self._split(stack, backend, report)
        ]
        n_samples = self.n_samples or max(self._resampled_length(stack) for stack in stacks)
        known = checked_known_peaks(r_peaks, n_records) if self.wants_r_peaks else None
        prepared = [self._prepare(stack, n_samples, backend, report, known) for stack in stacks]

        features: dict[str, Any] = {
            "input_values": _in_order([p[0] for p in prepared], stacks, backend),
            "lead_mask": backend.constant(_in_order([p[1] for p in prepared], stacks, NumpyBackend())),
        }
        if return_sample_mask is None:
            return_sample_mask = self.return_sample_mask
        sample_mask = _in_order([p[2] for p in prepared], stacks, NumpyBackend())
        if return_sample_mask or (return_sample_mask is None and not sample_mask.all()):
            features["sample_mask"] = backend.constant(sample_mask)
        if return_attention_mask or (return_attention_mask is None and self.return_attention_mask):
            features["attention_mask"] = backend.constant(sample_mask)
        if known is not None:
            features["r_peaks"] = backend.constant(
                _in_order([p[3] for p in prepared], stacks, NumpyBackend())
            )
        features.update(self.extra_features(features))
        if str(getattr(return_tensors, "value", return_tensors)) == "np":
            features = {key: backend.to_numpy(value) for key, value in features.items()}
        batch = BatchFeature(features, tensor_type=return_tensors)
        if report is not None:
            batch["report"] = report.build()
        return batch

    def extra_features(self, features: dict[str, Array]) -> dict[str, Array]:
        """More model inputs computed from the finished ones; for subclasses.

        Args:
            features: ``input_values``, ``lead_mask`` and possibly ``sample_mask`` and ``r_peaks``, numpy or torch.

        Returns:
            Arrays whose first axis is the batch.
        """
        return {}

    def _prepare(
        self,
        stack: EcgStack,
        n_samples: int,
        backend: ArrayBackend,
        report: ReportBuilder | None,
        known: list[npt.NDArray[np.int64]] | None,
    ) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """All steps after unit conversion, for one stack; see the class docstring for their order."""
        n_records = len(stack.positions)
        recorded = stack.signal if stack.extremes else self._without_gaps(stack, backend, report)
        signal, present, derived = backend.arrange(
            recorded, stack.lead_names, self.lead_names, self.derive_leads
        )
        # Passes over the samples are what this function's time goes into: extremes are taken once.
        low, high = (signal is recorded and stack.extremes) or (
            backend.minimum(signal),
            backend.maximum(signal),
        )
        self._check_amplitude(backend.to_numpy(high - low)[:, present], stack, report)
        flat = (high - low) <= _FLAT * (1.0 + backend.where(high > -low, high, -low))
        is_flat = backend.to_numpy(flat) & present
        self._report_leads(stack, present, derived, is_flat, report)
        lead_mask = np.tile(present, (n_records, 1))
        if self.mask_flat_leads:
            lead_mask &= ~is_flat

        arranged = signal
        if stack.sampling_rate != self.sampling_rate:
            # The gains of a polyphase filter differ a little between phases. On a constant that leaves a ripple
            # for normalisation to blow up, so constants go through as zeros.
            level = backend.where(flat, low, low * 0)[..., None]
            signal = self._resampled(signal - level, stack, backend, report) + level
        signal = self._filtered(signal, backend)
        if report is not None and signal.shape[-1] != n_samples:
            code = "cropped" if signal.shape[-1] > n_samples else "padded"
            report.add(stack.positions, code, f"{signal.shape[-1]} to {n_samples} samples")
        start = crop_start(signal.shape[-1], n_samples, self.crop)
        signal = crop_window(signal, n_samples, self.crop)
        peaks = self._r_peaks(signal, start, n_samples, stack, known, backend)
        sample_mask = window_mask(signal.shape[-1], n_samples, self.padding_side)
        if self.pad_before_normalization:
            signal = pad_window(signal, n_samples, self.padding_side, self.padding_value, backend)
        extremes = (low, high) if signal is arranged else None
        if self.normalization == "none" and self.clip is None:
            self._check_half_precision(signal, extremes, backend)
        signal = normalize(signal, self.normalization, lead_mask, backend, extremes)
        signal = pad_window(signal, n_samples, self.padding_side, self.padding_value, backend)
        if self.clip is not None:
            signal = signal.clip(-self.clip, self.clip)
        return signal, lead_mask.astype(np.int64), np.tile(sample_mask, (n_records, 1)), peaks

    def _r_peaks(
        self,
        signal: Array,
        start: int,
        n_samples: int,
        stack: EcgStack,
        known: list[npt.NDArray[np.int64]] | None,
        backend: ArrayBackend,
    ) -> npt.NDArray[np.int64]:
        """Table of R peaks in samples of the output, of one stack as it is before normalisation and padding."""
        rate = float(self.sampling_rate)
        if known is None:
            return np.zeros((len(stack.positions), 0), np.int64)
        own = [
            move_r_peaks(known[position], stack.sampling_rate, rate, start) for position in stack.positions
        ]
        width = max_peaks_in(n_samples, rate)
        table = r_peak_table(backend.to_numpy(signal), rate, self.lead_names, max_peaks=width, known=own)
        before = max(n_samples - signal.shape[-1], 0) if self.padding_side == "left" else 0
        return np.where(table >= 0, table + before, table)

    def _split(
        self, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None
    ) -> Iterator[EcgStack]:
        """Split a stack by which leads hold no valid sample at all, and drop those leads.

        Dropped before leads are arranged, a dead limb lead can still be derived from two others.
        """
        low, high = backend.minimum(stack.signal), backend.maximum(stack.signal)
        # NaN fails every comparison, so this is true only where all samples of a lead are usable.
        if bool(((low >= -MAX_AMPLITUDE) & (high <= MAX_AMPLITUDE)).all()):
            yield self._relevant_leads(replace(stack, extremes=(low, high)), backend, report)
            return
        dead = backend.to_numpy((~(abs(stack.signal) <= MAX_AMPLITUDE)).all(axis=-1))
        if self.nan_policy == "raise":
            self._refuse_unless_nan(stack, dead, backend)
        for pattern in np.unique(dead, axis=0):
            rows = np.flatnonzero((dead == pattern).all(axis=1))
            if pattern.all():
                raise SignalError(
                    f"record {stack.positions[rows[0]]} of the batch has no valid sample in any lead",
                    value=int(stack.positions[rows[0]]),
                )
            part = _select(stack, rows, np.flatnonzero(~pattern), backend)
            yield self._relevant_leads(part, backend, report)

    def _relevant_leads(
        self, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None
    ) -> EcgStack:
        """Only the leads that take part in the output, directly or as a source of another."""
        relevant = [self._is_relevant(name, stack.lead_names) for name in stack.lead_names]
        if all(relevant):
            return stack
        if not any(relevant):
            raise LeadError(
                f"record {stack.positions[0]} of the batch has no usable lead among {', '.join(self.lead_names)}",
                value=stack.lead_names,
            )
        if report is not None:
            dropped = [name for name, keep in zip(stack.lead_names, relevant, strict=True) if not keep]
            report.add(stack.positions, "leads_dropped", ", ".join(dropped))
        rows = np.arange(len(stack.positions))
        return _select(stack, rows, np.flatnonzero(relevant), backend)

    def _refuse_unless_nan(self, stack: EcgStack, dead: npt.NDArray[np.bool_], backend: ArrayBackend) -> None:
        all_nan = backend.to_numpy((stack.signal != stack.signal).all(axis=-1))
        relevant = np.array([self._is_relevant(name, stack.lead_names) for name in stack.lead_names])
        wrong = np.argwhere(dead & ~all_nan & relevant)
        if len(wrong):
            record, lead = wrong[0]
            raise NonFiniteSignal(
                f"record {stack.positions[record]} of the batch has infinite or absurd samples",
                lead=stack.lead_names[lead],
            )

    def _without_gaps(self, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None) -> Array:
        signal = stack.signal
        invalid = ~(abs(signal) <= MAX_AMPLITUDE)
        if not bool(invalid.any()):
            return signal
        counts = backend.to_numpy(invalid.sum(axis=-1))
        if self.nan_policy == "raise":
            record, lead = np.argwhere(counts)[0]
            raise NonFiniteSignal(
                f"record {stack.positions[record]} of the batch has {counts[record, lead]} invalid samples",
                lead=stack.lead_names[lead],
                value=int(counts[record, lead]),
            )
        if report is not None:
            code = "nan_zeroed" if self.nan_policy == "zero" else "nan_interpolated"
            for record, lead in np.argwhere(counts):
                detail = f"{counts[record, lead]} of {signal.shape[-1]} samples"
                report.add([stack.positions[record]], code, detail, stack.lead_names[lead])
        return fill_gaps(signal, invalid, self.nan_policy, backend)

    def _is_relevant(self, name: str, available: Sequence[str]) -> bool:
        if name in self.lead_names:
            return True
        wants_limb = any(lead in LIMB_LEADS and lead not in available for lead in self.lead_names)
        return self.derive_leads and name in LIMB_LEADS and wants_limb

    def _check_amplitude(
        self, ranges: npt.NDArray[np.float32], stack: EcgStack, report: ReportBuilder | None
    ) -> None:
        typical = np.median(ranges, axis=-1)
        odd = (typical > _PLAUSIBLE_MV[1]) | ((typical > _FLAT) & (typical < _PLAUSIBLE_MV[0]))
        if not odd.any():
            return
        logger.warning_once(
            "An ECG whose leads typically range over less than 0.01 or more than 30 mV is not plausible: raw ADC "
            "values, or another unit? Pass unit=, or divide by the gain first."
        )
        if report is not None:
            detail = "typical peak-to-peak range of the leads is outside 0.01 to 30 mV"
            report.add(stack.positions[odd], "amplitude_implausible", detail)

    def _report_leads(
        self,
        stack: EcgStack,
        present: npt.NDArray[np.bool_],
        derived: Sequence[str],
        is_flat: npt.NDArray[np.bool_],
        report: ReportBuilder | None,
    ) -> None:
        if report is None:
            return
        for name, there in zip(self.lead_names, present, strict=True):
            if not there:
                report.add(stack.positions, "lead_missing", "zeros with lead_mask 0", name)
        for name in derived:
            report.add(stack.positions, "lead_derived", "exact combination of two limb leads", name)
        for index, name in enumerate(self.lead_names):
            if is_flat[:, index].any():
                report.add(stack.positions[is_flat[:, index]], "flat_lead", "no variation", name)

    def _resampled_length(self, stack: EcgStack) -> int:
        length: int = stack.signal.shape[-1]
        if stack.sampling_rate == self.sampling_rate:
            return length
        return resampled_length(length, stack.sampling_rate, float(self.sampling_rate))

    def _resampled(
        self, signal: Array, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None
    ) -> Array:
        if not self.resample_on_mismatch:
            raise SamplingRateError(
                f"expected {self.sampling_rate:g} Hz, got {stack.sampling_rate:g} Hz "
                "(resample_on_mismatch=True converts it)",
                value=stack.sampling_rate,
            )
        if report is not None:
            detail = f"{stack.sampling_rate:g} Hz to {self.sampling_rate:g} Hz"
            report.add(stack.positions, "resampled", detail)
        if signal.shape[-1] == 1:
            # No slope to continue and nothing to interpolate: hold the value.
            return signal[..., backend.constant([0] * self._resampled_length(stack))]
        return backend.resample(signal, stack.sampling_rate, float(self.sampling_rate), self.resampling)

    def _filtered(self, signal: Array, backend: ArrayBackend) -> Array:
        rate = float(self.sampling_rate)
        if self.highpass_hz is not None:
            signal = backend.highpass(signal, rate, self.highpass_hz, self.filter_order)
        if self.lowpass_hz is not None:
            signal = backend.lowpass(signal, rate, self.lowpass_hz, self.filter_order)
        if self.notch_hz is not None:
            signal = backend.notch(signal, rate, self.notch_hz)
        return signal

    def _check_half_precision(
        self, signal: Array, extremes: tuple[Array, Array] | None, backend: ArrayBackend
    ) -> None:
        low, high = extremes or (backend.minimum(signal), backend.maximum(signal))
        largest = max(float(high.max()), -float(low.min()))
        if largest > _MAX_HALF:
            raise SignalError(
                f"amplitudes up to {largest:.3g} mV are no ECG; convert raw values to millivolts or choose a "
                "normalization",
                value=largest,
            )

    def _check_configuration(self) -> None:
        checked_rate(self.sampling_rate)
        choices: dict[str, tuple[str, ...]] = {
            "normalization": get_args(Normalization),
            "resampling": RESAMPLING_METHODS,
            "crop": get_args(Crop),
            "padding_side": get_args(PaddingSide),
            "nan_policy": get_args(NanPolicy),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigurationError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}",
                    value=getattr(self, name),
                )
        if self.duration_s is not None and not cast(int, self.n_samples) >= 1:
            raise ConfigurationError(f"duration_s {self.duration_s} is no sample long", value=self.duration_s)
        nyquist = self.sampling_rate / 2
        for name in ("highpass_hz", "lowpass_hz", "notch_hz"):
            cutoff = getattr(self, name)
            if cutoff is not None and not 0.0 < cutoff < nyquist:
                raise ConfigurationError(f"{name} {cutoff} Hz is outside (0, {nyquist:g}) Hz", value=cutoff)
        if not 1 <= self.filter_order <= MAX_ORDER:
            raise ConfigurationError(f"filter_order must be in 1..{MAX_ORDER}", value=self.filter_order)
        if self.clip is not None and not self.clip > 0:
            raise ConfigurationError("clip must be positive", value=self.clip)
        if not np.isfinite(self.padding_value):
            raise ConfigurationError("padding_value must be finite", value=self.padding_value)


def _select(
    stack: EcgStack, rows: npt.NDArray[np.intp], leads: npt.NDArray[np.intp], backend: ArrayBackend
) -> EcgStack:
    """Some records and some leads of a stack; extremes are known of whole stacks only."""
    signal = stack.signal
    if len(rows) < len(stack.positions):
        signal = signal[backend.constant(rows)]
    columns = backend.constant(leads)
    return replace(
        stack,
        signal=signal[:, columns],
        extremes=stack.extremes and (stack.extremes[0][:, columns], stack.extremes[1][:, columns]),
        lead_names=tuple(stack.lead_names[index] for index in leads),
        positions=stack.positions[rows],
    )


def _in_order(parts: Sequence[Array], stacks: Sequence[EcgStack], backend: ArrayBackend) -> Array:
    """Results of the stacks put back into the order of the caller's batch."""
    if len(parts) == 1:
        return parts[0]
    positions = np.concatenate([stack.positions for stack in stacks])
    order = backend.constant(np.argsort(positions))
    return backend.concatenate(parts)[order]

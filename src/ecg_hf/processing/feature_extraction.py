"""From recordings of any origin to the tensors a model takes: :class:`EcgFeatureExtractor`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, get_args

import numpy as np
import numpy.typing as npt
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import logging

from ecg_hf.auto_map import LeadsToPackage, without_shim
from ecg_hf.errors import ConfigurationError, LeadError, NonFiniteSignal, SamplingRateError, SignalError
from ecg_hf.processing.backend import Array, ArrayBackend, NumpyBackend, select_backend
from ecg_hf.processing.gaps import MAX_AMPLITUDE, NanPolicy, fill_gaps
from ecg_hf.processing.inputs import (
    EcgInput,
    EcgStack,
    Layout,
    as_batch,
    checked_rate,
    parse_inputs,
    stack_inputs,
    tensor_device,
)
from ecg_hf.processing.normalization import Normalization, normalize
from ecg_hf.processing.options import (
    Choice,
    Flag,
    Number,
    Rule,
    check_options,
    closest_option,
    refuse_unknown,
    shortened,
)
from ecg_hf.processing.r_peaks import (
    KnownPeaks,
    checked_known_peaks,
    max_peaks_in,
    move_r_peaks,
    peaks_as_table,
)
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.processing.windows import (
    Crop,
    PaddingSide,
    input_window,
    pad_window,
    window_mask,
)
from ecg_hf.signal.beats.heartbeats import Detector, detect_r_peaks_in_batch
from ecg_hf.signal.filtering import MAX_ORDER
from ecg_hf.signal.leads import LIMB_LEADS, STANDARD_LEADS, normalize_lead_names
from ecg_hf.signal.record import MAX_SAMPLING_RATE_HZ
from ecg_hf.signal.resampling import RESAMPLING_METHODS

__all__ = ["EcgFeatureExtractor"]

logger = logging.get_logger(__name__)

# Largest finite float16: what is fed to a model must survive being cast to half precision.
_MAX_HALF = 65504.0
# Peak-to-peak range of the typical lead, in mV, outside which a signal is hardly an ECG in millivolts.
_PLAUSIBLE_MV = (0.01, 30.0)
# A lead whose whole range is below this (mV, or relative to its offset) carries no signal.
_FLAT = 1e-6
# Values of one prepared recording: 24 h of 12 leads at 100 Hz, half a gigabyte of float32.
_MAX_VALUES = 2**27
_MAX_LEADS = 256
_MAX_DURATION_S = 86_400.0
# Below this share of the rate a filter of ten minutes would not have settled.
_MIN_CUTOFF = 1e-5
# What a window is prepared with on either side, in seconds: room for resampling and beats, and for filters in periods
# of their cut-off.
_MARGIN_S = 2.0
_MARGIN_PERIODS = 8.0
# A recording longer than the window by less than this share is cut without a word: rounding, not a loss.
_SURPLUS = 0.01
# What the library and the saved file add to the options.
_LIBRARY_KEYS = frozenset(("auto_map", "feature_extractor_type", "feature_size", "processor_class"))


class EcgFeatureExtractor(LeadsToPackage, SequenceFeatureExtractor):
    """Prepare ECGs for a model: leads by name, millivolts, one rate, one length, one amplitude scale.

    The steps run in this order, each one vectorised over all records that agree in leads, rate and length:
    cutting to the window with a margin, unit conversion, gaps, lead selection and derivation, resampling, filtering,
    cropping, normalisation, padding, clipping. Padding comes after normalisation, so that the padded level never
    depends on the data.

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
        crop: Part of a longer recording to keep: ``"start"`` or ``"center"``. The rest is not looked at.
        padding_side: End of a shorter recording at which it is padded: ``"right"`` or ``"left"``.
        padding_value: Level of the padding.
        pad_before_normalization: Pad first, so that the padding takes part in the statistics (what MERL does
            with CPSC2018; the padded level then depends on the data).
        nan_policy: What happens to NaN, infinite and absurd (beyond 1e10 mV) samples of a lead that has
            valid ones: ``"interpolate"``, ``"zero"`` or ``"raise"``. A lead that is NaN throughout counts as
            missing.
        max_repaired_share: Largest share of a lead's samples that may be replaced; a lead with more of them invalid
            counts as missing: by default one of which more would be invented than was measured.
        mask_flat_leads: Treat leads without any variation as missing (disconnected electrodes stored as
            zeros) instead of as measurements.
        clip: Limit the output to ``[-clip, clip]``.
        return_sample_mask: Return ``sample_mask`` always (``True``), never (``False``), or when a record of the
            batch was padded (``None``).
        return_attention_mask: Return ``attention_mask`` too, always: ``sample_mask`` under the name it has in the
            library's audio extractors, for code that looks for it. Our own models take ``sample_mask``, because
            ``attention_mask`` is the texts' in dual encoders.

    Raises:
        ConfigurationError: for values that can't work, and for options that do not exist.

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
    r_peak_detector: Detector = "all_leads"
    option_rules: ClassVar[Mapping[str, Rule]] = {
        "duration_s": Number(1e-6, _MAX_DURATION_S, optional=True),
        "normalization": Choice(get_args(Normalization)),
        "resampling": Choice(RESAMPLING_METHODS),
        "resample_on_mismatch": Flag(),
        "derive_leads": Flag(),
        "highpass_hz": Number(0.0, MAX_SAMPLING_RATE_HZ, optional=True),
        "lowpass_hz": Number(0.0, MAX_SAMPLING_RATE_HZ, optional=True),
        "notch_hz": Number(0.0, MAX_SAMPLING_RATE_HZ, optional=True),
        "filter_order": Number(1, MAX_ORDER, whole=True),
        "crop": Choice(get_args(Crop)),
        "padding_side": Choice(get_args(PaddingSide)),
        "padding_value": Number(-_MAX_HALF, _MAX_HALF),
        "pad_before_normalization": Flag(),
        "nan_policy": Choice(get_args(NanPolicy)),
        "max_repaired_share": Number(0.0, 1.0),
        "mask_flat_leads": Flag(),
        "clip": Number(1e-6, _MAX_HALF, optional=True),
        "return_sample_mask": Flag(optional=True),
        "return_attention_mask": Flag(),
    }
    """Type and bounds of the options besides the rate and the leads."""

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
        max_repaired_share: float = 0.5,
        mask_flat_leads: bool = False,
        clip: float | None = None,
        return_sample_mask: bool | None = None,
        return_attention_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, kwargs.keys() - _LIBRARY_KEYS, _option_names(type(self)))
        kwargs = {name: value for name, value in without_shim(kwargs).items() if name == "auto_map"}
        if not isinstance(kwargs.get("auto_map", {}), dict):
            raise ConfigurationError("auto_map must be a mapping", value=kwargs["auto_map"])
        self.lead_names = _checked_leads(lead_names)
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
        self.max_repaired_share = max_repaired_share
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
        self.check_configuration()

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As the library does, but options that the saved file lacks are taken too, and misspelt ones refused.

        Raises:
            ConfigurationError: if the file or a keyword holds what is no option, or a value that can't work.
        """
        names = _option_names(cls)
        for name in kwargs.keys() - feature_extractor_dict.keys():
            if name in names:
                feature_extractor_dict = {**feature_extractor_dict, name: kwargs[name]}
            # Keywords of the library go through here as well, and those of a pipeline's model.
            elif closest_option(name, names) is not None:
                refuse_unknown(cls.__name__, [name], names)
        extractor: Self = super().from_dict(feature_extractor_dict, **kwargs)
        return extractor

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
            EcgError: a subclass naming what is wrong with the input; :class:`~ecg_hf.errors.LeadError` for a record
                without any of the leads the model needs, :class:`~ecg_hf.errors.SignalError` for one in which none
                of them carries a signal.
        """
        self.check_configuration()
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

        cut = [self._cut(item, position, n_records, report) for position, item in enumerate(inputs)]
        whole = stack_inputs(cut, backend, report)
        known = self._known_peaks(whole, r_peaks, n_records, backend) if self.wants_r_peaks else None
        stacks = [part for stack in whole for part in self._split(stack, backend, report)]
        n_samples = self.n_samples or max(stack.window.length for stack in stacks)
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
        begin, end = stack.window.used
        recorded = stack.signal if stack.extremes else self._without_gaps(stack, backend, report)
        signal, present, derived = backend.arrange(
            recorded, stack.lead_names, self.lead_names, self.derive_leads
        )
        # Passes over the samples are what this function's time goes into: extremes are taken once.
        low, high = (signal is recorded and stack.extremes) or (
            backend.minimum(signal),
            backend.maximum(signal),
        )
        if not present.any():
            raise LeadError(
                f"record {stack.positions[0]} of the batch has only {', '.join(stack.lead_names)}; {self._needs()}",
                value=stack.lead_names,
            )
        flat = _without_variation(low, high, backend)
        seen_low, seen_high = low, high
        if end - begin < signal.shape[-1]:
            used = signal[..., begin:end]
            seen_low, seen_high = backend.minimum(used), backend.maximum(used)
        self._check_amplitude(backend.to_numpy(seen_high - seen_low)[:, present], stack, report)
        is_flat = backend.to_numpy(_without_variation(seen_low, seen_high, backend)) & present
        self._report_leads(stack, present, derived, is_flat, report)
        silent = np.flatnonzero((is_flat == present).all(axis=1))
        # One sample has no variation to show.
        if len(silent) and end - begin > 1:
            raise SignalError(
                f"record {stack.positions[silent[0]]} of the batch is flat in every lead used; {self._needs()}",
                value=int(stack.positions[silent[0]]),
            )
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
        if report is not None and signal.shape[-1] < n_samples:
            report.add(stack.positions, "padded", f"{signal.shape[-1]} to {n_samples} samples")
        if signal.shape[-1] > n_samples:
            signal = signal[..., stack.window.offset : stack.window.offset + n_samples]
        peaks = self._r_peaks(signal.shape[-1], n_samples, stack, known)
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

    def _cut(self, item: EcgInput, position: int, n_records: int, report: ReportBuilder | None) -> EcgInput:
        """``item`` with no more samples than its output depends on, so that ten seconds of a day cost ten seconds."""
        margin = _MARGIN_S
        if self.highpass_hz is not None:
            margin = max(margin, _MARGIN_PERIODS / self.highpass_hz)
        samples, rate = int(item.signal.shape[-1]), float(self.sampling_rate)
        window = input_window(samples, item.sampling_rate, rate, self.n_samples, self.crop, margin)
        surplus = 0 if self.n_samples is None else window.length - self.n_samples
        if surplus > 0 and report is not None:
            positions = range(n_records) if item.signal.ndim == 3 else [position]
            report.add(positions, "cropped", f"{window.length} to {self.n_samples} samples")
        if self.n_samples is not None and surplus > _SURPLUS * self.n_samples:
            where = "first" if self.crop == "start" else "middle"
            logger.warning_once(
                f"Recordings longer than {self.duration_s:g} s are cut: of each the {where} {self.duration_s:g} s "
                f"are used (crop={self.crop!r}), the rest is not looked at."
            )
        return replace(item, signal=item.signal[..., window.first : window.last], window=window)

    def _known_peaks(
        self, stacks: Sequence[EcgStack], r_peaks: KnownPeaks | None, n_records: int, backend: ArrayBackend
    ) -> list[npt.NDArray[np.int64]]:
        """R peaks of every record in samples of the recording: those given, else detected.

        Detected at the recording's rate on all leads it has, as they are stored at building time: the same beats.
        """
        known = checked_known_peaks(r_peaks, n_records)
        for stack in stacks:
            rows = [row for row, position in enumerate(stack.positions) if not known[position].size]
            if not rows:
                continue
            signal = backend.to_numpy(stack.signal)
            found = detect_r_peaks_in_batch(
                signal if len(rows) == len(signal) else signal[rows],
                stack.sampling_rate,
                stack.lead_names,
                detector=self.r_peak_detector,
            )
            for row, peaks in zip(rows, found, strict=True):
                known[stack.positions[row]] = peaks + stack.window.first
        return known

    def _r_peaks(
        self,
        n_real: int,
        n_samples: int,
        stack: EcgStack,
        known: list[npt.NDArray[np.int64]] | None,
    ) -> npt.NDArray[np.int64]:
        """Table of the R peaks of one stack in samples of the output, of which ``n_real`` are recorded."""
        rate = float(self.sampling_rate)
        if known is None:
            return np.zeros((len(stack.positions), 0), np.int64)
        own = [
            move_r_peaks(known[position], stack.sampling_rate, rate, stack.window.start)
            for position in stack.positions
        ]
        table = peaks_as_table(own, n_real, max_peaks_in(n_samples, rate))
        before = max(n_samples - n_real, 0) if self.padding_side == "left" else 0
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
        begin, end = stack.window.used
        invalid = ~(abs(stack.signal[..., begin:end]) <= MAX_AMPLITUDE)
        share = backend.to_numpy(invalid.sum(axis=-1)) / (end - begin)
        dead = share == 1.0
        if self.nan_policy == "raise":
            self._refuse_unless_nan(stack, dead, backend)
        else:
            beyond = (share > self.max_repaired_share) & ~dead
            self._report_beyond_repair(stack, share, beyond, report)
            dead |= beyond
        for pattern in np.unique(dead, axis=0):
            rows = np.flatnonzero((dead == pattern).all(axis=1))
            if pattern.all():
                what = "no valid sample in any lead"
                if (share[rows[0]] < 1.0).any():
                    what = f"more than {self.max_repaired_share:.0%} invalid samples in every lead"
                raise SignalError(
                    f"record {stack.positions[rows[0]]} of the batch has {what}; {self._needs()}",
                    value=int(stack.positions[rows[0]]),
                )
            part = _select(stack, rows, np.flatnonzero(~pattern), backend)
            yield self._relevant_leads(part, backend, report)

    def _report_beyond_repair(
        self,
        stack: EcgStack,
        share: npt.NDArray[np.floating],
        beyond: npt.NDArray[np.bool_],
        report: ReportBuilder | None,
    ) -> None:
        if not beyond.any():
            return
        logger.warning_once(
            f"Leads of which more than {self.max_repaired_share:.0%} are invalid samples (NaN, infinite or absurd) "
            "count as missing; max_repaired_share sets the limit."
        )
        for record, lead in np.argwhere(beyond) if report is not None else ():
            detail = f"{share[record, lead]:.0%} of its samples are invalid, more than max_repaired_share"
            assert report is not None
            report.add([stack.positions[record]], "lead_beyond_repair", detail, stack.lead_names[lead])

    def _relevant_leads(
        self, stack: EcgStack, backend: ArrayBackend, report: ReportBuilder | None
    ) -> EcgStack:
        """Only the leads that take part in the output, directly or as a source of another."""
        relevant = [self._is_relevant(name, stack.lead_names) for name in stack.lead_names]
        if all(relevant):
            return stack
        if not any(relevant):
            raise LeadError(
                f"record {stack.positions[0]} of the batch has only {', '.join(stack.lead_names)}; {self._needs()}",
                value=stack.lead_names,
            )
        dropped = [name for name, keep in zip(stack.lead_names, relevant, strict=True) if not keep]
        self._announce_unused(dropped, stack.lead_names)
        if report is not None:
            report.add(stack.positions, "leads_dropped", ", ".join(dropped))
        rows = np.arange(len(stack.positions))
        return _select(stack, rows, np.flatnonzero(relevant), backend)

    def _announce_unused(self, dropped: Sequence[str], available: Sequence[str]) -> None:
        """Name once what this extractor does not use: aloud what is lost, quietly what follows from leads it uses."""
        limb_leads_used = sum(name in LIMB_LEADS and name not in dropped for name in available)
        lost = [name for name in dropped if name not in LIMB_LEADS or limb_leads_used < 2]
        if lost:
            logger.warning_once(
                f"Leads that this model does not take are not used: {', '.join(map(str, lost))} "
                f"(it takes {' '.join(self.lead_names)})."
            )
        redundant = [name for name in dropped if name not in lost]
        if redundant:
            logger.info_once(f"Not used, as they follow from leads that are: {', '.join(redundant)}.")

    def _needs(self) -> str:
        """What a recording must have, for messages."""
        limb_leads = sum(name in LIMB_LEADS for name in self.lead_names)
        derivable = self.derive_leads and 0 < limb_leads < len(LIMB_LEADS)
        more = ", or two limb leads from which one of these follows" if derivable else ""
        return f"this model needs a signal in at least one of {', '.join(self.lead_names)}{more}"

    def _refuse_unless_nan(self, stack: EcgStack, dead: npt.NDArray[np.bool_], backend: ArrayBackend) -> None:
        begin, end = stack.window.used
        used = stack.signal[..., begin:end]
        all_nan = backend.to_numpy((used != used).all(axis=-1))
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
        begin, end = stack.window.used
        counts = backend.to_numpy(invalid[..., begin:end].sum(axis=-1))
        if not counts.any():
            # Beside the window: what is used is as it was recorded.
            return fill_gaps(signal, invalid, "interpolate", backend)
        if self.nan_policy == "raise":
            record, lead = np.argwhere(counts)[0]
            raise NonFiniteSignal(
                f"record {stack.positions[record]} of the batch has {counts[record, lead]} invalid samples",
                lead=stack.lead_names[lead],
                value=int(counts[record, lead]),
            )
        what = "set to zero" if self.nan_policy == "zero" else "replaced by straight lines"
        logger.warning_once(
            f"Invalid samples (NaN, infinite or absurd) are {what}, at most {self.max_repaired_share:.0%} of a lead; "
            "return_report=True says where."
        )
        if report is not None:
            code = "nan_zeroed" if self.nan_policy == "zero" else "nan_interpolated"
            for record, lead in np.argwhere(counts):
                detail = f"{counts[record, lead]} of {end - begin} samples"
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
            return signal[..., backend.constant([0] * stack.window.length)]
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

    def check_configuration(self) -> None:
        """Whether all options are of their types, within bounds, and go together.

        Raises:
            EcgError: naming the option: a :class:`~ecg_hf.errors.SamplingRateError` for the rate, a
                :class:`~ecg_hf.errors.LeadError` for the leads, else a ``ConfigurationError``.
        """
        checked_rate(self.sampling_rate)
        if _checked_leads(self.lead_names) != tuple(self.lead_names):
            raise LeadError(f"lead_names must be canonical, got {shortened(self.lead_names)}")
        check_options(self, self.option_rules)
        n_samples = self.n_samples
        if n_samples is not None and not 1 <= n_samples <= _MAX_VALUES // len(self.lead_names):
            what = (
                "is no sample long"
                if n_samples < 1
                else f"of {len(self.lead_names)} leads is too much to hold"
            )
            raise ConfigurationError(
                f"duration_s {self.duration_s:g} at {self.sampling_rate:g} Hz {what}", value=self.duration_s
            )
        least, nyquist = _MIN_CUTOFF * self.sampling_rate, self.sampling_rate / 2
        for name in ("highpass_hz", "lowpass_hz", "notch_hz"):
            cutoff = getattr(self, name)
            if cutoff is not None and not least <= cutoff < nyquist:
                raise ConfigurationError(
                    f"{name} {cutoff:g} Hz is outside [{least:g}, {nyquist:g}) Hz", value=cutoff
                )
        if (
            self.highpass_hz is not None
            and self.lowpass_hz is not None
            and self.highpass_hz >= self.lowpass_hz
        ):
            raise ConfigurationError(
                f"highpass_hz {self.highpass_hz:g} and lowpass_hz {self.lowpass_hz:g} leave nothing between them",
                value=(self.highpass_hz, self.lowpass_hz),
            )


def _option_names(cls: type[EcgFeatureExtractor]) -> frozenset[str]:
    """Options that a class and those it derives from name in their constructors."""
    names: set[str] = set()
    for base in cls.__mro__[: cls.__mro__.index(EcgFeatureExtractor) + 1]:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            names |= {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    return frozenset(names - {"self"})


def _checked_leads(names: Any) -> tuple[str, ...]:
    """Canonical names of the leads of the output, as many as a recording can have."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise LeadError(f"lead_names must be a list of names, got {shortened(names)}", value=names)
    if not 1 <= len(names) <= _MAX_LEADS:
        raise LeadError(f"lead_names must be 1 to {_MAX_LEADS} names, got {len(names)}", value=len(names))
    return normalize_lead_names(tuple(names))


def _without_variation(low: Array, high: Array, backend: ArrayBackend) -> Array:
    """Which leads do not vary, relative to their offset."""
    return (high - low) <= _FLAT * (1.0 + backend.where(high > -low, high, -low))


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

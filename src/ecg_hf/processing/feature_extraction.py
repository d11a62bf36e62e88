"""From recordings of any source to the tensors a model takes: :class:`EcgFeatureExtractor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

import numpy as np
import numpy.typing as npt
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from ecg_hf.auto_map import LeadsToPackage, without_shim
from ecg_hf.errors import ConfigurationError, LeadError, SamplingRateError, SignalError
from ecg_hf.processing.backend import Array, ArrayBackend, NumpyBackend
from ecg_hf.processing.cutting import cut_to_window
from ecg_hf.processing.gaps import NanPolicy, repair_gaps
from ecg_hf.processing.inputs import (
    EcgInput,
    EcgStack,
    Layout,
    as_batch,
    in_order,
    parse_inputs,
    select_backend,
    stack_inputs,
    tensor_device,
)
from ecg_hf.processing.lead_selection import LeadSelection
from ecg_hf.processing.normalization import Normalization, normalize
from ecg_hf.processing.options import (
    MAX_DURATION_S,
    Choice,
    Flag,
    Number,
    Rule,
    check_filters,
    check_length,
    check_options,
    checked_leads,
    closest_option,
    option_names,
    refuse_unknown,
    shortened,
)
from ecg_hf.processing.plausibility import MAX_HALF, check_amplitude, check_half_precision, without_variation
from ecg_hf.processing.r_peaks import KnownPeaks, known_peaks_of_stacks, peaks_in_window
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.processing.windows import Crop, PaddingSide, pad_window, window_mask
from ecg_hf.signal.beats.heartbeats import Detector
from ecg_hf.signal.filtering import MAX_ORDER
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.resampling import RESAMPLING_METHODS
from ecg_hf.signal.units import MAX_SAMPLING_RATE_HZ, checked_sampling_rate

__all__ = ["EcgFeatureExtractor"]

# Keys that the library and the saved file add to the options.
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
        crop: Part of a longer recording to keep: ``"start"`` or ``"center"``. The rest is ignored.
        padding_side: End of a shorter recording at which it is padded: ``"right"`` or ``"left"``.
        padding_value: Level of the padding.
        pad_before_normalization: Pad first, so that the padding takes part in the statistics (as MERL does
            with CPSC2018; the padded level then depends on the data).
        nan_policy: What happens to NaN, infinite and absurd (beyond 1e10 mV) samples of a lead that has
            valid ones: ``"interpolate"``, ``"zero"`` or ``"raise"``. A lead that is NaN throughout counts as
            missing.
        max_repaired_share: Largest share of a lead's samples that may be replaced; a lead with more invalid samples
            counts as missing. By default at most half, so that no lead is more invented than measured.
        mask_flat_leads: Treat leads without any variation as missing (disconnected electrodes stored as
            zeros) instead of as measurements.
        clip: Limit the output to ``[-clip, clip]``.
        return_sample_mask: Return ``sample_mask`` always (``True``), never (``False``), or when a record of the
            batch was padded (``None``).
        return_attention_mask: Return ``attention_mask`` too, always: ``sample_mask`` under the name it has in the
            library's audio extractors, for code that expects it. Our models take ``sample_mask``, because in dual
            encoders ``attention_mask`` belongs to the texts.
        return_measures: Return ``measures`` too: 359 measurements of each record, see
            :func:`ecg_hf.signal.beats.measures.handmade_features`. Some milliseconds a record, on the CPU.

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
        "duration_s": Number(1e-6, MAX_DURATION_S, optional=True),
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
        "padding_value": Number(-MAX_HALF, MAX_HALF),
        "pad_before_normalization": Flag(),
        "nan_policy": Choice(get_args(NanPolicy)),
        "max_repaired_share": Number(0.0, 1.0),
        "mask_flat_leads": Flag(),
        "clip": Number(1e-6, MAX_HALF, optional=True),
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
        return_measures: bool = False,
        **kwargs: Any,
    ) -> None:
        refuse_unknown(
            type(self).__name__, kwargs.keys() - _LIBRARY_KEYS, option_names(type(self), EcgFeatureExtractor)
        )
        kwargs = {name: value for name, value in without_shim(kwargs).items() if name == "auto_map"}
        if not isinstance(kwargs.get("auto_map", {}), dict):
            raise ConfigurationError("auto_map must be a mapping", value=kwargs["auto_map"])
        self.lead_names = checked_leads(lead_names)
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
        self.return_measures = return_measures
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
        """Like the library's, but accepts options that the saved file lacks and refuses misspelt ones.

        Raises:
            ConfigurationError: if the file or a keyword names an unknown option, or a value can't work.
        """
        names = option_names(cls, EcgFeatureExtractor)
        for name in kwargs.keys() - feature_extractor_dict.keys():
            if name in names:
                feature_extractor_dict = {**feature_extractor_dict, name: kwargs[name]}
            # The library's own keywords pass through here too, and those of a pipeline's model.
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

    @property
    def slowest_hz(self) -> float | None:
        """Cut-off of the filter that takes longest to settle; for subclasses that have others too."""
        return self.highpass_hz

    @property
    def filter_steps(self) -> list[str]:
        """The zero-phase filters in words, in their order; for subclasses that have others too."""
        named = (
            ("high-pass", self.highpass_hz),
            ("low-pass", self.lowpass_hz),
            ("notch", self.notch_hz),
        )
        return [f"{name} {value:g} Hz" for name, value in named if value is not None]

    @property
    def normalization_step(self) -> str:
        """The normalisation in words; for subclasses that have another."""
        return f"`{self.normalization}`"

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
            return_tensors: ``"np"`` or ``"pt"``; by default numpy, or torch if it was computed with torch.
            device: Compute with torch on this device. Torch inputs are computed on their own device.
            layout: ``"leads_first"`` or ``"samples_first"``; by default decided by the number of leads.
            return_sample_mask: Override the extractor's setting.
            return_attention_mask: Override the extractor's setting.
            return_report: Add a :class:`~ecg_hf.processing.report.ProcessingReport` under ``"report"``.
            r_peaks: Sample indices of each record's R peaks at its original rate; ``None`` or an empty list for a
                record in which they are to be detected. Used if the extractor ``wants_r_peaks``.

        Returns:
            ``input_values`` float32 ``(batch, leads, samples)``; ``lead_mask`` int64 ``(batch, leads)``, 0 for
            leads that were neither recorded nor derivable; ``sample_mask`` int64 ``(batch, samples)``, 0 for
            padding, see the extractor's ``return_sample_mask``; the same as ``attention_mask`` if asked for; if the
            extractor ``wants_r_peaks``, ``r_peaks`` int64 ``(batch, 4 per second)``, ascending samples of
            ``input_values``, then -1; if the extractor returns measurements, ``measures`` float32 ``(batch, 359)``,
            NaN where undefined; if asked for, ``report``.

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
        known = None
        if self.wants_r_peaks:
            known = known_peaks_of_stacks(
                whole, r_peaks, n_records, detector=self.r_peak_detector, backend=backend
            )
        selection = LeadSelection(
            tuple(self.lead_names), self.derive_leads, self.nan_policy, self.max_repaired_share
        )
        stacks = [part for stack in whole for part in selection.split(stack, backend, report)]
        n_samples = self.n_samples or max(stack.window.length for stack in stacks)
        prepared = [self._prepare(stack, n_samples, selection, backend, report, known) for stack in stacks]

        features: dict[str, Any] = {
            "input_values": in_order([p[0] for p in prepared], stacks, backend),
            "lead_mask": backend.constant(in_order([p[1] for p in prepared], stacks, NumpyBackend())),
        }
        if return_sample_mask is None:
            return_sample_mask = self.return_sample_mask
        sample_mask = in_order([p[2] for p in prepared], stacks, NumpyBackend())
        if return_sample_mask or (return_sample_mask is None and not sample_mask.all()):
            features["sample_mask"] = backend.constant(sample_mask)
        if return_attention_mask or (return_attention_mask is None and self.return_attention_mask):
            features["attention_mask"] = backend.constant(sample_mask)
        if known is not None:
            features["r_peaks"] = backend.constant(in_order([p[3] for p in prepared], stacks, NumpyBackend()))
        if self.return_measures:
            measures = in_order([p[4] for p in prepared], stacks, NumpyBackend())
            features["measures"] = backend.constant(measures)
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

    def _cut(self, item: EcgInput, position: int, n_records: int, report: ReportBuilder | None) -> EcgInput:
        # An array of three dimensions is one input that holds the whole batch.
        positions = range(n_records) if item.signal.ndim == 3 else [position]
        return cut_to_window(
            item,
            positions,
            sampling_rate=float(self.sampling_rate),
            duration_s=self.duration_s,
            crop=self.crop,
            highpass_hz=self.slowest_hz,
            report=report,
        )

    def _prepare(
        self,
        stack: EcgStack,
        n_samples: int,
        selection: LeadSelection,
        backend: ArrayBackend,
        report: ReportBuilder | None,
        known: list[npt.NDArray[np.int64]] | None,
    ) -> tuple[
        Array, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]
    ]:
        """All steps after unit conversion, for one stack; see the class docstring for their order."""
        n_records = len(stack.positions)
        begin, end = stack.window.used
        recorded = stack.signal
        # Extremes are known only of stacks in which every sample is valid.
        if not stack.extremes:
            recorded = repair_gaps(stack, self.nan_policy, self.max_repaired_share, backend, report)
        signal, present, derived = selection.arrange(recorded, stack, backend)
        # This function's time is spent on passes over the samples, so extremes are computed once.
        low, high = (signal is recorded and stack.extremes) or (
            backend.minimum(signal),
            backend.maximum(signal),
        )
        flat = without_variation(low, high, backend)
        seen_low, seen_high = low, high
        if end - begin < signal.shape[-1]:
            used = signal[..., begin:end]
            seen_low, seen_high = backend.minimum(used), backend.maximum(used)
        check_amplitude(backend.to_numpy(seen_high - seen_low)[:, present], stack, report)
        is_flat = backend.to_numpy(without_variation(seen_low, seen_high, backend)) & present
        selection.note_leads(stack, present, derived, is_flat, report)
        silent = np.flatnonzero((is_flat == present).all(axis=1))
        # A single sample can't vary.
        if len(silent) and end - begin > 1:
            raise SignalError(
                f"record {stack.positions[silent[0]]} of the batch is flat in every lead used; {selection.needs()}",
                value=int(stack.positions[silent[0]]),
            )
        lead_mask = np.tile(present, (n_records, 1))
        if self.mask_flat_leads:
            lead_mask &= ~is_flat

        arranged = signal
        # What is flat as a whole is flat within the window, which is known on the host.
        level = backend.where(flat, low, low * 0)[..., None] if is_flat.any() else None
        signal = self._at_rate(signal, level, stack, n_samples, backend, report)
        if report is not None and signal.shape[-1] < n_samples:
            report.add(stack.positions, "padded", f"{signal.shape[-1]} to {n_samples} samples")
        if signal.shape[-1] > n_samples:
            signal = signal[..., stack.window.offset : stack.window.offset + n_samples]
        peaks = self._r_peaks(signal.shape[-1], n_samples, stack, known)
        measures = self._measures(signal, lead_mask, backend)
        sample_mask = window_mask(signal.shape[-1], n_samples, self.padding_side)
        if self.pad_before_normalization:
            signal = pad_window(signal, n_samples, self.padding_side, self.padding_value, backend)
        extremes = (low, high) if signal is arranged else None
        if self.normalization == "none" and self.clip is None:
            check_half_precision(signal, extremes, backend)
        signal = self._normalized(signal, lead_mask, backend, extremes)
        signal = pad_window(signal, n_samples, self.padding_side, self.padding_value, backend)
        if self.clip is not None:
            signal = signal.clip(-self.clip, self.clip)
        return signal, lead_mask.astype(np.int64), np.tile(sample_mask, (n_records, 1)), peaks, measures

    def _normalized(
        self,
        signal: Array,
        lead_mask: npt.NDArray[np.bool_],
        backend: ArrayBackend,
        extremes: tuple[Array, Array] | None,
    ) -> Array:
        """Windows on the amplitude scale of the output, see :func:`~ecg_hf.processing.normalization.normalize`."""
        return normalize(signal, self.normalization, lead_mask, backend, extremes)

    def _measures(
        self, signal: Array, lead_mask: npt.NDArray[Any], backend: ArrayBackend
    ) -> npt.NDArray[np.float32]:
        """Measurements of one stack in millivolts, as it is before normalisation and padding."""
        if not self.return_measures:
            return np.zeros((len(lead_mask), 0), np.float32)
        # Not at the top: measuring pulls in the filters and fiducials, which extracting does without.
        from ecg_hf.signal.beats.measures import measure_records

        values = backend.to_numpy(signal)
        return measure_records(values, float(self.sampling_rate), self.lead_names, lead_mask)

    def _r_peaks(
        self, n_real: int, n_samples: int, stack: EcgStack, known: list[npt.NDArray[np.int64]] | None
    ) -> npt.NDArray[np.int64]:
        if known is None:
            return np.zeros((len(stack.positions), 0), np.int64)
        return peaks_in_window(
            known,
            stack,
            sampling_rate=float(self.sampling_rate),
            n_real=n_real,
            n_samples=n_samples,
            padding_side=self.padding_side,
        )

    def _at_rate(
        self,
        signal: Array,
        level: Array | None,
        stack: EcgStack,
        n_samples: int,
        backend: ArrayBackend,
        report: ReportBuilder | None,
    ) -> Array:
        """Millivolts at the recording's rate, resampled and filtered.

        Args:
            signal: float32 ``(records, leads, samples)``.
            level: ``(records, leads, 1)``: the value of leads without variation, 0 of others; None if all vary.
            stack: Where the signal is from.
            n_samples: Samples of the output, for subclasses whose result depends on where it is cut.
            backend: Array library in use.
            report: Where to note what was done.
        """
        rate = float(self.sampling_rate)
        if stack.sampling_rate != self.sampling_rate:
            # The gains of a polyphase filter differ a little between phases. On a constant lead that leaves a ripple,
            # which normalisation would blow up, so the constant is subtracted first.
            varying = signal if level is None else signal - level
            signal = self._resampled(varying, rate, stack, backend, report)
            signal = signal if level is None else signal + level
        return self._filtered(signal, rate, backend)

    def _resampled(
        self,
        signal: Array,
        rate: float,
        stack: EcgStack,
        backend: ArrayBackend,
        report: ReportBuilder | None,
    ) -> Array:
        if not self.resample_on_mismatch:
            raise SamplingRateError(
                f"expected {rate:g} Hz, got {stack.sampling_rate:g} Hz "
                "(resample_on_mismatch=True converts it)",
                value=stack.sampling_rate,
            )
        if report is not None:
            detail = f"{stack.sampling_rate:g} Hz to {rate:g} Hz"
            report.add(stack.positions, "resampled", detail)
        if signal.shape[-1] == 1:
            # No slope to continue and nothing to interpolate: hold the value.
            return signal[..., backend.constant([0] * stack.window.length)]
        return self._interpolated(signal, stack.sampling_rate, rate, backend)

    def _interpolated(self, signal: Array, rate_in: float, rate_out: float, backend: ArrayBackend) -> Array:
        return backend.resample(signal, rate_in, rate_out, self.resampling)

    def _filtered(self, signal: Array, rate: float, backend: ArrayBackend) -> Array:
        if self.highpass_hz is not None:
            signal = backend.highpass(signal, rate, self.highpass_hz, self.filter_order)
        if self.lowpass_hz is not None:
            signal = backend.lowpass(signal, rate, self.lowpass_hz, self.filter_order)
        if self.notch_hz is not None:
            signal = backend.notch(signal, rate, self.notch_hz)
        return signal

    def check_configuration(self) -> None:
        """Check that all options have valid types and values and are consistent.

        Raises:
            EcgError: naming the option: a :class:`~ecg_hf.errors.SamplingRateError` for the rate, a
                :class:`~ecg_hf.errors.LeadError` for the leads, else a ``ConfigurationError``.
        """
        if isinstance(self.sampling_rate, str):
            # Text can be parsed as the rate of a file, but an option is used in calculations as it is.
            raise SamplingRateError(
                f"sampling_rate must be a number, got {shortened(self.sampling_rate)}",
                value=self.sampling_rate,
            )
        checked_sampling_rate(self.sampling_rate)
        if checked_leads(self.lead_names) != tuple(self.lead_names):
            raise LeadError(f"lead_names must be canonical, got {shortened(self.lead_names)}")
        check_options(self, self.option_rules)
        check_length(self.duration_s, self.sampling_rate, len(self.lead_names))
        check_filters(
            self.sampling_rate,
            highpass_hz=self.highpass_hz,
            lowpass_hz=self.lowpass_hz,
            notch_hz=self.notch_hz,
        )

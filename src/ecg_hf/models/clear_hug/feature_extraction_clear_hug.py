"""Feature extraction of CLEAR-HUG: band-passed millivolts at 100 Hz and the R peaks to cut them at."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.backend import Array, is_torch_tensor
from ecg_hf.processing.beat_features import BeatFeatureExtractor
from ecg_hf.processing.options import Flag, Number

__all__ = ["ClearHugFeatureExtractor"]


class ClearHugFeatureExtractor(BeatFeatureExtractor):
    """12 leads, 10 s at 100 Hz in millivolts, band-passed 0.67 to 40 Hz, with R peaks.

    The output has ``r_peaks`` int64 ``(batch, 40)``, padded with -1: those given, or detected on all
    leads of the recording (see :func:`ecg_hf.processing.r_peaks.r_peak_table`). The model cuts beats out of
    ``input_values`` itself, in one gather on its device. With ``return_beats`` the beats are part of the output too,
    for use outside the model:
    ``beats`` float32 ``(batch, leads * beats_per_lead, beat_length)``, ``lead_ids`` and ``time_ids`` int64 and
    ``beat_mask`` bool ``(batch, leads * beats_per_lead)``.

    Official code: ``datasets/dataset_preprocess`` (MIMIC-IV-ECG). Amplitudes are not normalised, because the model
    standardises each beat.

    Differs from official code: the band-pass is a high-pass and a low-pass of order 5 in sequence, not one band-pass
    design; PTB-XL gets it too (officially unfiltered, but divided by one standard deviation); for R peaks see
    ``r_peak_table``.

    Args:
        beats_per_lead: Beat slots per lead of ``return_beats``.
        beat_length: Samples per beat of ``return_beats``.
        return_beats: Also return the beats.
        r_peak_detector: ``"all_leads"``, or ``"xqrs"`` as the official code has it.
        kwargs: See :class:`~ecg_hf.processing.feature_extraction.EcgFeatureExtractor`.
    """

    option_rules = {
        **BeatFeatureExtractor.option_rules,
        "beats_per_lead": Number(1, 10_000, whole=True),
        "beat_length": Number(2, 10_000, whole=True),
        "return_beats": Flag(),
    }

    def __init__(
        self, beats_per_lead: int = 15, beat_length: int = 96, return_beats: bool = False, **kwargs: Any
    ) -> None:
        self.beats_per_lead = beats_per_lead
        self.beat_length = beat_length
        self.return_beats = return_beats
        super().__init__(**kwargs)

    def extra_features(self, features: dict[str, Array]) -> dict[str, Array]:
        """The beats, if asked for."""
        if not self.return_beats:
            return {}
        import torch

        from ecg_hf.nn.beats import slice_beats

        as_torch = is_torch_tensor(features["input_values"])
        tensors = {name: torch.as_tensor(value) for name, value in features.items()}
        signal = tensors["input_values"]
        tokens = slice_beats(
            signal,
            tensors["r_peaks"],
            beats_per_lead=self.beats_per_lead,
            beat_length=self.beat_length,
            sampling_rate=float(self.sampling_rate),
            sample_mask=tensors.get("sample_mask"),
        )
        lead_ids = torch.arange(1, signal.shape[1] + 1, device=signal.device)
        lead_ids = lead_ids.repeat_interleave(self.beats_per_lead).repeat(len(signal), 1)
        out = {**tokens._asdict(), "lead_ids": lead_ids}
        return out if as_torch else {name: value.numpy() for name, value in out.items()}

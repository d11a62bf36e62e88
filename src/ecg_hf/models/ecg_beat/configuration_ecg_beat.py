"""Configuration of ECG-Beat."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig
from ecg_hf.signal.beats.measures import NUM_MEASURES
from ecg_hf.signal.beats.rr_statistics import RR_STATISTICS

__all__ = ["EcgBeatConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "stem_channels": 8,
        "channels": [8, 16],
        "depths": [1, 1],
        "strides": [1, 2],
        "trunk_size": 32,
        "embedding_size": 24,
        "projection_size": 16,
        "num_terms": 128,
        "vocab_size": 200,
        "dropout": 0.0,
    },
    "base": {},
}
"""Named sizes: ``base`` has 2.2 million parameters without its term head, ``micro`` is for tests."""

_REPORTLESS = {"term_weight": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "contrast": {**_REPORTLESS, "contrast_weight": 1.0},
    "measures": {**_REPORTLESS, "inputs": "beat+rr", "measure_weight": 2.0},
    "denoise": {**_REPORTLESS, "denoise_weight": 1.0},
    "simclr": {**_REPORTLESS, "simclr_weight": 1.0},
    "rr": {"inputs": "beat+rr"},
}
"""What is learnt from: the terms of reports (``full``), contrast with reports, or, without any report, measurements
predicted from the beat, a beat restored from a damaged one, or two damaged views recognised. ``rr`` reads the beat
and 17 statistics of the rhythm instead of all measurements."""


@strict
class EcgBeatConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgBeatModel` and its heads.

    The method is this package's own; every value was chosen on PTB-XL's validation fold.

    Args:
        sampling_rate: Hertz.
        num_samples: Samples per lead that pretraining sees.
        before_s: Seconds of the median beat before the R peak.
        after_s: Seconds from it on.
        level_s: Stretch of the beat, in seconds before the R peak, whose median is taken for zero.
        inputs: What is read beside the median beat: all measurements, or the 17 statistics of RR intervals.
        beat_scale: Millivolts are multiplied by this.
        stem_channels: Channels of the first convolution.
        channels: Channels of the residual stages.
        depths: Blocks of each stage.
        strides: Stride of each stage.
        kernel_size: Width of the convolutions of the stages.
        trunk_size: Width of the beat's and the measurements' part and of the hidden layer.
        embedding_size: Width of the embedding.
        dropout: Before both layers of the trunk.
        num_terms: Terms of the reports that are predicted; set from the training reports.
        vocab_size: Words of the tokenizer; likewise.
        max_text_length: Words read of a text.
        min_reports: A term must occur in so many training reports.
        temperature: Divides similarities in ``logits_per_ecg``.
        projection_size: Width of the projections of the two contrastive objectives.
        contrast_temperature: Of both.
        term_weight: Weight of predicting the report's terms.
        contrast_weight: Weight of telling the record's report from those of others; equal reports are positives.
        measure_weight: Weight of predicting the measurements.
        denoise_weight: Weight of restoring beat and measurements from damaged ones.
        simclr_weight: Weight of recognising a record in two damaged views.
        mixup: Largest share of another record mixed in, by rows that lie side by side in the batch.
        gain_jitter: Standard deviation of a record's amplitude.
        lead_gain_jitter: The same for each lead.
        beat_noise: Standard deviation of noise on the scaled beat.
        measure_noise: Standard deviation of noise on standardised measurements.
        max_shift: Largest shift of the beat, in samples, the same for a batch's record in all leads.
        drop_share: Share of measurements, and of leads, that damage takes away.
    """

    model_type = "ecg-beat"
    presets = PRESETS
    variants = VARIANTS

    sampling_rate: float | int = 100
    num_samples: int = 1000
    before_s: float | int = 0.3
    after_s: float | int = 0.5
    level_s: list[float | int] | tuple[float | int, ...] = (0.12, 0.07)
    inputs: Literal["beat+measures", "beat+rr"] = "beat+measures"
    beat_scale: float | int = 4.0

    stem_channels: int = 48
    channels: list[int] | tuple[int, ...] = (64, 128, 192)
    depths: list[int] | tuple[int, ...] = (1, 1, 1)
    strides: list[int] | tuple[int, ...] = (1, 2, 2)
    kernel_size: int = 3
    trunk_size: int = 512
    embedding_size: int = 256
    dropout: float | int = 0.2

    num_terms: int = 1024
    vocab_size: int = 2048
    max_text_length: int = 64
    min_reports: int = 20
    temperature: float | int = 0.07

    projection_size: int = 128
    contrast_temperature: float | int = 0.1
    term_weight: float | int = 1.0
    contrast_weight: float | int = 0.0
    measure_weight: float | int = 0.0
    denoise_weight: float | int = 0.0
    simclr_weight: float | int = 0.0

    mixup: float | int = 0.3
    gain_jitter: float | int = 0.1
    lead_gain_jitter: float | int = 0.05
    beat_noise: float | int = 0.03
    measure_noise: float | int = 0.1
    max_shift: int = 2
    drop_share: float | int = 0.3

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that something is learnt and that the beat fits the signal."""
        super().__post_init__(**kwargs)
        self.require(any(self.weights.values()), "at least one objective needs a weight")
        self.require(
            self.beat_samples[0] > 0 and sum(self.beat_samples) <= self.num_samples,
            f"a beat of {self.before_s:g} + {self.after_s:g} s does not fit {self.num_samples} samples",
        )

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every objective."""
        return {
            name: float(getattr(self, f"{name}_weight"))
            for name in ("term", "contrast", "measure", "denoise", "simclr")
        }

    @property
    def needs_reports(self) -> bool:
        """Whether pretraining reads reports."""
        return bool(self.term_weight or self.contrast_weight)

    @property
    def beat_samples(self) -> tuple[int, int]:
        """Samples of the beat before the R peak, and from it on."""
        rate = float(self.sampling_rate)
        return round(self.before_s * rate), round(self.after_s * rate)

    @property
    def num_measures(self) -> int:
        """Measurements that are read."""
        return NUM_MEASURES if self.inputs == "beat+measures" else len(RR_STATISTICS)

    @property
    def hidden_size(self) -> int:
        """Width of the embedding."""
        return self.embedding_size

    @property
    def num_hidden_layers(self) -> int:
        """Residual blocks."""
        return sum(self.depths)

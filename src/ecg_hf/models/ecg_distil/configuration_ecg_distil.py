"""Configuration of ECG-Distil."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.ecg_beat.configuration_ecg_beat import EcgBeatConfig

__all__ = ["EcgDistilConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "stem_channels": 4,
        "channels": [8, 8, 12, 16],
        "depths": [1, 1, 1, 1],
        "beat_components": 8,
        "num_terms": 128,
        "vocab_size": 200,
        "teacher_config": {**EcgBeatConfig.presets["micro"], "model_type": "ecg-beat"},
    },
    "base": {},
}
"""Named sizes: ``base`` has 1.2 million parameters without its term head, ``micro`` is for tests."""

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no-teacher": {"teacher_weight": 0.0},
    "terms-only": {"teacher_weight": 0.0, "measure_weight": 0.0},
    "measures-only": {"teacher_weight": 0.0, "term_weight": 0.0},
}
"""Fewer targets; ``measures-only`` needs no report."""


@strict
class EcgDistilConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgDistilModel` and its heads.

    The method is this package's own; every value was chosen on PTB-XL's validation fold.

    Args:
        sampling_rate: Hertz.
        num_samples: Longest signal, in samples.
        input_scale: Millivolts are multiplied by this.
        stem_channels: Channels of the first convolution, which has stride 2.
        stem_kernel_size: Its width.
        channels: Channels of the residual stages, each of which halves the length.
        depths: Blocks of each stage.
        kernel_size: Width of the convolutions of the stages.
        num_terms: Terms of the reports that are predicted; set from the training reports.
        vocab_size: Words of the tokenizer; likewise.
        max_text_length: Words read of a text.
        min_reports: A term must occur in so many training reports.
        temperature: Divides similarities in ``logits_per_ecg``.
        beat_components: Principal components of the median beat that are predicted beside the measurements.
        teacher_config: Configuration of the teacher, an :class:`EcgBeatConfig`; None for none.
        term_weight: Weight of predicting the report's terms.
        measure_weight: Weight of predicting measurements and median beat.
        teacher_weight: Weight of predicting the teacher's embedding.
        crop_schedule: Pairs of a share of the steps and a crop in seconds: up to that share crops are that long.
        mixup: Largest share of another record mixed in, by rows that lie side by side in the batch.
        gain_jitter: Standard deviation of a record's amplitude.
        lead_gain_jitter: The same for each lead.
        signal_noise: Noise is drawn with a standard deviation between 0 and twice this, in scaled millivolts.
        lead_drop: Share of records of which only some leads are kept, from one to all but one.
    """

    model_type = "ecg-distil"
    presets = PRESETS
    variants = VARIANTS
    sub_configs = {"teacher_config": EcgBeatConfig}
    target_inputs = ("detect_r_peaks", "return_measures")

    sampling_rate: float | int = 100
    num_samples: int = 1000
    input_scale: float | int = 1000.0 / 230.0

    stem_channels: int = 32
    stem_kernel_size: int = 7
    channels: list[int] | tuple[int, ...] = (48, 96, 160, 256)
    depths: list[int] | tuple[int, ...] = (1, 2, 2, 2)
    kernel_size: int = 3

    num_terms: int = 1024
    vocab_size: int = 2048
    max_text_length: int = 64
    min_reports: int = 20
    temperature: float | int = 0.07

    beat_components: int = 60
    teacher_config: dict[str, Any] | EcgBeatConfig | None = None
    term_weight: float | int = 1.0
    measure_weight: float | int = 2.0
    teacher_weight: float | int = 2.0

    crop_schedule: list[Any] | tuple[Any, ...] = ((0.6, 4.8), (1.0, 9.6))
    mixup: float | int = 0.0
    gain_jitter: float | int = 0.1
    lead_gain_jitter: float | int = 0.05
    signal_noise: float | int = 0.03
    lead_drop: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Make the teacher's configuration an object, and check that something is learnt."""
        if isinstance(self.teacher_config, dict):
            self.teacher_config = EcgBeatConfig.from_dict(dict(self.teacher_config))
        super().__post_init__(**kwargs)
        self.require(
            bool(self.term_weight or self.measure_weight or self.teacher_weight),
            "at least one target needs a weight",
        )
        shares = [float(share) for share, _ in self.crop_schedule]
        self.require(
            shares == sorted(shares) and bool(shares) and shares[-1] >= 1.0,
            f"crop_schedule must rise to a share of 1, got {self.crop_schedule}",
            self.crop_schedule,
        )

    @classmethod
    def fields_of_teacher(cls, teacher: PreTrainedConfig) -> dict[str, Any]:
        """The configuration of the ECG-Beat."""
        return {"teacher_config": teacher.to_dict()}

    @property
    def needs_reports(self) -> bool:
        """Whether pretraining reads reports."""
        return bool(self.term_weight)

    @property
    def beat_config(self) -> EcgBeatConfig:
        """What the median beat is: the teacher's configuration, or its defaults without one."""
        return self.teacher_config if isinstance(self.teacher_config, EcgBeatConfig) else EcgBeatConfig()

    @property
    def token_size(self) -> int:
        """Width of a token: channels of the last stage."""
        return int(self.channels[-1])

    @property
    def hidden_size(self) -> int:
        """Width of the record's embedding: mean, standard deviation and maximum of the tokens."""
        return 3 * self.token_size

    @property
    def num_hidden_layers(self) -> int:
        """Residual blocks."""
        return sum(self.depths)

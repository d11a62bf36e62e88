"""Configuration of HeartLang: the encoder of sentences, and the vocabulary of beats."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.configuration import EcgConfig

__all__ = ["HeartLangConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sentence_length": 96,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_size": 16,
        "intermediate_size": 48,
        "hidden_dropout_prob": 0.0,
        "codebook_size": 24,
        "code_size": 8,
        "vq_hidden_size": 48,
        "vq_num_hidden_layers": 1,
        "vq_decoder_num_layers": 1,
        "vq_num_attention_heads": 2,
        "vq_head_size": 16,
        "vq_intermediate_size": 48,
    },
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "head_size": 32,
        "intermediate_size": 256,
        "codebook_size": 512,
        "code_size": 32,
        "vq_hidden_size": 128,
        "vq_num_hidden_layers": 2,
        "vq_decoder_num_layers": 1,
        "vq_head_size": 32,
        "vq_intermediate_size": 256,
    },
    "base": {},
}

VARIANTS: dict[str, dict[str, Any]] = {"full": {}, "vq-hbr": {"stage": "vq-hbr"}}
"""``vq-hbr`` is the first stage: it learns the vocabulary that ``--teacher`` names in the second."""

# Fields that a vocabulary brings with it.
_OF_THE_VOCABULARY = (
    "sampling_rate",
    "lead_names",
    "num_samples",
    "sentence_length",
    "beat_length",
    "token_kernel_size",
    "num_lead_ids",
    "num_time_ids",
    "layer_norm_eps",
    "without_peaks",
    "codebook_size",
    "code_size",
    "codebook_decay",
    "vq_hidden_size",
    "vq_num_hidden_layers",
    "vq_decoder_num_layers",
    "vq_num_attention_heads",
    "vq_head_size",
    "vq_intermediate_size",
)


@strict
class HeartLangConfig(EcgConfig):
    """Configuration of the HeartLang models; defaults are those of the official code unless a field says otherwise.

    Paper: "Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model", ICLR 2025,
    arXiv 2502.10707.

    Args:
        sampling_rate: Hertz.
        num_samples: 10 s.
        sentence_length: Tokens of a record: the beats of the first lead, then those of the next. Later ones are
            dropped, which 12 leads and more than 21 beats have; places that are left over are zeros.
        beat_length: Samples of a beat's window: 0.96 s at 100 Hz.
        token_kernel_size: Kernel of the circular convolution over the tokens that embeds beats; see
            :class:`ecg_hf.nn.beat_embedding.BeatEmbedding`.
        num_lead_ids: Rows of the lead embedding; lead ``i`` uses row ``i + 1``, places without a beat row 0.
        num_time_ids: Rows of the embedding of the second a beat falls into, likewise.
        without_peaks: What becomes of a record in which no R peaks were found: ``evenly`` cuts windows at equal
            distances (inferred; its embedding depends on it then), ``empty`` leaves it without beats, as the official
            code does; conversion sets it.
        hidden_size: Width of the encoder.
        num_hidden_layers: Its layers.
        num_attention_heads: Its heads.
        head_size: Width of a head.
        intermediate_size: Width of its MLPs.
        hidden_dropout_prob: Dropout of embeddings, of attention and inside MLPs.
        layer_norm_eps: Epsilon of the layer norms.
        attend_to_padding: Whether places without a beat are attended to, as in the official code. Default True:
            parity.
        mask_ratio: Share of the tokens to predict the codes of.
        loss_on_padding: Whether places without a beat count among them, as in the official code. Default True:
            parity.
        stage: What ``ForPreTraining`` learns: ``vq-hbr`` the vocabulary, by rebuilding beats; ``sentences`` the
            encoder, by predicting the codes that hidden beats have in the vocabulary.
        targets_with_places: Whether the codes to predict are those of beats whose lead and second are known, as they
            are to the vocabulary in its own stage. Default False: the official code leaves both out.
        codebook_size: Codes of the vocabulary.
        code_size: Values of a code.
        codebook_decay: Share of itself that a code keeps at each step.
        commitment_weight: Weight of the distance of beats from their codes.
        vq_hidden_size: Width of the vocabulary's encoder and decoder.
        vq_num_hidden_layers: Layers of that encoder.
        vq_decoder_num_layers: Layers of that decoder.
        vq_num_attention_heads: Heads of both.
        vq_head_size: Width of a head.
        vq_intermediate_size: Width of their MLPs.
        vq_learning_rate: AdamW's, where a run of the second stage learns the vocabulary itself (inferred).
        freeze_encoder: Train only the classification head, as in the authors' experiments.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "heartlang"
    presets = PRESETS
    variants = VARIANTS

    sampling_rate: float | int = 100
    num_samples: int = 1000

    sentence_length: int = 256
    beat_length: int = 96
    token_kernel_size: int = 3
    num_lead_ids: int = 16
    num_time_ids: int = 16
    without_peaks: Literal["evenly", "empty"] = "evenly"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    head_size: int = 64
    intermediate_size: int = 1024
    hidden_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-5
    attend_to_padding: bool = True

    mask_ratio: float | int = 0.5
    loss_on_padding: bool = True
    stage: Literal["sentences", "vq-hbr"] = "sentences"
    targets_with_places: bool = False

    codebook_size: int = 8192
    code_size: int = 128
    codebook_decay: float | int = 0.99
    commitment_weight: float | int = 1.0
    vq_hidden_size: int = 768
    vq_num_hidden_layers: int = 4
    vq_decoder_num_layers: int = 2
    vq_num_attention_heads: int = 2
    vq_head_size: int = 64
    vq_intermediate_size: int = 2048
    vq_learning_rate: float | int = 5e-4
    freeze_encoder: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.require(
            self.sentence_length >= self.num_leads,
            f"sentence_length {self.sentence_length} has no room for a beat of each lead",
            self.sentence_length,
        )
        self.require(
            2 <= self.beat_length <= self.num_samples,
            f"beat_length {self.beat_length} is not within 2..{self.num_samples} (num_samples)",
            self.beat_length,
        )
        self.require(
            self.token_kernel_size > 0 and self.token_kernel_size % 2 == 1,
            f"token_kernel_size must be odd, got {self.token_kernel_size}",
            self.token_kernel_size,
        )
        self.require(0.0 < self.mask_ratio < 1.0, "mask_ratio must be in (0, 1)", self.mask_ratio)
        self.require(
            0.0 <= self.codebook_decay < 1.0, "codebook_decay must be in [0, 1)", self.codebook_decay
        )
        self.require(self.codebook_size > 1, "codebook_size must be at least 2", self.codebook_size)
        self.require(
            self.num_lead_ids > self.num_leads,
            f"{self.num_leads} leads need a table of more than {self.num_lead_ids} lead ids",
            self.num_lead_ids,
        )
        seconds = int((self.num_samples - 1) / self.sampling_rate) + 1
        self.require(
            self.num_time_ids > seconds,
            f"{seconds} s need a table of more than {self.num_time_ids} time ids",
            self.num_time_ids,
        )

    @classmethod
    def fields_of_teacher(cls, teacher: PreTrainedConfig) -> dict[str, Any]:
        """What beats are and the vocabulary's sizes: those of the first stage.

        Raises:
            ConfigurationError: if it is of another method.
        """
        if not isinstance(teacher, cls):
            raise ConfigurationError(
                f"the teacher of {cls.model_type} is a vocabulary of its own (--variant vq-hbr), not "
                f"{teacher.model_type}",
                value=teacher.model_type,
            )
        return {name: getattr(teacher, name) for name in _OF_THE_VOCABULARY}

"""Configuration of CLEAR-HUG, with the choices on which paper and official code differ."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["LEAD_GROUPS", "ClearHugConfig"]

LEAD_GROUPS = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3", "V4", "V5", "V6"))
"""Lead groups of HUG: bipolar limb, augmented limb, chest."""

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "decoder_hidden_size": 32,
        "decoder_num_layers": 1,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 48,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "decoder_hidden_size": 96,
        "decoder_num_layers": 2,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 192,
    },
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "decoder_hidden_size": 1024,
        "decoder_num_layers": 24,
    },
}

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "dense": {"encoder_attention": "dense"},
    "independent-beats": {"token_kernel_size": 1},
}
"""``dense`` lets lead tokens see beats of all leads, as the released weights were most likely trained;
``independent-beats`` embeds beats without their neighbours."""


@strict
class ClearHugConfig(EcgConfig):
    """Configuration of the CLEAR-HUG models.

    Paper: "Tracing the Heart's Pathways: ECG Representation Learning from a Cardiac Conduction Perspective", arXiv
    2512.24002. Sizes and defaults are those of the official code unless a field says otherwise; where a default
    follows the paper against the code, or the code against the paper, the field gives the reason. Values marked
    "inferred" are stated by neither.

    Args:
        beats_per_lead: Beat slots per lead; later beats are dropped, empty slots are zero tokens.
        beat_length: Samples of a beat's window: 0.96 s at 100 Hz.
        token_kernel_size: Kernel of the circular convolution over the token axis that embeds beats. 3 as in the
            official code: a token then sees the raw samples of both neighbours in the sequence, including masked
            ones and other leads', contrary to the paper's "without interference from other heartbeats". 1 avoids
            that leak.
        normalize_beats: Standardise each beat; both the network's input and the target of reconstruction.
        num_lead_ids: Rows of the lead embedding; lead ``i`` uses row ``i + 1``.
        num_time_ids: Rows of the embedding of the second a beat falls into; row 0 is "no beat".
        hidden_size: Width of the encoder.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Encoder heads.
        intermediate_size: Width of the encoder's MLPs.
        hidden_dropout_prob: Dropout of residual branches and inside MLPs.
        attention_probs_dropout_prob: Dropout on attention weights.
        layer_norm_eps: Epsilon of the layer norms.
        encoder_attention: ``view`` (paper: a lead token sees the beats of its own lead only), ``dense`` (what the
            first published code did, and most likely what the released weights were trained with; conversion sets
            it), or ``official_bias`` (the current code: the mask is added to the logits instead of blocking, which
            leaves attention dense; for parity tests). Default ``view``: the paper's method.
        attend_to_padding: Whether empty slots are attended to, as in the official code (its padding mask is off in
            all scripts). Default True: parity.
        mask_ratio: Share of tokens to rebuild.
        mask_per_sample: Draw a mask for each record. The official code draws one for the batch; default False:
            parity, and one mask is cheaper.
        loss_on_padding: Whether empty slots count in the loss, as in the official code. Default True: parity; they
            are zeros and easily predicted, which makes the loss smaller than the error on beats.
        decoder_hidden_size: Width of the decoder.
        decoder_num_layers: Decoder layers.
        decoder_num_attention_heads: Decoder heads.
        decoder_intermediate_size: Width of the decoder's MLPs.
        lead_groups: Groups of lead names for HUG; leads the model lacks are left out. Every lead must be in
            one.
        head_type: Classification head: ``hug``, or ``mean`` (mean of the lead tokens: CLEAR without HUG).
        hug_fusion: How HUG's seven features become one: ``mean`` (official code, default: released heads need it) or
            ``concat`` (paper, Figure 2).
        freeze_encoder: Train only the classification head, as in all of the authors' experiments.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "clear-hug"
    presets = PRESETS
    variants = VARIANTS

    sampling_rate: float | int = 100
    num_samples: int = 1000

    beats_per_lead: int = 15
    beat_length: int = 96
    token_kernel_size: int = 3
    normalize_beats: bool = True
    num_lead_ids: int = 16
    num_time_ids: int = 16

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    intermediate_size: int = 1024
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-5
    encoder_attention: Literal["view", "dense", "official_bias"] = "view"
    attend_to_padding: bool = True

    mask_ratio: float | int = 0.8
    mask_per_sample: bool = False
    loss_on_padding: bool = True
    decoder_hidden_size: int = 512
    decoder_num_layers: int = 4
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 1024

    lead_groups: list[list[str]] | tuple[tuple[str, ...], ...] = LEAD_GROUPS
    head_type: Literal["hug", "mean"] = "hug"
    hug_fusion: Literal["mean", "concat"] = "mean"
    freeze_encoder: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.lead_groups = [list(group) for group in self.lead_groups]
        self._check()

    def _check(self) -> None:
        self.require(self.beats_per_lead > 0, "beats_per_lead must be positive", self.beats_per_lead)
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
        self.require(self.hidden_size % self.num_attention_heads == 0, "heads do not divide hidden_size")
        self.require(
            self.decoder_hidden_size % self.decoder_num_attention_heads == 0,
            "heads do not divide decoder width",
        )
        self.require(0.0 < self.mask_ratio < 1.0, "mask_ratio must be in (0, 1)", self.mask_ratio)
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
        grouped = sorted(name for group in self.lead_groups for name in group)
        self.require(len(set(grouped)) == len(grouped), "a lead is in two lead_groups", grouped)
        missing = [name for name in self.lead_names or () if name not in grouped]
        self.require(not missing, f"leads {', '.join(missing)} are in none of the lead_groups", missing)

    @property
    def num_tokens(self) -> int:
        """Beat tokens of a record."""
        return self.num_leads * self.beats_per_lead

    @property
    def group_indices(self) -> list[list[int]]:
        """Rows of each lead group among the model's leads, without empty groups."""
        names = list(self.lead_names or ())
        groups = [[names.index(name) for name in group if name in names] for group in self.lead_groups]
        return [group for group in groups if group]

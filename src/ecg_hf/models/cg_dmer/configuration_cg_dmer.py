"""Configuration of CG-DMER; everything the paper leaves open is a field."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.text_config import SMALL_BERTS, text_tower_config

__all__ = ["VARIANTS", "CgDmerConfig"]

VARIANTS: dict[str, dict[str, float]] = {
    "contrastive": {
        "ecg_reconstruction_weight": 0.0,
        "text_reconstruction_weight": 0.0,
        "orthogonality_weight": 0.0,
        "siglip_weight": 0.0,
    },
    "ecg-reconstruction": {
        "text_reconstruction_weight": 0.0,
        "orthogonality_weight": 0.0,
        "siglip_weight": 0.0,
    },
    "text-reconstruction": {"orthogonality_weight": 0.0, "siglip_weight": 0.0},
    "orthogonality": {"siglip_weight": 0.0},
    "full": {},
}
"""Rows of the paper's Table 3: each adds one loss to the row before it."""

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "sampling_rate": 100,
        "num_samples": 1000,
        "patch_size": 50,
        "initializer_range": 0.1,
        "lead_embedding_std": 0.5,
        "tokenizer_channels": [8, 16],
        "tokenizer_kernel_sizes": [7, 5],
        "tokenizer_strides": [4, 4],
        "tokenizer_groups": 4,
        "decoder_hidden_size": 32,
        "decoder_num_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 64,
        "projection_dim": 32,
        "projection_hidden_size": 32,
        "max_text_length": 64,
        "freeze_text_layers": 0,
        "text_config": SMALL_BERTS["micro"],
    },
    "tiny": {
        "hidden_size": 192,
        "num_hidden_layers": 8,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "initializer_range": 0.04,
        "lead_embedding_std": 0.5,
        "decoder_hidden_size": 128,
        "decoder_num_layers": 2,
        "decoder_intermediate_size": 512,
        "freeze_text_layers": 0,
        "max_text_length": 128,
        "text_config": SMALL_BERTS["tiny"],
    },
    "small": {
        "hidden_size": 384,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "initializer_range": 0.028,
        "lead_embedding_std": 0.5,
        "freeze_text_layers": 0,
        "max_text_length": 128,
        "text_config": SMALL_BERTS["small"],
    },
    "base": {},
}
"""Named sizes. ``base`` has the paper's depth at an inferred width and a text tower shaped as MedCPT. The others
have a small BERT for a vocabulary made from the corpus' own reports, and start with weights that keep the gain
which 0.02 has at a width of 768 (0.02 * sqrt(768 / width)). ``micro`` is for tests."""


@strict
class CgDmerConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.CgDmerModel` and its heads.

    No official code is public. Numbers in brackets refer to the gaps of the paper this package had to fill; each
    default is inferred unless marked [paper]. Two gaps are not model configuration: the schedule [20] is in the
    recipe (``ecg_hf/training/recipes/cg_dmer.yaml``), the zero-shot prompts [22] are an argument of the evaluation.

    Args:
        patch_size: Samples per patch; 50 at 500 Hz gives the paper's best N = 100.
        token_leads: What a token holds: a patch of ``one`` lead [paper], or the same patch of ``all`` leads: a
            twelfth of the tokens, for small machines. Masks and positions then know no leads.
        tokenizer_channels: [1] Convolutions inside a patch: channels ...
        tokenizer_kernel_sizes: [1] ... kernel widths ...
        tokenizer_strides: [1] ... and strides.
        tokenizer_groups: [1] Groups of the group norm.
        tokenizer_norm_first: [1] Norm before GELU; the paper's sentence has GELU first.
        hidden_size: [2] Token width.
        num_hidden_layers: Encoder layers; 8 [paper].
        num_attention_heads: [2] Encoder heads.
        intermediate_size: [2] Width of the encoder's MLPs.
        norm_first: [2] Pre-norm; D-BETA is post-norm.
        hidden_dropout_prob: [2] Dropout.
        attention_probs_dropout_prob: [2] Dropout on attention weights.
        layer_norm_eps: Epsilon of layer norms.
        temporal_positions: [3] Start of the temporal table: ``sincos`` or ``normal`` (0.02).
        learn_temporal_positions: [3] Train the temporal table.
        lead_embedding_std: [3] Standard deviation the lead table starts with. Sine-cosine rows have 0.7 per element;
            the small presets start at 0.5, inferred from one short run against 0.06.
        mask_ratio: Share of masked patches; 0.75 [paper].
        mask_strategy: [4] ``per_lead`` (equal counts in each lead), ``joint`` or ``tube``.
        decoder_hidden_size: [5] Width of the ECG decoder.
        decoder_num_layers: [5] Layers of the ECG decoder.
        decoder_num_attention_heads: [5] Heads of the ECG decoder.
        decoder_intermediate_size: [5] Width of its MLPs.
        decoder_per_lead: [5] Decode each lead separately (ST-MEM) instead of all tokens together.
        reconstruction_target: [6] ``patch_zscore``, ``lead_zscore`` (D-BETA) or ``raw`` (literal Eq. 2).
        reconstruction_reduction: [6] ``mean`` or ``sum`` (literal Eq. 2) over the samples of a patch.
        contrastive_weight: Weight of the contrastive loss, 1 [paper].
        ecg_reconstruction_weight: [7] Eq. 10 omits this loss, Table 3 has it.
        text_reconstruction_weight: lambda 1 of Eq. 10, value not given.
        orthogonality_weight: lambda 2 of Eq. 10, value not given.
        siglip_weight: lambda 3 of Eq. 10, value not given; the literal SigLIP (below) needs about 1 / batch.
        contrastive_form: [8] ``info_nce``, ``decoupled`` (Eqs. 7-8 literally) or ``all_pairs`` (Eq. 9 literally).
        contrastive_reduction: [8] ``mean`` or ``sum`` (MERL) of the two directions.
        temperature: tau, 0.07 [paper].
        siglip_scale: [9] Initial factor on cosines; literal 1.
        siglip_bias: [9] Initial bias; literal 0.
        learn_siglip_scale: [9] Train both; literal False.
        siglip_reduction: [9] ``per_row`` (Eq. 6) or ``mean_pairs`` (D-BETA).
        normalize_shared: [10] L2-normalise the shared embeddings in both alignment losses.
        projection_dim: [11] Width of the four disentangled embeddings.
        projection_hidden_size: [11] Hidden width of the four MLPs.
        ecg_pooling: [12] ``mean_of_norm`` (norm tokens, then average), ``norm_of_mean`` (ST-MEM, MERL) or
            ``statistics`` (mean, standard deviation and maximum of normed tokens: three times the width).
        contrastive_view: [13] ``masked`` (one forward feeds all losses) or ``full`` (a second, unmasked pass).
        text_mask_probability: Share of text tokens to predict; 0.15 [paper].
        text_mask_replacement: [14] ``mask`` (always the mask token) or ``bert`` (80/10/10).
        text_decoder_layers: [14] 0: a BERT head on the text encoder; more: a causal decoder with cross-attention.
        freeze_text_layers: [15] Freeze the embeddings and this many lower layers of the text tower.
        text_pooling: [16] ``pooler`` (BERT's tanh pooler, as MERL) or ``cls``.
        max_text_length: [16] Longest text in tokens.
        decode_disentangled: [17] Feed specific + shared embeddings to the decoders; not in the paper.
        ignore_duplicate_reports: [18] Do not count identical reports of a batch as negatives.
        gather_negatives: [19] Negatives from all processes, with exact gradients.
        pooled_feature: [21] What ``pooler_output`` is: ``encoder`` (pooled tokens) or ``shared`` (the zero-shot
            embedding).
        signal_jitter: Standard deviation of a record's amplitude in pretraining; leads get half of it besides,
            and there is noise of 0.3 times it. 0 [paper].
        time_shift_s: Records are rolled by up to so many seconds either way in pretraining, so that patches begin
            anywhere in a beat. 0 [paper].
        phrase_weight: Weight of predicting the terms of a report through the text tower, for zero-shot by short
            prompts; needs ``terms`` among the ``auxiliary_targets``. 0 [paper].
        text_config: Configuration of the text tower, any BERT-like encoder.
        text_mask_token_id: Id of the mask token.
        text_special_token_ids: Ids that are never masked (padding, [CLS], [SEP]).

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "cg-dmer"
    presets = PRESETS
    variants = VARIANTS
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}
    takes_auxiliary_targets = True

    patch_size: int = 50
    token_leads: Literal["one", "all"] = "one"
    tokenizer_channels: list[int] | tuple[int, ...] = (64, 128, 256)
    tokenizer_kernel_sizes: list[int] | tuple[int, ...] = (7, 5, 3)
    tokenizer_strides: list[int] | tuple[int, ...] = (2, 2, 2)
    tokenizer_groups: int = 8
    tokenizer_norm_first: bool = False

    hidden_size: int = 768
    num_hidden_layers: int = 8
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    norm_first: bool = True
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-5
    temporal_positions: Literal["sincos", "normal"] = "sincos"
    learn_temporal_positions: bool = True
    lead_embedding_std: float | int = 0.02

    mask_ratio: float | int = 0.75
    mask_strategy: Literal["per_lead", "joint", "tube"] = "per_lead"
    decoder_hidden_size: int = 256
    decoder_num_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    decoder_per_lead: bool = False
    reconstruction_target: Literal["patch_zscore", "lead_zscore", "raw"] = "patch_zscore"
    reconstruction_reduction: Literal["mean", "sum"] = "mean"

    contrastive_weight: float | int = 1.0
    ecg_reconstruction_weight: float | int = 1.0
    text_reconstruction_weight: float | int = 1.0
    orthogonality_weight: float | int = 1.0
    siglip_weight: float | int = 1.0

    contrastive_form: Literal["info_nce", "decoupled", "all_pairs"] = "info_nce"
    contrastive_reduction: Literal["mean", "sum"] = "mean"
    temperature: float | int = 0.07
    siglip_scale: float | int = 10.0
    siglip_bias: float | int = -10.0
    learn_siglip_scale: bool = True
    siglip_reduction: Literal["per_row", "mean_pairs"] = "per_row"
    normalize_shared: bool = True
    projection_dim: int = 256
    projection_hidden_size: int = 256
    ecg_pooling: Literal["mean_of_norm", "norm_of_mean", "statistics"] = "mean_of_norm"
    contrastive_view: Literal["masked", "full"] = "masked"

    text_mask_probability: float | int = 0.15
    text_mask_replacement: Literal["mask", "bert"] = "mask"
    text_decoder_layers: int = 0
    freeze_text_layers: int = 6
    text_pooling: Literal["pooler", "cls"] = "pooler"
    max_text_length: int = 256
    decode_disentangled: bool = False
    ignore_duplicate_reports: bool = False
    gather_negatives: bool = True
    pooled_feature: Literal["encoder", "shared"] = "encoder"

    signal_jitter: float | int = 0.0
    time_shift_s: float | int = 0.0
    phrase_weight: float | int = 0.0

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    text_mask_token_id: int = 103
    text_special_token_ids: list[int] | tuple[int, ...] = (0, 101, 102)

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the text tower's configuration and check that everything fits."""
        self.text_config = text_tower_config(self.text_config)
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        sizes = (self.tokenizer_channels, self.tokenizer_kernel_sizes, self.tokenizer_strides)
        self.require(
            len({len(size) for size in sizes}) == 1,
            "tokenizer channels, kernels and strides differ in length",
        )
        self.require(
            all(c % self.tokenizer_groups == 0 for c in self.tokenizer_channels),
            "groups do not divide channels",
        )
        self.require(self.patch_size > 0, "patch_size must be positive", self.patch_size)
        self.require(
            self.num_samples > 0 and self.num_samples % self.patch_size == 0,
            f"num_samples {self.num_samples} is not a positive multiple of patch_size {self.patch_size}",
            self.num_samples,
        )
        self.require(self.hidden_size % self.num_attention_heads == 0, "heads do not divide hidden_size")
        self.require(
            self.decoder_hidden_size % self.decoder_num_attention_heads == 0,
            "heads do not divide decoder width",
        )
        self.require(0.0 <= self.mask_ratio < 1.0, "mask_ratio must be in [0, 1)", self.mask_ratio)
        self.require(0.0 < self.text_mask_probability < 1.0, "text_mask_probability must be in (0, 1)")
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
        self.require(
            self.phrase_weight == 0.0 or "terms" in self.auxiliary_targets,
            "phrase_weight needs terms among the auxiliary_targets",
        )
        self.require(self.siglip_scale > 0.0, "siglip_scale must be positive", self.siglip_scale)
        self.require(
            self.ecg_reconstruction_weight == 0.0 or self.mask_ratio > 0.0,
            "reconstruction needs a mask_ratio above 0",
        )

    @property
    def pooled_size(self) -> int:
        """Width of the ECG encoder's embedding of a record."""
        return self.hidden_size * (3 if self.ecg_pooling == "statistics" else 1)

    @property
    def num_patches(self) -> int:
        """Patches per lead."""
        return self.num_samples // self.patch_size

    @property
    def token_rows(self) -> int:
        """Rows of the grid of tokens: leads, or one where a token holds all of them."""
        return self.num_leads if self.token_leads == "one" else 1

    @property
    def leads_per_token(self) -> int:
        """Leads a token holds."""
        return self.num_leads // self.token_rows

    @property
    def masks_ecg(self) -> bool:
        """Whether pretraining hides patches: only if they are to be reconstructed."""
        return self.ecg_reconstruction_weight > 0.0

    @property
    def masks_text(self) -> bool:
        """Whether pretraining hides text tokens: only if they are to be predicted."""
        return self.text_reconstruction_weight > 0.0

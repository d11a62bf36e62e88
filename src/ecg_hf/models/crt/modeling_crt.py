"""CRT: the encoder, its pretraining by reconstruction across domains, and its classifier.

Paper: Zhang et al., "Self-Supervised Time Series Representation Learning via Cross Reconstruction Transformer", IEEE
TNNLS 2023, arXiv 2205.09928. Official code: ``BobZwr/Cross-Reconstruction-Transformer``, without a licence; nothing
of it is copied here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.models.crt.configuration_crt import CrtConfig
from ecg_hf.models.crt.encoder_crt import DOMAINS, CrtDecoder, CrtEncoder, cross_domain_signal
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    init_as_torch,
)
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.nn.losses import reconstruction_loss
from ecg_hf.nn.losses.instance_discrimination import instance_discrimination_loss
from ecg_hf.nn.masks.patches import mask_patches
from ecg_hf.nn.precision import full_precision
from ecg_hf.nn.tokenizers import gather_tokens, patchify, pool_tokens_mask

__all__ = ["CrtForEcgClassification", "CrtForPreTraining", "CrtModel", "CrtPreTrainedModel"]


class CrtPreTrainedModel(EcgPreTrainedModel):
    """Initialisation, patches and token mask shared by the CRT models."""

    config: CrtConfig
    config_class = CrtConfig
    base_model_prefix = "crt"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_as_torch(module)
        std = float(self.config.embedding_std)
        if isinstance(module, CrtEncoder):
            for values in (module.cls_tokens, module.domain_embedding, module.positions):
                init.normal_(values, std=std)
        elif isinstance(module, CrtDecoder):
            for values in (module.mask_tokens, module.positions):
                init.normal_(values, std=std)
        elif isinstance(module, CrtForPreTraining):
            init.zeros_(module.progress)

    def patches(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """Patches of time, then magnitude, then phase, float32 ``(batch, patches, leads, patch_size)``.

        Missing leads and padding are zeros, and so is what a record lacks of ``num_samples``: a bin of the spectrum
        means one frequency whatever the length.
        """
        config, signal = self.config, full_precision(input_values)
        if lead_mask is not None:
            signal = torch.where(lead_mask.bool()[:, :, None], signal, 0.0)
        if sample_mask is not None:
            signal = torch.where(sample_mask.bool()[:, None, :], signal, 0.0)
        signal = F.pad(signal, (0, config.num_samples - signal.shape[-1]))
        domains = cross_domain_signal(signal, lead_mask, standardize=config.spectrum == "log_zscore")
        return patchify(domains, config.patch_size).transpose(1, 2)

    def patch_mask(self, input_values: Tensor, sample_mask: Tensor | None = None) -> Tensor | None:
        """Which patches hold signal, bool ``(batch, patches)``: those of frequency do; None if all do."""
        batch, _, samples = input_values.shape
        missing = self.config.num_samples - samples
        if sample_mask is None:
            if not missing:
                return None
            sample_mask = torch.ones(batch, samples, dtype=torch.bool, device=input_values.device)
        time = pool_tokens_mask(F.pad(sample_mask.bool(), (0, missing)), self.config.patch_size)
        return F.pad(time, (0, sum(self.config.domain_patches) - time.shape[1]), value=True)

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which tokens hold signal: the three [CLS], then patches; None if all do. A token holds all leads."""
        mask = self.patch_mask(input_values, sample_mask)
        return None if mask is None else F.pad(mask, (DOMAINS, 0), value=True)


class CrtModel(CrtPreTrainedModel, EcgEncoder):
    """CRT's encoder. Nothing is dropped here; the embedding is the mean of the three [CLS] tokens."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^(first|second)_projection\.", r"^progress$"]

    def __init__(self, config: CrtConfig) -> None:
        super().__init__(config)
        self.encoder = CrtEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The network of the patches of time, the first of three; FSDP takes no list of modules."""
        return self.encoder.networks[0]

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the transformer."""
        return self.encoder.layers.blocks

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch, 3 + patches, hidden_size)``, the [CLS] of each domain first; see the base class."""
        self.check_input_values(input_values)
        patches = self.patches(input_values, lead_mask, sample_mask)
        mask = self.token_mask(input_values, lead_mask, sample_mask)
        tokens = self.encoder(patches, mask, need_weights=need_weights).encoded
        return tokens, full_precision(tokens[:, :DOMAINS]).mean(1)


class CrtForPreTraining(CrtPreTrainedModel, EcgForPreTraining):
    """CRT with its decoder and the two projections of instance discrimination.

    Some patches of time are dropped, and the same ones of magnitude and phase. The decoder predicts them; those that
    were kept are to be told from the encoder's tokens directly. The share that is dropped grows with the training,
    whose progress is stored with the weights.
    """

    progress: Tensor

    def __init__(self, config: CrtConfig) -> None:
        super().__init__(config)
        self.crt = CrtModel(config)
        self.decoder = CrtDecoder(config)
        self.first_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.second_projection = nn.Linear(config.hidden_size, config.hidden_size)
        # The number beside the buffer is the buffer's, because a number of patches can't wait for a device.
        self.register_buffer("progress", torch.zeros(()))
        self._progress = 0.0
        self.register_load_state_dict_post_hook(_read_progress)
        self.post_init()

    def freeze_fixed_parameters(self) -> None:
        """Nothing is fixed; called after loading, and so the place to read how far training came."""
        _read_progress(self, None)

    def before_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Begin with few dropped patches, whatever the weights were trained for."""
        self._set_progress(0.0)

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Note how much of the training is done."""
        self._set_progress((step + 1) / total_steps)

    def _set_progress(self, share: float) -> None:
        self.progress.fill_(share)
        self._progress = share

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """One uniform number per patch of time, and one per pair of patches of magnitude and phase."""
        values = batch["input_values"]
        rows = len(values) if rows is None else rows
        times, bins, _ = self.config.domain_patches
        return {
            name: torch.rand(rows, count, generator=generator, device=values.device)
            for name, count in (("time_noise", times), ("frequency_noise", bins))
        }

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        time_noise: Tensor | None = None,
        frequency_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Reconstruct all patches from those that are kept.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads; they are no targets.
            sample_mask: ``(batch, samples)``, 0 for padding; likewise.
            time_noise: float ``(batch, patches of time)``: those with the smallest numbers are kept; drawn here if
                not given.
            frequency_noise: float ``(batch, patches of magnitude)``, likewise.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the encoder), ``return_dict``.
        """
        self.crt.check_input_values(input_values)
        noise = self.complete_noise(input_values, time_noise=time_noise, frequency_noise=frequency_noise)
        assert noise["time_noise"] is not None
        assert noise["frequency_noise"] is not None
        kept, dropped = self._divided(noise["time_noise"], noise["frequency_noise"])
        patches = self.patches(input_values, lead_mask, sample_mask)
        token_mask = self.token_mask(input_values, lead_mask, sample_mask)
        encoder = self.crt.encoder
        tokens = encoder(patches, token_mask, kept, need_weights=self.wants_attentions(kwargs))
        predicted = self.decoder(tokens, dropped, token_mask)

        weights = torch.ones_like(patches[..., 0])
        if lead_mask is not None:
            weights = weights * lead_mask[:, None, :].to(weights.dtype)
        if token_mask is not None:
            weights = weights * token_mask[:, DOMAINS:, None].to(weights.dtype)
        if self.config.targets == "official":
            # Their order of predictions, and of what they are compared with.
            ours = torch.cat([part for pair in zip(kept, dropped, strict=True) for part in pair], dim=1)
            theirs = torch.cat([part for pair in zip(dropped, kept, strict=True) for part in pair], dim=1)
            reconstruction = _error(predicted, patches, weights, ours, theirs)
        else:
            reconstruction = _error(predicted, patches, weights)
        discrimination = instance_discrimination_loss(
            self.first_projection(tokens.embedded),
            self.second_projection(tokens.encoded[:, DOMAINS:]),
            None if token_mask is None else token_mask.gather(1, tokens.places + DOMAINS),
        )
        terms = {"reconstruction": reconstruction, "discrimination": discrimination}
        hidden = torch.cat(dropped, dim=1)
        with torch.no_grad():
            error = _error(predicted, patches, weights, hidden, hidden)
            of_zero = _error(torch.zeros_like(patches), patches, weights, hidden, hidden)
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics={"masked_error_vs_zero": error / of_zero.clamp(min=1e-12)},
            ecg_embeds=full_precision(tokens.encoded[:, :DOMAINS]).mean(1),
            reconstruction=gather_tokens(predicted.flatten(2), hidden),
            masked_index=hidden,
        )

    def _divided(self, times: Tensor, bins: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Indices of the patches of each domain that are kept, and of those that are dropped."""
        first, second, _ = self.config.domain_patches
        of_time, of_frequency = self.config.dropped_patches(self._progress)
        time = mask_patches(times[:, None], of_time / first)
        frequency = mask_patches(bins[:, None], of_frequency / second)
        kept = time.visible, frequency.visible + first, frequency.visible + first + second
        return kept, (time.masked, frequency.masked + first, frequency.masked + first + second)


def _error(
    predicted: Tensor,
    patches: Tensor,
    weights: Tensor,
    of_predicted: Tensor | None = None,
    of_patches: Tensor | None = None,
) -> Tensor:
    """Mean squared error of leads of patches.

    Args:
        predicted: float ``(batch, patches, leads, patch_size)``.
        patches: Same shape.
        weights: float ``(batch, patches, leads)``.
        of_predicted: int64 ``(batch, n)``: take these of ``predicted``; all if not given.
        of_patches: int64 ``(batch, n)``: compare them with these of ``patches``; all if not given.
    """

    def pick(values: Tensor, index: Tensor | None) -> Tensor:
        if index is None:
            return values
        picked: Tensor = gather_tokens(values.flatten(2), index).unflatten(2, values.shape[2:])
        return picked

    return reconstruction_loss(
        pick(predicted, of_predicted).flatten(1, 2),
        pick(patches, of_patches).flatten(1, 2),
        pick(weights, of_patches).flatten(1, 2),
    )


def _read_progress(model: CrtForPreTraining, keys: Any) -> None:
    if model.progress.device.type != "meta":
        model._progress = float(model.progress)


class CrtForEcgClassification(CrtPreTrainedModel, EcgForClassification):
    """CRT's encoder with a linear head on the mean of the three [CLS] tokens, or a query."""

    _keys_to_ignore_on_load_unexpected = CrtModel._keys_to_ignore_on_load_unexpected

    model_class = CrtModel

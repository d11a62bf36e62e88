"""The text side of CG-DMER beyond the tower itself: words hidden, and the head that predicts them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.cg_dmer.configuration_cg_dmer import CgDmerConfig
from ecg_hf.models.text_tower import MaskedText
from ecg_hf.nn.heads import MaskedTokenHead
from ecg_hf.nn.losses import masked_token_loss
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = ["MaskedWordDecoder", "report_signature"]

_PRIME = 2_147_483_647


def report_signature(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """A fingerprint of each text that ignores padding: float32 ``(batch, 2)`` holding exact integers below 2**24.

    Equal texts have equal fingerprints; different ones collide with a probability of about 2**-48. Floats, so that
    it can be gathered together with the embeddings.
    """
    positions = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device, dtype=torch.int64)
    parts = []
    for multiplier in (48_271, 69_621):
        weights = (positions * multiplier) % _PRIME
        terms = (input_ids.long() + 1) * weights % _PRIME
        parts.append((terms * attention_mask.long()).sum(1) * multiplier % _PRIME % (1 << 24))
    return torch.stack(parts, dim=1).float()


class MaskedWordDecoder(nn.Module):
    """Predicts hidden words: BERT's head on the encoder's tokens, or on a small causal decoder over them.

    The paper calls the decoder autoregressive but its Eq. 3 has no autoregressive factor; ``text_decoder_layers``
    chooses between the two readings.
    """

    def __init__(self, config: CgDmerConfig) -> None:
        super().__init__()
        text = config.text_config
        width, vocabulary = text.hidden_size, text.vocab_size  # type: ignore[union-attr]
        self.head = MaskedTokenHead(width, vocabulary)
        if config.decode_disentangled:
            self.condition = nn.Linear(config.projection_dim, width)
        self.decoder = None
        if config.text_decoder_layers:
            layer = nn.TransformerDecoderLayer(
                width,
                text.num_attention_heads,  # type: ignore[union-attr]
                4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            self.decoder = nn.TransformerDecoder(layer, config.text_decoder_layers)

    def forward(
        self,
        hidden_states: Tensor,
        original_ids: Tensor,
        attention_mask: Tensor,
        masked: MaskedText,
        embeddings: nn.Embedding,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Loss over the hidden words (Eq. 3); logits are computed only at their positions.

        Args:
            hidden_states: float ``(batch, length, text_hidden)`` of the corrupted text.
            original_ids: int64 ``(batch, length)``.
            attention_mask: ``(batch, length)``.
            masked: What was hidden.
            embeddings: The tower's word embeddings, shared with the output layer.
            condition: float ``(batch, projection_dim)``, only with ``decode_disentangled``.
        """
        if self.decoder is not None:
            length = original_ids.shape[1]
            shifted = torch.cat([original_ids[:, :1], original_ids[:, :-1]], dim=1)
            causal = torch.ones(length, length, dtype=torch.bool, device=original_ids.device).triu(1)
            words = embeddings(shifted)
            words = words + sincos_positions(length, words.shape[-1]).to(words)
            hidden_states = self.decoder(
                words, hidden_states, tgt_mask=causal, memory_key_padding_mask=~attention_mask.bool()
            )
        if condition is not None:
            hidden_states = hidden_states + self.condition(condition).unsqueeze(1)
        logits = self.head(gather_tokens(hidden_states, masked.targets.positions), embeddings.weight)
        return masked_token_loss(logits, masked.labels, masked.targets.weights)

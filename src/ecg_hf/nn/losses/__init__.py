"""Loss functions: pure functions of tensors."""

from ecg_hf.nn.losses.classification import classification_loss
from ecg_hf.nn.losses.contrastive import info_nce_loss, siglip_loss
from ecg_hf.nn.losses.disentanglement import orthogonality_loss
from ecg_hf.nn.losses.masked_tokens import masked_token_loss
from ecg_hf.nn.losses.nt_xent import nt_xent_loss
from ecg_hf.nn.losses.predictive import CpcLoss, cpc_logits, cpc_loss, draw_negatives
from ecg_hf.nn.losses.reconstruction import normalize_patches, reconstruction_loss

__all__ = [
    "CpcLoss",
    "classification_loss",
    "cpc_logits",
    "cpc_loss",
    "draw_negatives",
    "info_nce_loss",
    "masked_token_loss",
    "normalize_patches",
    "nt_xent_loss",
    "orthogonality_loss",
    "reconstruction_loss",
    "siglip_loss",
]

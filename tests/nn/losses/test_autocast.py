"""No loss may lose digits to autocast: each equals itself in float32, gradients included."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import ecg_hf.nn.losses as losses
from ecg_hf.nn.losses import (
    classification_loss,
    cpc_logits,
    cpc_loss,
    draw_negatives,
    info_nce_loss,
    masked_token_loss,
    normalize_patches,
    nt_xent_loss,
    orthogonality_loss,
    reconstruction_loss,
    siglip_loss,
)
from ecg_hf.nn.losses.agreement import (
    cross_correlation_terms,
    patient_cosine,
    query_key_loss,
    symmetric_cosine,
)
from ecg_hf.nn.losses.instance_discrimination import instance_discrimination_loss
from ecg_hf.nn.losses.latent import latent_prediction_loss, latent_statistics
from ecg_hf.nn.losses.nt_xent import patient_contrast_loss, view_pairs_loss
from ecg_hf.nn.losses.predictive import temporal_prediction_loss
from ecg_hf.nn.losses.quantized import code_contrast_logits, code_contrast_loss, code_perplexity
from ecg_hf.nn.losses.regions import region_contrast_loss, region_pair_losses
from ecg_hf.nn.losses.targets import regression_target_loss, term_entropy, term_loss

ROWS, TOKENS, WIDTH = 64, 24, 32
WEIGHTS = torch.ones(ROWS, TOKENS)
NEGATIVES = draw_negatives(
    ROWS, TOKENS, 3, 8, generator=torch.Generator().manual_seed(0), device=torch.device("cpu")
)
CODES = torch.arange(ROWS * TOKENS).view(ROWS, TOKENS) % 17
PICKED = torch.arange(TOKENS * 8).view(TOKENS, 8).expand(ROWS, -1, -1) * 7 % TOKENS


def vectors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a[:, 0], b[:, 0]


# Every function of the losses, as a scalar of two views ``(rows, tokens, width)`` that are much alike.
CASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "classification_loss": lambda a, b: classification_loss(
        a[:, 0], (b[:, 0] > 0).float(), "multi_label_classification"
    ),
    "cross_correlation_terms": lambda a, b: sum(cross_correlation_terms(*vectors(a, b))),
    "code_contrast_logits": lambda a, b: (
        code_contrast_logits(a, b, CODES, PICKED, temperature=0.1).clamp(min=-20).tanh().sum()
    ),
    "code_contrast_loss": lambda a, b: (
        code_contrast_loss(a, b, CODES, CODES > 5, PICKED, temperature=0.1).loss
    ),
    "code_perplexity": lambda a, b: code_perplexity(a.float().softmax(-1)) + 0 * b.sum(),
    "cpc_logits": lambda a, b: cpc_logits(a, b, NEGATIVES, 3).tanh().sum(),
    "cpc_loss": lambda a, b: cpc_loss(a, b, NEGATIVES, 3).loss,
    "info_nce_loss": lambda a, b: info_nce_loss(*vectors(a, b), temperature=0.1),
    "latent_prediction_loss": lambda a, b: latent_prediction_loss(a, b),
    "latent_statistics": lambda a, b: latent_statistics(a, b)["unexplained"] + 0 * a.sum(),
    "masked_token_loss": lambda a, b: masked_token_loss(a, b.argmax(-1), WEIGHTS),
    "normalize_patches": lambda a, b: (normalize_patches(a[:, None], "patch_zscore") * b[:, None]).sum(),
    "nt_xent_loss": lambda a, b: nt_xent_loss(*vectors(a, b), temperature=0.1),
    "orthogonality_loss": lambda a, b: orthogonality_loss(*vectors(a, b)),
    "patient_cosine": lambda a, b: patient_cosine(*vectors(a, b), *vectors(a, b), torch.arange(ROWS) // 2),
    "patient_contrast_loss": lambda a, b: patient_contrast_loss(
        torch.cat(vectors(a, b)), torch.arange(2 * ROWS) % ROWS, temperature=0.1
    ),
    "query_key_loss": lambda a, b: query_key_loss(*vectors(a, b), *vectors(b, a), temperature=0.2),
    "reconstruction_loss": lambda a, b: reconstruction_loss(a, b, WEIGHTS),
    "region_contrast_loss": lambda a, b: sum(region_contrast_loss(a[:, :5], b[:, :5], temperature=0.1)),
    "region_pair_losses": lambda a, b: region_pair_losses(a[:, :5], b[:, :5], temperature=0.1).sum(),
    "regression_target_loss": lambda a, b: regression_target_loss(*vectors(a, b)),
    "siglip_loss": lambda a, b: siglip_loss(*vectors(a, b), scale=10.0, bias=-5.0),
    "instance_discrimination_loss": instance_discrimination_loss,
    "symmetric_cosine": lambda a, b: symmetric_cosine(*vectors(a, b), *vectors(a, b)),
    "temporal_prediction_loss": lambda a, b: temporal_prediction_loss(a, b, WEIGHTS),
    "view_pairs_loss": lambda a, b: view_pairs_loss(
        torch.stack(vectors(a, b)), torch.arange(ROWS) // 2, temperature=0.1
    ),
    "term_entropy": lambda a, b: term_entropy(a[:, 0].float().sigmoid()) + 0 * b.sum(),
    "term_loss": lambda a, b: term_loss(a[:, 0], b[:, 0].float().sigmoid(), torch.tensor(0.5)),
}
OPTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "info_nce_loss, decoupled, cold": lambda a, b: info_nce_loss(
        *vectors(a, b), temperature=0.04, form="decoupled"
    ),
    "info_nce_loss, all pairs": lambda a, b: info_nce_loss(*vectors(a, b), temperature=0.1, form="all_pairs"),
    "info_nce_loss, learnt temperature": lambda a, b: info_nce_loss(
        *vectors(a, b), temperature=torch.tensor(0.07)
    ),
    "siglip_loss, dot products": lambda a, b: siglip_loss(*vectors(a, b), scale=1, bias=0, normalize=False),
    "nt_xent_loss, pools and groups": lambda a, b: nt_xent_loss(
        a.transpose(0, 1), b.transpose(0, 1), temperature=0.1, groups=torch.arange(ROWS) // 2
    ).sum(),
    "region_contrast_loss, leads missing": lambda a, b: (
        region_contrast_loss(
            a[:, :5], b[:, :5], temperature=0.1, present=(a[:, :5, 0] > -1).float().detach()
        ).inter
    ),
    "single_label_classification": lambda a, b: classification_loss(
        a[:, 0], b[:, 0].argmax(-1), "single_label_classification"
    ),
    "regression": lambda a, b: classification_loss(a[:, 0], b[:, 0], "regression"),
}
# Draw numbers; compute none of a loss.
OTHERS = {"draw_negatives"}


def test_every_function_of_the_losses_is_tried() -> None:
    found = set()
    for module in pkgutil.iter_modules(losses.__path__, f"{losses.__name__}."):
        content = vars(importlib.import_module(module.name))
        found |= {
            name
            for name, value in content.items()
            if inspect.isfunction(value) and value.__module__ == module.name and not name.startswith("_")
        }
    assert found == set(CASES) | OTHERS


def value_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, autocast: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    common = torch.randn(ROWS, TOKENS, WIDTH)
    first, second = (F.normalize(common + 0.3 * torch.randn_like(common), dim=-1).to(dtype) for _ in range(2))
    first.requires_grad_()
    # The backward pass runs outside, as PyTorch asks for.
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        value = loss(first, second)
    return value.detach(), torch.autograd.grad(value, first)[0].float()


@pytest.mark.parametrize("name", [*CASES, *OPTIONS])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_neither_loss_nor_gradient(name: str, half: torch.dtype) -> None:
    loss = {**CASES, **OPTIONS}[name]
    value, gradient = value_and_gradient(loss, torch.float32)
    other_value, other_gradient = value_and_gradient(loss, torch.float32, half)
    assert other_value.dtype == torch.float32
    torch.testing.assert_close(other_value, value, rtol=1e-5, atol=1e-6)
    assert (other_gradient - gradient).norm() <= 1e-5 * gradient.norm()


@pytest.mark.parametrize("name", [name for name in CASES if name != "normalize_patches"])
def test_half_precision_inputs_are_computed_in_float32(name: str) -> None:
    value, gradient = value_and_gradient(CASES[name], torch.bfloat16, torch.bfloat16)

    # The same numbers in float32: only the gradient is rounded, on its way back into bfloat16.
    def upcast(first: Tensor, second: Tensor) -> Tensor:
        return CASES[name](first.float(), second.float())

    expected, expected_gradient = value_and_gradient(upcast, torch.bfloat16)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert (gradient - expected_gradient).norm() <= 1e-2 * expected_gradient.norm()

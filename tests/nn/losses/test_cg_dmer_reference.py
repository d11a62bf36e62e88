"""The losses equal the float64 reference values computed from the paper's formulas."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ecg_hf.nn.losses import (
    info_nce_loss,
    masked_token_loss,
    orthogonality_loss,
    reconstruction_loss,
    siglip_loss,
)

pytestmark = pytest.mark.fixtures


@pytest.fixture(scope="module")
def reference(shared_fixtures: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_fixtures / "cg_dmer" / "losses.safetensors")


def check(value: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("infonce_avg", {}),
        ("merl_clip_sum", {"reduction": "sum"}),
        ("decoupled_avg", {"form": "decoupled"}),
        ("eq7_9_literal_all_pairs", {"form": "all_pairs"}),
    ],
)
def test_contrastive_forms(reference, key, options):
    loss = info_nce_loss(reference["h_sh_ecg"], reference["h_sh_text"], temperature=0.07, **options)
    check(loss, reference[key])


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("siglip_raw_dot", {"scale": 1.0, "bias": 0.0, "normalize": False}),
        ("siglip_l2norm", {"scale": 1.0, "bias": 0.0}),
        ("siglip_l2norm_scale10_bias_minus10", {"scale": 10.0, "bias": -10.0}),
        ("siglip_l2norm_mean_over_BxB", {"scale": 1.0, "bias": 0.0, "reduction": "mean_pairs"}),
    ],
)
def test_siglip_forms(reference, key, options):
    check(siglip_loss(reference["h_sh_ecg"], reference["h_sh_text"], **options), reference[key])


def test_orthogonality(reference):
    total = orthogonality_loss(reference["h_sp_ecg"], reference["h_sh_ecg"]) + orthogonality_loss(
        reference["h_sp_text"], reference["h_sh_text"]
    )
    check(total, reference["orth"])


@pytest.mark.parametrize(("key", "reduction"), [("rec_eq2_sum", "sum"), ("rec_mean", "mean")])
def test_reconstruction(reference, key, reduction):
    prediction, target = (reference[name].flatten(1, 2) for name in ("rec_pred", "rec_target"))
    loss = reconstruction_loss(prediction, target, reference["rec_mask"].flatten(1), reduction=reduction)
    check(loss, reference[key])


def test_masked_tokens(reference):
    labels = reference["mlm_labels"]
    masked = labels != -100
    loss = masked_token_loss(reference["mlm_logits"], labels.clamp(min=0), masked.double())
    check(loss, reference["mlm_eq3_per_sample"])

"""Layouts of tokens, against the tokens real models make."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import ecg_hf
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.tokens import TokenLayout, token_layout, token_times


def model(**config: object) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(**config))


def test_patches_of_each_lead_in_turn() -> None:
    leads, starts = token_times(model(patch_size=25, num_leads=3), 100, 12)
    assert leads is not None
    assert leads.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert starts.tolist() == [0, 25, 50, 75] * 3


def test_class_token_stands_for_no_moment() -> None:
    leads, starts = token_times(model(patch_size=50, num_leads=2), 100, 5)
    assert leads is not None
    assert leads.tolist() == [-1, 0, 0, 1, 1]
    assert starts.tolist() == [-1, 0, 50, 0, 50]


def test_steps_in_time() -> None:
    assert token_layout(model(patch_size=4, num_leads=12), 250, 63) == TokenLayout(63, 4)
    assert token_layout(model(samples_per_step=32, num_leads=12), 250, 7) == TokenLayout(7, 32)
    leads, starts = token_times(model(patch_size=2, num_leads=12), 8, 4)
    assert leads is None
    assert starts.tolist() == [0, 2, 4, 6]


def test_model_may_know_better() -> None:
    own = TokenLayout(5, 20, leads=2, before=2)
    one = model()
    one.token_layout = lambda samples, tokens: own
    assert token_layout(one, 100, 12) is own
    assert own.count == 12


def test_what_the_configuration_does_not_tell_is_not_guessed() -> None:
    for config, tokens in (({"patch_size": 25, "num_leads": 3}, 14), ({"num_leads": 12}, 100), ({}, 4)):
        with pytest.raises(ConfigurationError, match="does not tell"):
            token_layout(model(**config), 100, tokens)


@pytest.mark.parametrize(
    ("prefix", "lead_major", "before"),
    [
        ("EcgJepa", True, 0),
        ("CgDmer", True, 0),
        ("CoreEcg", True, 1),
        ("EcgCpc", False, 0),
        ("AclEcg", False, 0),
    ],
)
def test_tokens_of_every_method_are_placed(prefix: str, lead_major: bool, before: int) -> None:
    config = getattr(ecg_hf, f"{prefix}Config").preset("micro")
    one = getattr(ecg_hf, f"{prefix}Model")(config).eval()
    values = torch.randn(1, config.num_leads, config.num_samples)
    with torch.no_grad():
        tokens = one(values).last_hidden_state
    layout = token_layout(one, config.num_samples, tokens.shape[1])
    leads = config.num_leads if lead_major else None
    assert (layout.leads, layout.before, layout.count) == (leads, before, tokens.shape[1])
    covered = layout.steps * layout.samples_per_token
    assert abs(covered - config.num_samples) < layout.samples_per_token


def test_token_of_a_moment_is_the_one_that_changes_with_it() -> None:
    """A spike at a known moment of one lead, through the patch projection alone: layers mix what it finds."""
    config = ecg_hf.EcgJepaConfig.preset("micro", num_hidden_layers=1)
    one = ecg_hf.EcgJepaModel(config).eval()
    values = torch.randn(1, config.num_leads, config.num_samples)
    spiked = values.clone()
    spiked[0, 3, 420] += 50.0
    with torch.no_grad():
        change = (one(spiked).last_hidden_state - one(values).last_hidden_state).norm(dim=-1)[0]
    leads, starts = token_times(one, config.num_samples, len(change))
    assert leads is not None
    most = int(change.argmax())
    assert leads[most] == 3
    assert starts[most] <= 420 < starts[most] + config.patch_size


def test_beats_are_not_placed() -> None:
    config = ecg_hf.ClearHugConfig.preset("micro")
    with pytest.raises(ConfigurationError, match="does not tell"):
        token_layout(SimpleNamespace(config=config), config.num_samples, config.num_leads + config.num_tokens)

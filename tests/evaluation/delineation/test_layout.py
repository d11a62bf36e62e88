"""Layouts of tokens, against the tokens real models make."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.layout import TokenLayout, token_layout, token_times


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

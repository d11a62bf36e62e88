"""The converter's account."""

import pytest
import torch

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import OfficialState


def state() -> OfficialState:
    return OfficialState(
        {"blocks.0.w": torch.ones(2, 3), "blocks.1.w": torch.ones(2, 3).half(), "n": torch.tensor(3)}
    )


def test_everything_taken_or_ignored_closes_the_account():
    official = state()
    assert official.count("blocks.{}.") == 2
    assert official.require_shape("blocks.0.w", 2) == (2, 3)
    assert official.take("blocks.0.w", 2, 3).shape == (2, 3)
    assert official.take("blocks.1.w", 2, 3).dtype == torch.float32
    assert official.take("n").dtype == torch.int64
    official.ignore("never there")
    official.finish()


def test_all_problems_are_listed_at_once():
    official = state()
    assert official.take("absent", 4).shape == (4,)
    assert official.take("blocks.0.w", 3, 2).shape == (3, 2)
    official.ignore("n")
    with pytest.raises(ConversionError) as error:
        official.finish()
    assert error.value.value == {
        "missing": ["absent"],
        "mis-shaped": ["blocks.0.w is (2, 3), not (3, 2)"],
        "unexpected": ["blocks.1.w"],
    }
    for word in ("1 missing: absent", "1 mis-shaped", "1 unexpected: blocks.1.w"):
        assert word in str(error.value)


@pytest.mark.parametrize(("key", "dims"), [("absent", 2), ("blocks.0.w", 3)])
def test_a_key_sizes_depend_on_must_be_there(key: str, dims: int):
    with pytest.raises(ConversionError, match=r"not a checkpoint of this method.*blocks\.0\.w"):
        state().require_shape(key, dims)

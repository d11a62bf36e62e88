"""Masks over time against the official code's draws and statistics."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ecg_hf.nn.masks.time import (
    block_time_mask,
    covered_time_mask,
    draw_covered_times,
    draw_time_mask,
    random_time_mask,
)

BLOCK, RANDOM = (0.175, 0.225), (0.6, 0.7)


@pytest.fixture
def stored(shared_fixtures: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_fixtures / "ecg_jepa" / "masks.safetensors")


@pytest.fixture
def statistics(shared_fixtures: Path) -> dict[str, dict[str, float]]:
    return json.loads((shared_fixtures / "ecg_jepa" / "mask_stats.json").read_text())


@pytest.mark.fixtures
def test_block_masks_are_the_official_ones(stored: dict[str, torch.Tensor]):
    """The official order of draws: per block a ratio and a permutation whose first entry is the start."""
    generator = torch.Generator().manual_seed(0)
    ratios, starts = torch.zeros(16, 4, dtype=torch.float64), torch.zeros(16, 4, dtype=torch.float64)
    for row in range(16):
        for block in range(4):
            ratio = BLOCK[0] + float(torch.rand(1, generator=generator)) * (BLOCK[1] - BLOCK[0])
            room = 50 - int(50 * ratio)
            start = int(torch.randperm(room, generator=generator)[0])
            ratios[row, block], starts[row, block] = ratio, (start + 0.5) / room
    assert torch.equal(block_time_mask(ratios, starts, 50), stored["block_0.175_0.225_seed0"].bool())


@pytest.mark.fixtures
def test_random_masks_are_the_official_ones(stored: dict[str, torch.Tensor]):
    generator = torch.Generator().manual_seed(0)
    ratios, orders = torch.zeros(16, dtype=torch.float64), torch.zeros(16, 50)
    for row in range(16):
        ratios[row] = RANDOM[0] + float(torch.rand(1, generator=generator)) * (RANDOM[1] - RANDOM[0])
        orders[row] = torch.randperm(50, generator=generator).argsort().float()
    assert torch.equal(random_time_mask(ratios, orders), stored["random_0.6_0.7_seed0"].bool())


@pytest.mark.fixtures
def test_statistics_of_block_masks(statistics: dict[str, dict[str, float]]):
    generator = torch.Generator().manual_seed(1)
    ratio = BLOCK[0] + (BLOCK[1] - BLOCK[0]) * torch.rand(20_000, 4, generator=generator)
    mask = block_time_mask(ratio, torch.rand(20_000, 4, generator=generator), 50).double()
    expected, count, place = statistics["block"], mask.sum(1), mask.mean(0)
    assert float(count.mean()) == pytest.approx(expected["mean_count"], abs=0.15)
    assert float(count.std()) == pytest.approx(expected["std"], abs=0.1)
    assert abs(float(count.min()) - expected["min"]) <= 2
    assert abs(float(count.max()) - expected["max"]) <= 2
    for index, name in ((0, "p_first"), (25, "p_mid"), (48, "p_48")):
        assert float(place[index]) == pytest.approx(expected[name], abs=0.015)
    assert float(place[49]) == expected["p_49"] == 0.0


@pytest.mark.fixtures
def test_statistics_of_random_masks(statistics: dict[str, dict[str, float]]):
    generator = torch.Generator().manual_seed(1)
    ratio = RANDOM[0] + (RANDOM[1] - RANDOM[0]) * torch.rand(20_000, generator=generator)
    mask = random_time_mask(ratio, torch.rand(20_000, 50, generator=generator)).double()
    expected, count, place = statistics["random"], mask.sum(1), mask.mean(0)
    assert float(count.mean()) == pytest.approx(expected["mean_count"], abs=0.05)
    assert (float(count.min()), float(count.max())) == (expected["min"], expected["max"])
    torch.testing.assert_close(
        count.unique(return_counts=True)[1] / 20_000, torch.full((5,), 0.2), rtol=0, atol=0.02
    )
    assert float(place.min()) > expected["per_pos_min"] - 0.01
    assert float(place.max()) < expected["per_pos_max"] + 0.01


@pytest.mark.parametrize(("strategy", "scale"), [("block", BLOCK), ("random", RANDOM)])
def test_drawing_has_the_same_statistics(strategy, scale):
    """Single draws, as training makes them, against many at once."""
    generator = torch.Generator().manual_seed(2)
    drawn = [draw_time_mask(1, 50, strategy, scale, generator).masked.shape[1] for _ in range(2000)]
    mean, sd = (27.39, 4.92) if strategy == "block" else (32.0, 1.414)
    assert sum(drawn) / 2000 == pytest.approx(mean, abs=0.4)
    assert torch.tensor(drawn, dtype=torch.float64).std().item() == pytest.approx(sd, abs=0.3)


def test_last_patch_only_on_request():
    generator = torch.Generator().manual_seed(0)
    ratio, start = torch.full((5000, 4), 0.2), torch.rand(5000, 4, generator=generator)
    official = block_time_mask(ratio, start, 50).double().mean(0)
    fixed = block_time_mask(ratio, start, 50, mask_last=True).double().mean(0)
    assert official[49] == 0.0
    assert fixed[49] > 0.05
    torch.testing.assert_close(fixed, fixed.flip(0), rtol=0.0, atol=0.03)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize(("strategy", "scale"), [("block", BLOCK), ("random", RANDOM)])
def test_rows_are_disjoint_ascending_and_equally_many(strategy, scale, per_row):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        visible, masked = draw_time_mask(16, 50, strategy, scale, generator, per_row=per_row)
        assert (visible.diff(dim=1) > 0).all()
        assert (masked.diff(dim=1) > 0).all()
        both = torch.cat([visible, masked], 1).sort(1).values
        assert (both.diff(dim=1) > 0).all()
        assert both.min() >= 0
        assert both.max() < 50
        alike = (masked == masked[:1]).all().item()
        assert alike == (not per_row)
        left_out = 50 - both.shape[1]
        assert left_out == 0 if strategy == "random" or not per_row else left_out <= 8


def test_masks_per_row_hide_about_as_much_as_one_for_all():
    """Truncating to the smallest of a batch would show the student far less than it is shown by one mask."""
    generator = torch.Generator().manual_seed(0)
    counts = [
        (visible.shape[1], masked.shape[1])
        for visible, masked in (
            draw_time_mask(64, 50, "block", BLOCK, generator, per_row=True) for _ in range(200)
        )
    ]
    visible, masked = torch.tensor(counts, dtype=torch.float64).mean(0).tolist()
    assert visible == pytest.approx(22.6, abs=1.5)
    assert masked == pytest.approx(27.4, abs=1.5)


def reference_cover(times: int, hidden: int, shortest: int, random: np.random.Generator) -> list[bool]:
    """One row by the definition, stretch by stretch."""
    covered = [False] * times
    while sum(covered) < hidden:
        left = hidden - sum(covered)
        at = random.choice([moment for moment in range(times) if not covered[moment]])
        begin = end = int(at)
        while begin > 0 and not covered[begin - 1]:
            begin -= 1
        while end < times and not covered[end]:
            end += 1
        length = int(random.integers(shortest, left + 1)) if left >= shortest else left
        if end - begin <= length:
            start, length = begin, end - begin
        elif left >= shortest or (begin == 0 and end == times):
            start = int(random.integers(begin, end - length + 1))
        else:
            start = int(random.choice([begin] * (begin > 0) + [end - length] * (end < times)))
        covered[start : start + length] = [True] * length
    return covered


def runs(row: list[bool]) -> list[int]:
    """Lengths of the hidden blocks."""
    return [len(list(group)) for hidden, group in groupby(row) if hidden]


@pytest.mark.parametrize(("times", "hidden", "shortest"), [(40, 32, 4), (30, 18, 10), (12, 3, 5)], ids=str)
def test_covered_masks_have_the_statistics_of_the_definition(times: int, hidden: int, shortest: int):
    random = np.random.default_rng(0)
    expected = [reference_cover(times, hidden, shortest, random) for _ in range(3000)]
    found = covered_time_mask(3000, times, hidden, shortest, torch.Generator().manual_seed(0)).tolist()
    for rows in (expected, found):
        assert {sum(row) for row in rows} == {hidden}
    place = [np.mean(rows, axis=0) for rows in (expected, found)]
    np.testing.assert_allclose(*place, atol=0.06)
    blocks = [[len(runs(row)) for row in rows] for rows in (expected, found)]
    assert np.mean(blocks[0]) == pytest.approx(np.mean(blocks[1]), abs=0.08)
    longest = [np.mean([max(runs(row)) for row in rows]) for rows in (expected, found)]
    assert longest[0] == pytest.approx(longest[1], rel=0.03)


def test_covered_times_are_a_partition_with_one_share_for_all_rows():
    counts = []
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        visible, masked = draw_covered_times(16, 40, (0.15, 0.25), 10, generator)
        assert (visible.diff(dim=1) > 0).all()
        assert (masked.diff(dim=1) > 0).all()
        assert torch.equal(torch.cat([visible, masked], 1).sort(1).values, torch.arange(40).expand(16, -1))
        assert len({tuple(row) for row in masked.tolist()}) > 1
        counts.append(visible.shape[1])
    assert (min(counts), max(counts)) == (7, 10)
    visible, masked = draw_covered_times(2, 3, (0.9, 0.95), 10, torch.Generator().manual_seed(0))
    assert (visible.shape, masked.shape) == ((2, 2), (2, 1))

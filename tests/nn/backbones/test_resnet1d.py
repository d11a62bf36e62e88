import pytest
import torch

from ecg_hf.nn.backbones.resnet1d import ResidualBlock1d, ResNet1d


def make(**changes):
    options = {
        "stem_channels": 4,
        "stem_kernel_size": 7,
        "stem_stride": 2,
        "channels": [4, 8],
        "depths": [1, 2],
    }
    return ResNet1d(12, **{**options, **changes})


@pytest.mark.parametrize("samples", [96, 97, 127])
def test_length_is_divided_by_the_stride(samples: int):
    network = make()
    assert network.stride == 8
    assert network(torch.randn(2, 12, samples)).shape == (2, 8, -(-samples // 8))


def test_stages_may_keep_the_length():
    assert make(strides=[1, 2]).stride == 4


def test_a_new_block_passes_its_shortcut_on():
    block = ResidualBlock1d(4, 4).eval()
    torch.nn.init.zeros_(block.last_norm.weight)
    features = torch.rand(2, 4, 10)
    torch.testing.assert_close(block(features), features)


def test_output_mask_counts_a_step_with_any_sample():
    mask = torch.zeros(1, 20, dtype=torch.bool)
    mask[0, :9] = True
    assert make().output_mask(mask).tolist() == [[True, True, False]]


def test_a_shortcut_averages_or_skips():
    features = torch.arange(8.0).repeat(1, 4, 1)
    assert type(ResidualBlock1d(4, 4, stride=2).shortcut[0]) is torch.nn.AvgPool1d
    block = ResidualBlock1d(4, 4, stride=2, pool_shortcut=False).eval()
    torch.nn.init.zeros_(block.last_norm.weight)
    torch.nn.init.dirac_(block.shortcut[0][0].weight)
    torch.testing.assert_close(block(features)[0, 0], torch.tensor([0.0, 2.0, 4.0, 6.0]), rtol=1e-4, atol=0)


def test_another_stem_takes_the_place_of_the_convolution():
    stem = torch.nn.Conv1d(12, 4, 3, stride=2, padding=1)
    assert make(stem=stem).stem is stem


def test_bottlenecks_widen_behind_three_convolutions():
    network = make(expansion=4)
    assert network(torch.randn(2, 12, 96)).shape == (2, 32, 12)
    assert [len(block.convolutions) for block in network.blocks] == [3, 3, 3]
    assert network.blocks[1].convolutions[1][0].stride == (2,)

import pytest
import torch

from ecg_hf.nn.backbones.vgg1d import Vgg1d

FAMILY = {"channels": (8, 16, 32, 64, 64), "depths": (2, 2, 3, 3, 3)}
SMALL = {"channels": (4, 8, 8), "depths": (1, 2, 1), "stem_kernel_size": 7, "stem_stride": 2}


def test_parameters_of_the_family():
    """78,216 trainable weights per lead, 625,728 for eight; 2048 samples give 64 steps."""
    single, eight = Vgg1d(1, **FAMILY), Vgg1d(1, groups=8, **FAMILY)
    assert sum(p.numel() for p in single.parameters()) == 78_216
    assert sum(p.numel() for p in eight.parameters()) == 625_728
    with torch.no_grad():
        assert eight.eval()(torch.randn(1, 8, 2048))[0].shape == (1, 512, 64)


@pytest.mark.parametrize("training", [True, False])
def test_groups_are_separate_networks(training: bool):
    """One grouped computation equals a loop over networks with the slices of its weights, gradients included."""
    torch.manual_seed(0)
    grouped = Vgg1d(1, groups=3, **SMALL).train(training)
    signal = torch.randn(4, 3, 200)
    features, _ = grouped(signal)
    features.square().sum().backward()
    parts = []
    for g in range(3):
        single = Vgg1d(1, **SMALL).train(training)
        with torch.no_grad():
            for own, (_, whole) in zip(single.parameters(), grouped.named_parameters(), strict=True):
                own.copy_(whole.chunk(3)[g])
        part, _ = single(signal[:, g : g + 1])
        part.square().sum().backward()
        for own, (name, whole) in zip(single.parameters(), grouped.named_parameters(), strict=True):
            torch.testing.assert_close(own.grad, whole.grad.chunk(3)[g], rtol=1e-3, atol=1e-3, msg=name)
        parts.append(part)
    torch.testing.assert_close(features, torch.cat(parts, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [160, 161, 175, 176, 190])
def test_padding_on_the_right_is_as_good_as_absent(length: int):
    torch.manual_seed(0)
    model = Vgg1d(2, **SMALL).eval()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        torch.nn.init.normal_(norm.bias)  # zeros would stay zeros without any mask
    signal = torch.randn(3, 2, 200)
    mask = (torch.arange(200) < length).expand(3, -1)
    padded, steps = model(signal, mask)
    alone, _ = model(signal[..., :length])
    assert int(steps[0].sum()) == alone.shape[-1]
    torch.testing.assert_close(padded[..., : alone.shape[-1]], alone)
    assert torch.equal(steps, model.output_mask(mask))

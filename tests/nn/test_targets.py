"""Standardised targets: what outliers and unknown values do, and coordinates against an eigenvalue solver."""

import numpy as np
import torch

from ecg_hf.nn.targets import PrincipalComponents, Standardizer


def test_a_wild_value_does_not_set_the_scale_and_nan_stays_unknown():
    generator = torch.Generator().manual_seed(0)
    values = 3.0 + 2.0 * torch.randn(2000, 3, generator=generator)
    values[0, 0], values[:50, 1], values[:, 2] = 1e6, torch.nan, 7.0
    standard = Standardizer(3, limit=6.0)
    standard.fit(values)
    torch.testing.assert_close(standard.mean[1], torch.tensor(3.0), atol=0.2, rtol=0)
    torch.testing.assert_close(standard.scale[1], torch.tensor(2.0), atol=0.1, rtol=0)
    # One record of 2000 at a million: unlimited, the deviation would be 22,000.
    assert standard.scale[0] < 4000
    assert standard.scale[2] == 1.0
    result = standard(values)
    assert result[0, 0] == 6.0
    assert result[:50, 1].isnan().all()
    assert (result[:, 2] == 0.0).all()


def test_coordinates_have_unit_variance_and_follow_the_main_directions():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 5, generator=generator) * torch.tensor([0.3, 0.1, 0.05, 0.02, 0.01])
    values = torch.randn(4000, 5, generator=generator) @ mixing.T
    components = PrincipalComponents(5, 2)
    components.fit(values)
    found = components(values).numpy()
    np.testing.assert_allclose(found.std(0), 1.0, atol=0.02)
    centred = values.numpy() - values.numpy().mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    for column in range(2):
        expected = centred @ directions[column]
        assert abs(np.corrcoef(expected, found[:, column])[0, 1]) > 0.999
    assert (components.directions.abs().argmax(0) == components.directions.argmax(0)).all(), "sign is fixed"


def test_buffers_come_back_from_storage_without_values():
    standard, components = Standardizer(3, 4.0), PrincipalComponents(4, 2)
    for module in (standard, components):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        for value in module.state_dict().values():
            value.fill_(torch.nan)
        module.reset_buffers()
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

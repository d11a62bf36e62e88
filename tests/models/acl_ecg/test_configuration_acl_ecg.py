"""Regions and contradictions."""

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.acl_ecg.configuration_acl_ecg import PRESETS, AclEcgConfig
from ecg_hf.models.acl_ecg.regions_acl_ecg import NUM_REGIONS


def test_base_preset_is_the_paper():
    config = AclEcgConfig.preset("base")
    assert PRESETS["base"] == {}
    assert config.lead_names == ["II", "III", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert list(config.regions.values()) == [("II", "III"), ("V1", "V2"), ("V3", "V4"), ("V5", "V6")]
    assert (config.gamma, config.temperature, config.region_reduction) == (0.5, 0.1, "sum")
    assert (config.hidden_size, config.samples_per_step, config.max_r_peaks) == (512, 32, 40)


def test_every_lead_is_in_one_region():
    for grouping in ("anatomical", "clinical12", "random"):
        config = AclEcgConfig(region_grouping=grouping)
        leads = [lead for leads in config.regions.values() for lead in leads]
        assert sorted(leads) == sorted(config.lead_names)
        assert len(config.regions) == NUM_REGIONS
    assert "aVR" not in AclEcgConfig(region_grouping="clinical12").lead_names


def test_random_partitions_follow_the_seed_and_nothing_else(tmp_path):
    partitions = [AclEcgConfig(region_grouping="random", partition_seed=seed).regions for seed in range(20)]
    assert len({str(partition) for partition in partitions}) > 15
    assert all(len(leads) == 2 for partition in partitions for leads in partition.values())
    # Written down: a saved model must mean the same leads in every version of every library.
    assert partitions[0] == {
        "random1": ("V5", "V2"),
        "random2": ("II", "V4"),
        "random3": ("III", "V1"),
        "random4": ("V3", "V6"),
    }
    AclEcgConfig(region_grouping="random", partition_seed=7).save_pretrained(tmp_path)
    assert AclEcgConfig.from_pretrained(tmp_path).regions == partitions[7]
    eleven = AclEcgConfig(
        region_grouping="random", lead_names=AclEcgConfig(region_grouping="clinical12").lead_names
    )
    assert sorted(len(leads) for leads in eleven.regions.values()) == [2, 3, 3, 3]


def test_variants():
    assert list(AclEcgConfig.preset("base", variant="rate-safe").crop_ratio) == [0.85, 1.0]
    assert list(AclEcgConfig.preset("base", variant="rate-safe", crop_ratio=[0.9, 1.0]).crop_ratio) == [
        0.9,
        1.0,
    ]
    paper = AclEcgConfig.preset("base")
    control = AclEcgConfig.preset("base", variant="random-regions")
    assert control.lead_names == paper.lead_names
    assert set(control.regions.values()) != set(paper.regions.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"lead_names": ["I", "II", "III", "V1", "V3", "V5"]}, "no region of anatomical holds lead I"),
        ({"lead_names": ["II", "III", "V1", "V3"]}, "no lead for region lateral"),
        ({"lead_names": ["II", "V1", "V2"], "region_grouping": "random"}, "no lead for region"),
        ({"depths": [1, 1]}, "differ in length"),
        ({"channels": [0, 8, 8]}, "must be positive"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"stem_stride": 0}, "stem_stride"),
        ({"num_samples": 31}, "leaves no step"),
        ({"projector_sizes": []}, "projector_sizes"),
        ({"temperature": 0.0}, "temperature"),
        ({"gamma": 1.5}, "gamma"),
        ({"crop_ratio": [0.0, 1.0]}, "crop_ratio"),
        ({"crop_ratio": [0.9, 0.8]}, "crop_ratio"),
        ({"mask_ratio": [0.1, 1.0]}, "mask_ratio"),
        ({"cycle_probability": -0.1}, "cycle_probability"),
        ({"max_shift_s": -1.0}, "max_shift_s"),
        ({"fallback_windows": 0}, "fallback_windows"),
        ({"mask_mode": "beat"}, "mask_mode"),
    ],
    ids=str,
)
def test_contradictions_are_refused(overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        AclEcgConfig.preset("micro", **overrides)

"""Every registered method embeds a real dataset through its own feature extractor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from ecg_hf.data import build_dataset, load_built
from ecg_hf.data.feature import Ecg
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.cache import fingerprint_dataset
from ecg_hf.evaluation.features.pooled import embed_dataset
from ecg_hf.models.registry import METHODS
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.synthetic import simulate


@pytest.fixture(params=sorted(METHODS))
def parts(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """Micro model, its feature extractor, seven synthetic records; one of them lacks a lead."""
    spec = METHODS[request.param]
    config = spec.load("config").preset(spec.sizes[0])
    torch.manual_seed(0)
    model = spec.load("model")(config)
    extractor = spec.load("feature_extractor")(
        sampling_rate=config.sampling_rate, lead_names=config.lead_names,
        duration_s=config.num_samples / config.sampling_rate,
    )  # fmt: skip
    batch = simulate(7, sampling_rate=100.0)
    names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    rows = [EcgRecord(signal, 100.0, names) for signal in batch.signal]
    rows[2] = EcgRecord(rows[2].signal[:-1], 100.0, names[:-1])
    table = datasets.Dataset.from_dict({"ecg": rows}, features=datasets.Features({"ecg": Ecg()}))
    return model, extractor, table


def test_rows_equal_one_record_at_a_time(parts: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, extractor, table = parts
    result = embed_dataset(model, extractor, table, batch_size=3, cache_dir=tmp_path, progress=False)
    model.eval()
    for i, row in enumerate(result):
        inputs = extractor(table[i]["ecg"], return_tensors="pt")
        with torch.no_grad():
            alone = model(**inputs).pooler_output[0].numpy()
        np.testing.assert_allclose(row, alone, rtol=1e-4, atol=2e-5)
    assert np.abs(result[0] - result[1]).max() > 1e-4, "different records have different embeddings"
    again = embed_dataset(model, extractor, table, cache_dir=tmp_path, progress=False)
    np.testing.assert_array_equal(again, result)
    assert len(list(tmp_path.iterdir())) == 1


def test_projected_features_are_the_dual_encoders(parts: tuple[Any, Any, Any]) -> None:
    model, extractor, table = parts
    if not hasattr(model, "get_ecg_features"):
        from ecg_hf.errors import ConfigurationError

        with pytest.raises(ConfigurationError, match="dual encoder"):
            embed_dataset(model, extractor, table, features="projected", progress=False)
        return
    result = embed_dataset(model, extractor, table, features="projected", progress=False)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1.0, atol=1e-5)
    model.eval()
    inputs = extractor([table[i]["ecg"] for i in range(7)], return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(result, model.get_ecg_features(**inputs).numpy(), atol=1e-5)


def test_known_r_peaks_reach_models_that_cut_beats(tmp_path):
    """Stored peaks are used instead of detecting again, and another set of peaks is another embedding."""
    build_dataset("synthetic", None, tmp_path / "built", records=6, sampling_rate=100, progress=False)
    dataset = load_built(tmp_path / "built")
    spec = METHODS["clear-hug"]
    config = spec.load("config").preset("micro")
    torch.manual_seed(0)
    model, extractor = spec.load("model")(config).eval(), spec.feature_extractor_for(config)
    stored = embed_dataset(model, extractor, dataset, progress=False)
    shifted = dataset.map(
        lambda row: {"r_peaks": [peak + 20 for peak in row["r_peaks"]]}, load_from_cache_file=False
    )
    moved = embed_dataset(model, extractor, shifted, progress=False)
    assert np.abs(stored - moved).max() > 1e-3
    one = fingerprint_dataset(dataset, r_peaks=True)
    assert one != fingerprint_dataset(shifted, r_peaks=True)
    assert fingerprint_dataset(dataset) == fingerprint_dataset(shifted)


def test_what_preparing_did_is_counted_also_from_the_file(tmp_path: Path, caplog: Any) -> None:
    spec = METHODS["ecg-jepa"]
    config = spec.load("config").preset("micro")
    model, extractor = spec.load("model")(config).eval(), config.feature_extractor()
    signals = np.tile(simulate(5, seed=1, sampling_rate=100.0).signal, (1, 1, 2))
    signals[0, 1, 10:30] = np.nan
    signals[3, 7, :900] = np.nan
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    records = [EcgRecord(signal, 100.0, leads) for signal in signals]
    expected = {
        "cropped": 5,
        "leads_dropped": 5,
        "nan_interpolated": 1,
        "lead_beyond_repair": 1,
        "lead_missing": 1,
    }
    for _ in range(2):  # the second reads the file
        counts: Counter[str] = Counter()
        embed_dataset(
            model,
            extractor,
            records,
            batch_size=2,
            output=tmp_path / "e.safetensors",
            progress=False,
            counts=counts,
        )
        assert counts == expected
    assert "Of 5 recordings: 1 nan_interpolated, 1 lead_beyond_repair, 5 cropped." in caplog.text
    with pytest.raises(ConfigurationError, match="gives 250 Hz, the model takes 100 Hz"):
        embed_dataset(model, spec.load("feature_extractor")(), records)

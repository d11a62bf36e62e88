"""One pass, in order, resumable, and never the embeddings of something else."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers.utils import logging

from ecg_hf.data.feature import Ecg
from ecg_hf.errors import ConfigurationError, NonFiniteSignal
from ecg_hf.evaluation.cache import fingerprint_dataset, fingerprint_model, fingerprint_preprocessing
from ecg_hf.evaluation.features import pooled as embedding
from ecg_hf.evaluation.features.pooled import embed_dataset, read_embeddings, write_embeddings
from ecg_hf.progress import progress_bar
from ecg_hf.signal.record import EcgRecord

LEADS = ("I", "II", "V1")


class TinyEncoder(nn.Module):
    """Mean and spread of every lead through one layer; counts its calls."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(6, dim)
        self.dropout = nn.Dropout(0.5)
        self.batches: list[int] = []
        self.fail_after: int | None = None

    def forward(self, input_values: torch.Tensor, lead_mask: torch.Tensor | None = None) -> SimpleNamespace:
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise KeyboardInterrupt
        self.batches.append(len(input_values))
        statistics = torch.cat([input_values.mean(-1), input_values.std(-1)], dim=1)
        return SimpleNamespace(pooler_output=self.dropout(self.linear(statistics)), nothing=None)


class TinyExtractor:
    """Stacks signals; also makes a tensor no model takes."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def to_dict(self) -> dict[str, Any]:
        return {"gain": self.gain}

    def __call__(
        self, ecg: Any, sampling_rate: float | None = None, lead_names: Any = None, return_tensors: str = "pt"
    ) -> dict[str, torch.Tensor]:
        if isinstance(ecg, list):
            ecg = np.stack([e.signal if isinstance(e, EcgRecord) else e["signal"] for e in ecg])
        values = torch.from_numpy(np.array(ecg)) * self.gain
        return {"input_values": values, "lead_mask": torch.ones(values.shape[:2]), "unknown": values}


def records(n: int = 23, seed: int = 0) -> list[EcgRecord]:
    rng = np.random.default_rng(seed)
    return [
        EcgRecord(rng.normal(i, 1 + i / 7, size=(3, 50)).astype(np.float32), 100.0, LEADS) for i in range(n)
    ]


def expected(model: TinyEncoder, rows: list[EcgRecord]) -> np.ndarray:
    x = np.stack([r.signal for r in rows])
    statistics = np.concatenate([x.mean(-1), x.std(-1, ddof=1)], axis=1)
    return statistics @ model.linear.weight.detach().numpy().T + model.linear.bias.detach().numpy()


def test_rows_follow_the_dataset_and_modes_are_restored() -> None:
    model, rows = TinyEncoder(), records()
    model.train()
    model.linear.eval()
    result = embed_dataset(model, TinyExtractor(), rows, batch_size=5, progress=False)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected(model, rows), rtol=1e-4, atol=1e-5)
    assert model.batches == [5, 5, 5, 5, 3]
    assert model.training
    assert model.dropout.training
    assert not model.linear.training
    assert model.linear.weight.requires_grad


def test_modes_are_restored_after_a_failure() -> None:
    model = TinyEncoder()
    model.fail_after = 1
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(model, TinyExtractor(), records(), batch_size=5, progress=False)
    assert model.dropout.training


def test_killed_run_continues_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART_RECORDS", 8)
    model, rows, output = TinyEncoder(), records(), tmp_path / "run" / "embeddings.safetensors"
    whole = embed_dataset(model, TinyExtractor(), rows, batch_size=4, progress=False)
    model.batches.clear()
    model.fail_after = 5
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(model, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert not output.exists()
    model.batches.clear()
    model.fail_after = None
    resumed = embed_dataset(model, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert sum(model.batches) == 23 - 16, "the two finished parts are not computed again"
    np.testing.assert_array_equal(resumed, whole)
    assert [p.name for p in output.parent.iterdir()] == [output.name]
    model.batches.clear()
    again = embed_dataset(model, TinyExtractor(), rows, output=output, progress=False)
    assert model.batches == []
    np.testing.assert_array_equal(again, whole)


def test_parts_of_another_model_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART_RECORDS", 4)
    output, rows = tmp_path / "e.safetensors", records()
    first = TinyEncoder()
    first.fail_after = 3
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(first, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    second = TinyEncoder()
    result = embed_dataset(second, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert sum(second.batches) == 23
    np.testing.assert_allclose(result, expected(second, rows), rtol=1e-4, atol=1e-5)


def test_damaged_part_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART_RECORDS", 4)
    model, rows, output = TinyEncoder(), records(), tmp_path / "e.safetensors"
    model.fail_after = 4
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(model, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    parts = sorted((tmp_path / "e.safetensors.parts").iterdir())
    parts[1].write_bytes(parts[1].read_bytes()[:50])
    model.fail_after = None
    model.batches.clear()
    result = embed_dataset(model, TinyExtractor(), rows, batch_size=4, output=output, progress=False)
    assert sum(model.batches) == 23 - 4
    np.testing.assert_allclose(result, expected(model, rows), rtol=1e-4, atol=1e-5)


def test_cache_is_keyed_by_weights_preprocessing_and_data(tmp_path: Path) -> None:
    model, rows = TinyEncoder(), records()

    def run(extractor: TinyExtractor, data: list[EcgRecord]) -> int:
        before = len(model.batches)
        embed_dataset(model, extractor, data, cache_dir=tmp_path, progress=False)
        return len(model.batches) - before

    assert run(TinyExtractor(), rows) == 1
    assert run(TinyExtractor(), rows) == 0
    assert run(TinyExtractor(gain=2.0), rows) == 1
    changed = [*rows[:-1], EcgRecord(rows[-1].signal + 1e-6, 100.0, LEADS)]
    assert run(TinyExtractor(), changed) == 1
    assert run(TinyExtractor(), rows[::-1]) == 1
    with torch.no_grad():
        model.linear.bias[0] += 1e-6
    assert run(TinyExtractor(), rows) == 1
    assert len(list(tmp_path.iterdir())) == 5


def test_a_folder_is_no_output_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="folder"):
        embed_dataset(TinyEncoder(), TinyExtractor(), records(3), output=tmp_path, progress=False)
    assert not tmp_path.with_name(f"{tmp_path.name}.parts").exists()


def test_output_of_something_else_is_refused(tmp_path: Path) -> None:
    output, rows = tmp_path / "e.safetensors", records(6)
    embed_dataset(TinyEncoder(), TinyExtractor(), rows, output=output, progress=False)
    other = TinyEncoder()
    with pytest.raises(ConfigurationError, match="another model"):
        embed_dataset(other, TinyExtractor(), rows, output=output, progress=False)
    result = embed_dataset(other, TinyExtractor(), rows, output=output, overwrite=True, progress=False)
    np.testing.assert_array_equal(read_embeddings(output), result)


def test_file_is_plain_float32_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    write_embeddings(path, np.eye(3, dtype=np.float64), {"model": "abc"})
    with safe_open(path, framework="np") as file:
        assert list(file.keys()) == ["embeddings"]
        assert file.get_tensor("embeddings").dtype == np.float32
        assert file.metadata()["model"] == "abc"
    with pytest.raises(ConfigurationError):
        write_embeddings(path, np.zeros(3))
    np.testing.assert_array_equal(read_embeddings(path), np.eye(3))
    assert [p.name for p in tmp_path.iterdir()] == ["e.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_unreadable_file_is_a_typed_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "e.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"e\.safetensors"):
        read_embeddings(path)


def test_bad_requests() -> None:
    model, extractor, rows = TinyEncoder(), TinyExtractor(), records(3)
    with pytest.raises(ConfigurationError, match="no records"):
        embed_dataset(model, extractor, [])
    with pytest.raises(ConfigurationError, match="batch_size"):
        embed_dataset(model, extractor, rows, batch_size=0)
    with pytest.raises(ConfigurationError, match="'nothing'"):
        embed_dataset(model, extractor, rows, features="nothing", progress=False)
    with pytest.raises(ConfigurationError, match="not both"):
        embed_dataset(model, extractor, rows, output="a", cache_dir="b")


def test_non_finite_embedding_names_its_record() -> None:
    rows = records(9)
    rows[7] = EcgRecord(np.full((3, 50), np.nan, np.float32), 100.0, LEADS)
    with pytest.raises(NonFiniteSignal, match="record 7"):
        embed_dataset(TinyEncoder(), TinyExtractor(), rows, batch_size=4, progress=False)


def test_fingerprints_see_what_matters_and_nothing_else() -> None:
    model = TinyEncoder()
    assert fingerprint_model(model) == fingerprint_model(model)
    assert fingerprint_model(model) != fingerprint_model(TinyEncoder())
    model.config = SimpleNamespace(to_dict=lambda: {"pooling": "mean", "_name_or_path": "a"})
    first = fingerprint_model(model)
    model.config = SimpleNamespace(to_dict=lambda: {"pooling": "mean", "_name_or_path": "b"})
    assert fingerprint_model(model) == first
    model.config = SimpleNamespace(to_dict=lambda: {"pooling": "attention"})
    assert fingerprint_model(model) != first
    assert fingerprint_preprocessing(TinyExtractor(1.0)) != fingerprint_preprocessing(TinyExtractor(1.5))


class TestDatasets:
    """The same over Hugging Face datasets."""

    @staticmethod
    def dataset(rows: list[EcgRecord]) -> Any:
        features = datasets.Features({"record_id": datasets.Value("string"), "ecg": Ecg()})
        return datasets.Dataset.from_dict(
            {"record_id": [str(i) for i in range(len(rows))], "ecg": rows}, features=features
        )

    def test_selection_and_order_are_respected(self) -> None:
        model, rows = TinyEncoder(), records()
        chosen = [20, 3, 3, 11]
        result = embed_dataset(model, TinyExtractor(), self.dataset(rows).select(chosen), progress=False)
        np.testing.assert_allclose(result, expected(model, [rows[i] for i in chosen]), rtol=1e-4, atol=1e-5)

    def test_fingerprint_is_content(self) -> None:
        rows = records()
        data = self.dataset(rows)
        reference = fingerprint_dataset(data)
        assert fingerprint_dataset(self.dataset(rows)) == reference
        assert fingerprint_dataset(data.select(range(23))) == reference
        assert fingerprint_dataset(data.remove_columns("record_id")) == reference
        assert fingerprint_dataset(data.select(range(22))) != reference
        assert fingerprint_dataset(data.select([1, 0, *range(2, 23)])) != reference
        from ecg_hf.data.feature import Ecg

        assert fingerprint_dataset(data.cast_column("ecg", Ecg(sampling_rate=50))) != reference
        rows[4] = EcgRecord(rows[4].signal, 99.0, LEADS)
        assert fingerprint_dataset(self.dataset(rows)) != reference

    def test_missing_leads_reach_the_extractor_as_missing(self) -> None:
        seen: list[Any] = []

        class Recording(TinyExtractor):
            def __call__(self, ecg: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
                seen.append((ecg, kwargs))
                return {"input_values": torch.ones(len(ecg), 3, 10)}

        rows = records(2)
        rows[1] = EcgRecord(rows[1].signal[:2, :30], 100.0, LEADS[:2])
        embed_dataset(TinyEncoder(), Recording(), self.dataset(rows), progress=False)
        ((ecg, _),) = seen
        assert [e["signal"].shape for e in ecg] == [(3, 50), (2, 30)]
        assert ecg[1]["lead_names"] == LEADS[:2]

    def test_different_rates_are_left_to_the_extractor(self) -> None:
        rows = records(2)
        rows[1] = EcgRecord(rows[1].signal, 250.0, LEADS)
        result = embed_dataset(TinyEncoder(), TinyExtractor(), self.dataset(rows), progress=False)
        assert result.shape == (2, 4)


@pytest.mark.parametrize(("terminal", "wanted"), [(True, True), (False, True), (True, False)])
def test_bars_are_for_terminals_that_want_them(
    terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", screen)
    (logging.enable_progress_bar if wanted else logging.disable_progress_bar)()
    try:
        for show in (True, False):
            with progress_bar(3, f"shown {show}", "record", show=show) as bar:
                bar.update(3)
    finally:
        logging.enable_progress_bar()
    assert ("shown True" in screen.getvalue()) == (terminal and wanted)
    assert "shown False" not in screen.getvalue()

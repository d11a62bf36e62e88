"""Batched reading against one record at a time."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from torch.utils.data import DataLoader

from ecg_hf.data import Ecg
from ecg_hf.data.decoding import DecodedBatch
from ecg_hf.errors import ConfigurationError
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.training import BatchedEcgDataset, EcgCollator, EcgTextCollator
from ecg_hf.training import collators as collators_module
from ecg_hf.training.collators import EcgBatch, extract_features
from ecg_hf.training.vocabulary import make_tokenizer

INDICES = [7, 3, 12, 150, 4]


@pytest.fixture
def extractor() -> EcgFeatureExtractor:
    return EcgFeatureExtractor(sampling_rate=50, normalization="zscore_lead")


def test_fast_path_equals_row_by_row(built: Dataset, extractor: EcgFeatureExtractor) -> None:
    tokenizer = make_tokenizer(built["report"][:], max_length=64)
    collate = EcgTextCollator(extractor, tokenizer, max_length=64)
    fast = collate(BatchedEcgDataset(built, tokenizer=tokenizer, max_text_length=64).__getitems__(INDICES))
    slow = collate([built[index] for index in INDICES])
    assert fast.keys() == slow.keys() == {"input_values", "input_ids", "attention_mask"}
    torch.testing.assert_close(fast["input_values"], slow["input_values"], rtol=0, atol=1e-6)
    assert torch.equal(fast["input_ids"], slow["input_ids"])
    assert torch.equal(fast["attention_mask"], slow["attention_mask"])
    assert fast["input_ids"].shape[1] % 8 == 0
    for row, index in enumerate(INDICES):
        one = extractor(built[index]["ecg"], return_tensors="pt")["input_values"][0]
        torch.testing.assert_close(fast["input_values"][row], one, rtol=0, atol=1e-6)
        ids = tokenizer(built[index]["report"], truncation=True, max_length=64)["input_ids"]
        assert fast["input_ids"][row, : len(ids)].tolist() == ids
        assert not fast["attention_mask"][row, len(ids) :].any()


def test_cached_signals_equal_decoded_ones(built: Dataset, extractor: EcgFeatureExtractor) -> None:
    collate = EcgCollator(extractor)
    fresh = collate(BatchedEcgDataset(built).__getitems__(INDICES))
    cached = collate(BatchedEcgDataset(built, cache_with=extractor).__getitems__(INDICES))
    assert torch.equal(fresh["input_values"], cached["input_values"])
    half = BatchedEcgDataset(built, cache_with=extractor, cache_dtype=torch.float16)
    rounded = collate(half.__getitems__(INDICES))["input_values"]
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, fresh["input_values"], rtol=1e-3, atol=1e-3)


class PeakExtractor(EcgFeatureExtractor):
    wants_r_peaks = True


def test_a_cache_in_a_folder_is_filled_once(
    built: Dataset, extractor: EcgFeatureExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batch(extractor: EcgFeatureExtractor) -> EcgBatch:
        return BatchedEcgDataset(built, cache_with=extractor, cache_dir=tmp_path / "cache").__getitems__(
            [3, 1]
        )

    first = batch(extractor)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    other = type(extractor).from_dict({**extractor.to_dict(), "normalization": "none"})
    assert not torch.equal(batch(other).features["input_values"], first.features["input_values"])
    assert len(list((tmp_path / "cache").iterdir())) == 2
    monkeypatch.setattr(collators_module, "extract_features", None)
    again = batch(extractor)
    assert again.features.keys() == first.features.keys()
    assert all(torch.equal(again.features[name], values) for name, values in first.features.items())


def test_known_r_peaks_reach_the_model_on_every_path(built: Dataset) -> None:
    extractor = PeakExtractor(sampling_rate=50)
    collate = EcgCollator(extractor)
    fast = collate(BatchedEcgDataset(built).__getitems__(INDICES))["r_peaks"]
    for row, index in zip(fast, INDICES, strict=True):
        ecg, known = built[index]["ecg"], np.asarray(built[index]["r_peaks"])
        expected = np.unique(np.rint(known * 50 / ecg["sampling_rate"]).astype(int))
        expected = expected[expected < 500]
        assert row[row >= 0].tolist() == expected.tolist()
        assert expected.size > 3
    assert torch.equal(collate([built[index] for index in INDICES])["r_peaks"], fast)
    cached = BatchedEcgDataset(built, cache_with=extractor)
    assert torch.equal(collate(cached.__getitems__(INDICES))["r_peaks"], fast)


def decoded(signal: np.ndarray, lead_mask: np.ndarray, lengths: list[int]) -> DecodedBatch:
    return DecodedBatch(signal, lead_mask, np.asarray(lengths), 50.0, STANDARD_LEADS)


def test_missing_leads_and_padding_reach_the_extractor_as_such() -> None:
    extractor = EcgFeatureExtractor(
        sampling_rate=50, duration_s=2.0, normalization="zscore_record", return_sample_mask=True
    )
    generator = np.random.default_rng(0)
    signal = generator.normal(size=(3, 12, 100)).astype(np.float32)
    lead_mask = np.ones((3, 12), bool)
    lead_mask[1, 6] = False  # V1 can't be derived
    signal[1, 6] = 0
    signal[2, :, 60:] = 0
    features = extract_features(extractor, decoded(signal, lead_mask, [100, 100, 60]))
    assert features["lead_mask"].tolist()[1][6] == 0
    assert features["lead_mask"].sum() == 35
    assert features["sample_mask"].sum(1).tolist() == [100, 100, 60]
    alone = extractor(signal[2, :, :60], sampling_rate=50, lead_names=STANDARD_LEADS, return_tensors="pt")
    torch.testing.assert_close(features["input_values"][2], alone["input_values"][0])
    whole = extract_features(extractor, decoded(signal[:1], lead_mask[:1], [100]))
    assert whole.keys() == {"input_values"}


def test_works_in_loader_workers_and_survives_pickling(
    built: Dataset, extractor: EcgFeatureExtractor
) -> None:
    tokenizer = make_tokenizer(built["report"][:], max_length=64)
    dataset = pickle.loads(pickle.dumps(BatchedEcgDataset(built, tokenizer=tokenizer, max_text_length=64)))
    collate = EcgTextCollator(extractor, tokenizer, max_length=64)
    here, there = (
        [batch["input_values"] for batch in DataLoader(dataset, 40, collate_fn=collate, num_workers=workers)]
        for workers in (0, 1)
    )
    assert [len(batch) for batch in here] == [40, 40, 40, 40]
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))


def test_reports_are_cut_at_the_maximum(built: Dataset) -> None:
    tokenizer = make_tokenizer(built["report"][:], max_length=10)
    dataset = BatchedEcgDataset(built, tokenizer=tokenizer, max_text_length=10)
    batch = dataset.texts.batch(range(len(built)), pad_to_multiple_of=8)
    assert batch["input_ids"].shape[1] == 10


def test_dataset_without_tokenizer_is_refused_where_reports_are_needed(
    built: Dataset, extractor: EcgFeatureExtractor
) -> None:
    collate = EcgTextCollator(extractor, make_tokenizer(built["report"][:]))
    with pytest.raises(ConfigurationError, match="without a tokenizer"):
        collate(BatchedEcgDataset(built).__getitems__([0]))


def test_tokenizer_is_the_same_in_any_order_and_reloads(built: Dataset, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    reports = built["report"][:]
    tokenizer = make_tokenizer(reports, vocab_size=300, max_length=64)
    assert make_tokenizer(reversed(reports), vocab_size=300).get_vocab() == tokenizer.get_vocab()
    assert len(tokenizer) <= 300
    assert [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id] == [0, 2, 3]
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(reports[0].upper())["input_ids"] == tokenizer(reports[0])["input_ids"]
    # A word of one report only is spelled out, not kept.
    unique = make_tokenizer(["sinus rhythm mr smith", "sinus rhythm", "sinus rhythm mr"], vocab_size=100)
    assert "smith" not in unique.get_vocab()
    assert "rhythm" in unique.get_vocab()


def test_vocabulary_that_can_not_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no words"):
        make_tokenizer(["", " "])
    with pytest.raises(ConfigurationError, match="taken up"):
        make_tokenizer(["sinus rhythm", "sinus rhythm"], vocab_size=12)


def test_a_long_recording_does_not_pad_its_batch(extractor: EcgFeatureExtractor) -> None:
    """A batch is as large as its records, and each becomes what it becomes alone."""
    samples = [1000, 1000, 90_000, 700]
    records = [
        DigitalRecord(
            np.random.default_rng(n).integers(-500, 500, (12, n)).astype("i2"),
            np.full(12, 1000.0), np.zeros(12, "i4"), 100.0, STANDARD_LEADS,
        )
        for n in samples
    ]  # fmt: skip
    dataset = Dataset.from_dict({"ecg": records}, features=Features({"ecg": Ecg()}))
    rows = BatchedEcgDataset(dataset)
    batch = rows.__getitems__([0, 1, 2, 3])
    assert not isinstance(batch.decoded, DecodedBatch)
    assert sum(part.signal.size for _, part in batch.decoded) == 12 * sum(samples)
    together = EcgCollator(extractor)(batch)["input_values"]
    for place in range(4):
        alone = EcgCollator(extractor)(rows.__getitems__([place]))["input_values"]
        torch.testing.assert_close(together[place : place + 1], alone, rtol=0, atol=1e-6)
        row = extractor(dataset[place]["ecg"], return_tensors="pt")["input_values"]
        torch.testing.assert_close(alone, row, rtol=0, atol=1e-6)

"""Batched decoding: the same numbers as row by row, in the order asked for."""

from __future__ import annotations

import pickle
from dataclasses import replace

import datasets
import numpy as np
import pytest

from ecg_hf.data.decoding import BatchDecoder, decode_batch
from ecg_hf.data.feature import Ecg
from ecg_hf.errors import ConfigurationError, NonFiniteSignal, SamplingRateError, SignalError
from ecg_hf.signal import STANDARD_LEADS, DigitalRecord


def record(
    seed: int,
    *,
    leads: tuple[str, ...] = STANDARD_LEADS,
    samples: int = 120,
    rate: float = 100.0,
    gain: float = 1000.0,
    baseline: int = 0,
    dtype: str = "int16",
    gap: slice | None = None,
    dead_lead: int | None = None,
) -> DigitalRecord:
    values = np.random.default_rng(seed).integers(-2000, 2000, (len(leads), samples)).astype(dtype)
    if gap is not None:
        values[0, gap] = -32768
    if dead_lead is not None:
        values[dead_lead] = -32768
    invalid = -32768 if gap is not None or dead_lead is not None else None
    return DigitalRecord(
        values,
        np.full(len(leads), gain),
        np.full(len(leads), baseline, np.int32),
        rate,
        leads,
        invalid=invalid,
    )


def dataset_of(records: list[DigitalRecord], *, parts: int = 1) -> datasets.Dataset:
    """A dataset whose column consists of several chunks."""
    features = datasets.Features({"ecg": Ecg(), "report": datasets.Value("string")})
    size = -(-len(records) // parts)
    pieces = [
        datasets.Dataset.from_list(
            [{"ecg": r, "report": None if i == 1 else f"report {start + i}"} for i, r in enumerate(chunk)],
            features=features,
        )
        for start in range(0, len(records), size)
        for chunk in [records[start : start + size]]
    ]
    return datasets.concatenate_datasets(pieces)


def by_row(dataset: datasets.Dataset, indices: list[int]) -> np.ndarray:
    return np.stack([dataset[i]["ecg"]["signal"] for i in indices])


def test_batch_equals_rows_bit_for_bit():
    rows = dataset_of([record(i) for i in range(11)], parts=3)
    batch = decode_batch(rows, [7, 0, 10, 7, 3])
    assert batch.signal.dtype == np.float32
    assert np.array_equal(batch.signal, by_row(rows, [7, 0, 10, 7, 3]))
    assert batch.lead_mask.all()
    assert batch.lengths.tolist() == [120] * 5
    assert (batch.sampling_rate, batch.lead_names) == (100.0, STANDARD_LEADS)
    assert not batch.is_padded


def test_different_gains_and_baselines():
    rows = dataset_of([record(i, gain=200.0 + 17 * i, baseline=i) for i in range(6)], parts=2)
    assert np.array_equal(decode_batch(rows).signal, by_row(rows, list(range(6))))


@pytest.mark.parametrize("gain", [1e-320, -1e-320, 1e-37])
def test_gains_that_make_signals_infinite(gain: float):
    good = record(0)
    odd = replace(record(1), gain=np.full(12, gain))
    rows = datasets.Dataset.from_dict({"ecg": [good, odd]}, features=datasets.Features({"ecg": Ecg()}))
    for read in (lambda: decode_batch(rows), lambda: rows[1]["ecg"]):
        with pytest.raises(NonFiniteSignal, match="gain"):
            read()
    assert np.isfinite(decode_batch(rows, [0]).signal).all()


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_other_sample_types(dtype: str):
    rows = dataset_of([record(i, dtype=dtype) for i in range(4)])
    assert np.array_equal(decode_batch(rows, [2, 1]).signal, by_row(rows, [2, 1]))


@pytest.mark.parametrize(
    "view",
    [
        lambda d: d.shuffle(seed=3),
        lambda d: d.select(range(4, 9)),
        lambda d: d.select([8, 1, 1, 5]),
        lambda d: d.shuffle(seed=1).select(range(2, 7)),
        lambda d: d.filter(lambda r: r != "report 3", input_columns="report"),
        lambda d: d.with_format("torch"),
        lambda d: d.select_columns(["ecg"]),
    ],
)
def test_views_of_a_dataset_are_respected(view):
    rows = view(dataset_of([record(i) for i in range(10)], parts=3))
    order = [len(rows) - 1, 0, 2]
    plain = rows.with_format(None)
    assert np.array_equal(decode_batch(rows, order).signal, by_row(plain, order))


def test_slices_negative_indices_and_bounds():
    rows = dataset_of([record(i) for i in range(5)])
    decoder = BatchDecoder(rows)
    assert np.array_equal(decoder(slice(1, 3)).signal, decoder([1, 2]).signal)
    assert np.array_equal(decoder([-1]).signal, decoder([4]).signal)
    assert np.array_equal(decoder(None).signal, decoder(range(5)).signal)
    for wrong in ([5], [-6]):
        with pytest.raises(IndexError):
            decoder(wrong)
    assert decoder([]).signal.shape == (0, 12, 0)


def test_gaps_are_nan_and_dead_leads_masked():
    rows = dataset_of([record(0), record(1, gap=slice(3, 6)), record(2, dead_lead=4)])
    batch = decode_batch(rows)
    assert np.isnan(batch.signal).sum() == 3
    assert np.isnan(batch.signal[1, 0, 3:6]).all()
    assert batch.lead_mask.sum(axis=1).tolist() == [12, 12, 11]
    assert not batch.lead_mask[2, 4]
    assert not batch.signal[2, 4].any()


def test_conversion_equals_the_feature():
    rows = dataset_of([record(i) for i in range(4)])
    cast = rows.cast_column("ecg", Ecg(sampling_rate=250, lead_names=["V3", "II"]))
    assert np.array_equal(decode_batch(cast, [3, 1]).signal, by_row(cast, [3, 1]))
    by_argument = decode_batch(rows, [3, 1], sampling_rate=250, lead_names=["v3", "lead ii"])
    assert np.array_equal(by_argument.signal, by_row(cast, [3, 1]))
    assert by_argument.lead_names == ("V3", "II")


def test_missing_leads_are_masked_never_copied():
    rows = dataset_of([record(0, leads=("I", "II", "V1")), record(1)])
    batch = decode_batch(rows, lead_names=["V1", "III", "V2"])
    assert batch.lead_mask.tolist() == [[True, True, False], [True, True, True]]
    assert not batch.signal[0, 2].any()
    first = rows[0]["ecg"]["signal"]
    assert np.allclose(batch.signal[0, 1], first[1] - first[0], atol=1e-6)
    not_derived = decode_batch(rows, [0], lead_names=["III"], derive_leads=False)
    assert not not_derived.lead_mask.any()


def test_a_dead_lead_derives_nothing():
    rows = dataset_of([record(0, leads=("I", "II"), dead_lead=1)])
    assert decode_batch(rows, lead_names=["I", "III"]).lead_mask.tolist() == [[True, False]]


def test_mixed_layouts_are_padded_in_order():
    rows = dataset_of(
        [record(0), record(1, samples=80), record(2, leads=("V1", "I"), samples=100), record(3)], parts=2
    )
    batch = decode_batch(rows, [2, 3, 1])
    assert batch.lead_names == STANDARD_LEADS
    assert batch.signal.shape == (3, 12, 120)
    assert batch.lengths.tolist() == [100, 120, 80]
    assert batch.sample_mask.sum(axis=1).tolist() == [100, 120, 80]
    assert batch.lead_mask.sum(axis=1).tolist() == [2, 12, 12]
    assert np.array_equal(batch.signal[0, 0, :100], rows[2]["ecg"]["signal"][1])
    assert np.array_equal(batch.signal[2, :, :80], rows[1]["ecg"]["signal"])
    assert not batch.signal[2, :, 80:].any()


def test_mixed_rates_need_a_target():
    rows = dataset_of([record(0), record(1, rate=50.0, samples=60)])
    with pytest.raises(SamplingRateError, match="50, 100"):
        decode_batch(rows)
    batch = decode_batch(rows, sampling_rate=50)
    assert batch.signal.shape == (2, 12, 60)
    assert np.array_equal(batch.signal[1], rows[1]["ecg"]["signal"])


def test_lead_order_of_the_file_is_kept_by_name():
    swapped = (*STANDARD_LEADS[:4], "aVF", "aVL", *STANDARD_LEADS[6:])
    rows = dataset_of([record(0, leads=swapped), record(0)])
    alone = decode_batch(rows, [0])
    assert alone.lead_names == STANDARD_LEADS
    assert np.array_equal(alone.signal[0, 4], rows[0]["ecg"]["signal"][5])


def test_decoder_travels_without_the_signals():
    rows = dataset_of([record(i, samples=5000) for i in range(20)]).shuffle(seed=0)
    rows.info.description = ""
    decoder = BatchDecoder(rows, lead_names=["II"])
    there = pickle.loads(pickle.dumps(decoder))
    assert np.array_equal(there([4, 2]).signal, decoder([4, 2]).signal)
    assert there.lead_names == ("II",)


def test_texts_by_index():
    rows = dataset_of([record(i) for i in range(6)], parts=2).select([5, 1, 0])
    decoder = BatchDecoder(rows)
    assert decoder.reports([2, 1, 0]) == ["report 0", "", "report 5"]
    with pytest.raises(ConfigurationError):
        decoder.texts([0], "diagnosis")


def test_wrong_columns_and_null_rows():
    rows = dataset_of([record(0)])
    with pytest.raises(ConfigurationError, match="signal"):
        BatchDecoder(rows, "signal")
    with pytest.raises(ConfigurationError):
        BatchDecoder(rows, "report")
    features = datasets.Features({"ecg": Ecg()})
    with pytest.raises(SignalError, match="without an ECG"):
        BatchDecoder(datasets.Dataset.from_list([{"ecg": None}, {"ecg": record(0)}], features=features))


def test_bytes_that_do_not_fit_the_shape_are_found_at_opening():
    rows = dataset_of([record(0), record(1)]).with_format("arrow")
    stored = rows[:].column("ecg").to_pylist()
    stored[1]["shape"] = [12, 121]
    broken = datasets.Dataset.from_list([{"ecg": s} for s in stored])
    with pytest.raises(SignalError, match="row 1"):
        BatchDecoder(broken)


def with_peaks(peaks: list[list[int] | None], rates: list[float]) -> datasets.Dataset:
    features = datasets.Features({"ecg": Ecg(), "r_peaks": datasets.List(datasets.Value("int32"))})
    rows = [
        {"ecg": record(i, rate=rate), "r_peaks": p}
        for i, (p, rate) in enumerate(zip(peaks, rates, strict=True))
    ]
    pieces = [datasets.Dataset.from_list(rows[i : i + 2], features=features) for i in range(0, len(rows), 2)]
    return datasets.concatenate_datasets(pieces)


def test_known_r_peaks_come_with_their_rows() -> None:
    dataset = with_peaks([[3, 50], [], [7], None, [1, 2, 119]], [100.0] * 5)
    peaks = decode_batch(dataset, [4, 1, 3, 0]).r_peaks
    assert [p.tolist() for p in peaks] == [[1, 2, 119], [], [], [3, 50]]
    assert all(p.dtype == np.int64 for p in peaks)
    shuffled = dataset.select([2, 0])
    decoder = pickle.loads(pickle.dumps(BatchDecoder(shuffled)))
    assert [p.tolist() for p in decoder([1, 0]).r_peaks] == [[3, 50], [7]]


def test_known_r_peaks_follow_each_rows_rate() -> None:
    dataset = with_peaks([[10, 40], [10, 40]], [100.0, 50.0])
    peaks = decode_batch(dataset, sampling_rate=200).r_peaks
    assert [p.tolist() for p in peaks] == [[20, 80], [40, 160]]


def test_datasets_without_any_r_peak_say_so() -> None:
    assert decode_batch(with_peaks([[], None], [100.0, 100.0])).r_peaks is None
    assert decode_batch(dataset_of([record(0)])).r_peaks is None


def test_groups_by_length_are_the_padded_batch_without_padding() -> None:
    lengths = [100, 250, 100, 4000]
    dataset = dataset_of([record(i, samples=n) for i, n in enumerate(lengths)])
    decoder = BatchDecoder(dataset, sampling_rate=200.0)
    assert not decoder.has_one_length
    assert BatchDecoder(dataset.select([0, 2])).has_one_length is False  # decided by the whole table
    padded = decoder([3, 0, 1, 2])
    seen: list[int] = []
    for places, batch in decoder.by_length([3, 0, 1, 2]):
        seen += places.tolist()
        assert not batch.is_padded
        assert batch.lead_names == padded.lead_names
        for row, place in enumerate(places.tolist()):
            length = padded.lengths[place]
            assert batch.lengths[row] == length
            np.testing.assert_array_equal(batch.signal[row], padded.signal[place, :, :length])
    assert sorted(seen) == [0, 1, 2, 3]

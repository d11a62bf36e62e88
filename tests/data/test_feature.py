"""The Ecg column type: exact storage, decoding, casting, saving."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import wfdb

from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.data.feature import STORAGE_TYPE, Ecg, storage_features
from ecg_hf.errors import ConfigurationError, EcgError, LeadError, SamplingRateError, SignalError, UnknownUnit
from ecg_hf.signal import STANDARD_LEADS, DigitalRecord, EcgRecord
from ecg_hf.signal.io.reading import read_record


def digital(
    samples: np.ndarray | None = None,
    *,
    invalid: int | None = None,
    leads: tuple[str, ...] = STANDARD_LEADS,
    rate: float = 100.0,
) -> DigitalRecord:
    if samples is None:
        samples = np.random.default_rng(0).integers(-2000, 2000, (len(leads), 150)).astype(np.int16)
    return DigitalRecord(
        samples=samples,
        gain=np.linspace(200.0, 1000.0, len(leads)),
        baseline=np.arange(len(leads), dtype=np.int32),
        sampling_rate=rate,
        lead_names=leads,
        invalid=invalid,
    )


def dataset_of(*values: object, feature: Ecg | None = None) -> datasets.Dataset:
    features = datasets.Features({"ecg": feature or Ecg()})
    return datasets.Dataset.from_list([{"ecg": value} for value in values], features=features)


def test_digital_samples_come_back_bit_for_bit():
    record = digital()
    stored = dataset_of(record).cast_column("ecg", Ecg(decode=False))[0]["ecg"]
    back = np.frombuffer(stored["samples"], "<i2").reshape(stored["shape"])
    assert np.array_equal(back, record.samples)
    assert stored["gain"] == record.gain.tolist()
    assert stored["baseline"] == record.baseline.tolist()


def test_decoding_equals_the_record_in_millivolts():
    record = digital()
    value = dataset_of(record)[0]["ecg"]
    assert value["signal"].dtype == np.float32
    assert np.array_equal(value["signal"], record.to_record().signal)
    assert value["sampling_rate"] == 100.0
    assert value["lead_names"] == STANDARD_LEADS


@pytest.mark.parametrize(("dtype", "top"), [("int16", 2**15 - 1), ("int32", 2**28)])
def test_wide_and_narrow_integers_survive(dtype: str, top: int):
    samples = np.array([[0, 1, -1, top, -top]], dtype)
    value = dataset_of(digital(samples, leads=("I",)))[0]["ecg"]["signal"]
    assert np.allclose(value, samples / 200.0, rtol=1e-6)


def test_big_endian_samples_are_stored_little_endian():
    samples = np.array([[1, 2, 300]], ">i2")
    assert np.allclose(dataset_of(digital(samples, leads=("I",)))[0]["ecg"]["signal"], samples / 200.0)


def test_sentinel_becomes_nan_and_is_remembered_only_where_it_occurs():
    samples = np.array([[5, -32768, 7], [1, 2, 3]], np.int16)
    with_gap, without = digital(samples, invalid=-32768, leads=("I", "II")), digital(invalid=-32768)
    raw = dataset_of(with_gap, without).cast_column("ecg", Ecg(decode=False))
    assert [row["ecg"]["invalid"] for row in raw] == [-32768, None]
    signal = dataset_of(with_gap)[0]["ecg"]["signal"]
    assert np.isnan(signal).tolist() == [[False, True, False], [False, False, False]]


def test_records_and_dictionaries_are_accepted():
    record = digital().to_record()
    as_dict = {"signal": record.signal, "sampling_rate": 100, "lead_names": record.lead_names}
    rows = dataset_of(record, as_dict)
    assert np.array_equal(rows[0]["ecg"]["signal"], record.signal)
    assert np.array_equal(rows[1]["ecg"]["signal"], record.signal)


def test_the_unit_of_a_dictionary_is_believed():
    record = {
        "signal": np.full((1, 3), 1500, np.int16),
        "sampling_rate": 100,
        "lead_names": ["I"],
        "unit": "uV",
    }
    assert np.array_equal(dataset_of(record)[0]["ecg"]["signal"], np.full((1, 3), 1.5, np.float32))
    with pytest.raises(UnknownUnit):
        Ecg().encode_example({**record, "unit": "mmHg"})


def test_map_keeps_the_signal_exact():
    rows = dataset_of(digital())

    def double(row: dict) -> dict:
        return {"ecg": {**row["ecg"], "signal": row["ecg"]["signal"] * 2}}

    doubled = rows.map(double)
    assert isinstance(doubled.features["ecg"], Ecg)
    assert np.array_equal(doubled[0]["ecg"]["signal"], rows[0]["ecg"]["signal"] * 2)


@pytest.mark.parametrize(
    "value",
    [
        7,
        {"bytes": "x"},
        {"path": "a.hea", "fs": 1},
        {"signal": np.zeros((1, 3))},
        {"signal": np.zeros((1, 3)), "sampling_rate": 100},
        {"signal": np.zeros((1, 3)), "sampling_rate": 100, "lead_names": ["I"], "units": "uV"},
    ],
)
def test_what_is_no_ecg_is_refused(value: object):
    with pytest.raises(ConfigurationError):
        Ecg().encode_example(value)


IMPOSSIBLE = [
    {"samples": None}, {"dtype": None}, {"shape": None}, {"gain": None}, {"baseline": None}, {"sampling_rate": None},
    {"lead_names": None}, {"dtype": "object"}, {"shape": [2**31 - 1, 2**31 - 1]}, {"shape": [0, 0], "samples": b""},
    {"shape": [2, 4]}, {"shape": [-2, -5]}, {"gain": [0.0, 1.0]}, {"gain": [1.0]}, {"gain": [1.0, float("nan")]},
    {"gain": [1.0, float("inf")]}, {"gain": [1.0, None]}, {"baseline": [0]}, {"baseline": [0, None]},
    {"sampling_rate": 0.0}, {"sampling_rate": float("nan")}, {"sampling_rate": 1e9}, {"lead_names": ["I"]},
    {"lead_names": ["I", None]}, {"lead_names": ["I", "I"]}, {"lead_names": ["I", ""]},
]  # fmt: skip


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=str)
def test_impossible_rows_of_strangers_are_typed_errors(change: dict):
    good = {
        "samples": np.ones((2, 5), "<i2").tobytes(), "dtype": "int16", "shape": [2, 5], "gain": [100.0, 200.0],
        "baseline": [0, 0], "invalid": None, "sampling_rate": 100.0, "lead_names": ["I", "II"],
    }  # fmt: skip
    column = pa.array([good, {**good, **change}], type=STORAGE_TYPE)
    plain = datasets.Dataset(pa.table({"ecg": column}))
    rows = plain.cast_column("ecg", Ecg()) if plain.features["ecg"] != Ecg() else plain
    for read in (
        lambda: rows[1],
        lambda: list(rows.to_iterable_dataset()),
        lambda: rows[:],
        lambda: BatchDecoder(rows)([1]),
        lambda: BatchDecoder(plain)([1]),
    ):
        with pytest.raises(EcgError):
            read()
    if set(change) != {"lead_names"} or change["lead_names"] in (None, ["I"], ["I", None]):
        with pytest.raises(EcgError, match="row 1"):
            BatchDecoder(rows)
        # A row that was filtered out does not stop the others.
        kept = BatchDecoder(rows.select([0, 0])).__call__()
        np.testing.assert_allclose(kept.signal[0, :, 0], [0.01, 0.005])


def test_paths_and_bytes_are_read(tmp_path: Path):
    wfdb.wrsamp("r", fs=100, units=["mV"] * 2, sig_name=["I", "II"], p_signal=np.eye(2).repeat(9, 0) * 2 - 1,
                fmt=["16"] * 2, write_dir=str(tmp_path))  # fmt: skip
    path = tmp_path / "r"
    expected = read_record(path).signal
    for value in (path, str(path), f"{path}.hea", {"path": str(path)}, {"path": str(path), "bytes": None}):
        assert np.array_equal(dataset_of(value)[0]["ecg"]["signal"], expected)
    assert dataset_of(path).cast_column("ecg", Ecg(decode=False))[0]["ecg"]["dtype"] == "int16"
    paths = datasets.Dataset.from_dict({"ecg": [str(path), None]}).cast_column("ecg", Ecg())
    assert np.array_equal(paths[0]["ecg"]["signal"], expected)
    assert paths[1]["ecg"] is None
    np.save(tmp_path / "a.npy", expected)
    told = {"sampling_rate": 100, "lead_names": ["I", "II"], "unit": "mV"}
    for value in (
        {"path": str(tmp_path / "a.npy"), **told},
        {"path": "a.npy", "bytes": (tmp_path / "a.npy").read_bytes(), **told},
        {"bytes": (tmp_path / "a.npy").read_bytes(), **told},
    ):
        assert np.array_equal(dataset_of(value)[0]["ecg"]["signal"], expected)
    with pytest.raises(EcgError, match="gone"):
        Ecg().encode_example(str(tmp_path / "gone"))
    with pytest.raises(EcgError, match=r"^b\.npy"):
        Ecg().encode_example({"path": "b.npy", "bytes": b"no array", **told})


def test_records_are_rows_wherever_datasets_takes_rows():
    record = digital().to_record()
    rows = dataset_of(record, record)
    for value in (record, digital(), rows[0]["ecg"]):
        for mapped in (
            rows.map(lambda row, value=value: {"ecg": value}),
            rows.map(lambda row, value=value: {"ecg": value}, features=rows.features),
            rows.map(lambda row, value=value: {"other": value}, remove_columns=["ecg"]).rename_column(
                "other", "ecg"
            ),
            rows.map(lambda batch, value=value: {"ecg": [value] * 2}, batched=True),
        ):
            assert mapped.features == rows.features
            assert np.array_equal(mapped[1]["ecg"]["signal"], record.signal)
        longer = rows.add_item({"ecg": value})
        assert (len(longer), longer.features) == (3, rows.features)
        assert np.array_equal(longer[2]["ecg"]["signal"], record.signal)
    stored = rows.cast_column("ecg", Ecg(decode=False))[0]
    assert len(rows.add_item(stored)) == len(rows.select([0]).add_item({"ecg": record, "z": 1})) + 1
    assert datasets.Dataset.from_dict({"y": [1]}).add_item({"y": 2})["y"][:] == [1, 2]


def test_streams_keep_their_ecgs_after_map():
    record = digital().to_record()
    rows = dataset_of(record, record, record)

    def stream() -> datasets.IterableDataset:
        return rows.to_iterable_dataset().map(lambda row: {"z": 1})

    for joined in (datasets.interleave_datasets, datasets.concatenate_datasets):
        joint = list(joined([stream(), stream()]))
        assert len(joint) >= 5
        assert all(np.array_equal(row["ecg"]["signal"], record.signal) and row["z"] == 1 for row in joint)


@pytest.mark.parametrize("name", ["to_csv", "to_json"])
def test_text_formats_refuse_samples(name: str, tmp_path: Path):
    rows = dataset_of(digital()).add_column("y", [3])
    for kind in (rows, rows.to_iterable_dataset()):
        with pytest.raises(ConfigurationError, match=r"Parquet.*remove_columns\(\['ecg'\]\)"):
            getattr(kind, name)(str(tmp_path / "file"))
    getattr(rows.remove_columns(["ecg"]), name)(str(tmp_path / "file"))
    assert "3" in (tmp_path / "file").read_text()
    assert rows.to_pandas()["ecg"][0]["dtype"] == "int16"


def test_contradictory_storage_is_refused():
    stored = Ecg().encode_example(digital())
    with pytest.raises(SignalError, match="bytes"):
        Ecg().encode_example({**stored, "samples": stored["samples"][:-2]})
    with pytest.raises(LeadError):
        Ecg().encode_example({**stored, "gain": stored["gain"][:-1]})
    with pytest.raises(SignalError, match="float16"):
        Ecg().encode_example({**stored, "dtype": "float16"})


def test_cast_column_resamples_and_reorders_on_access():
    rows = dataset_of(digital()).cast_column("ecg", Ecg(sampling_rate=250, lead_names=["v1", "AVF"]))
    value = rows[0]["ecg"]
    assert value["signal"].shape == (2, 375)
    assert value["lead_names"] == ("V1", "aVF")
    assert value["sampling_rate"] == 250.0


def test_leads_are_taken_by_name():
    record = digital(leads=("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"))
    value = dataset_of(record).cast_column("ecg", Ecg(lead_names=STANDARD_LEADS))[0]["ecg"]["signal"]
    stored = record.to_record().signal
    assert np.array_equal(value[4], stored[5])
    assert np.array_equal(value[5], stored[4])


def test_missing_leads_are_derived_or_nan():
    record = digital(leads=("I", "II"))
    value = dataset_of(record).cast_column("ecg", Ecg(lead_names=["III", "V1"]))[0]["ecg"]["signal"]
    one, two = record.to_record().signal
    assert np.allclose(value[0], two - one, atol=1e-5)
    assert np.isnan(value[1]).all()


def test_impossible_settings_are_refused():
    with pytest.raises(SamplingRateError):
        Ecg(sampling_rate=0)
    with pytest.raises(LeadError):
        Ecg(lead_names=["I", "lead i"])


def test_save_and_load_keep_the_feature(tmp_path: Path):
    rows = dataset_of(digital()).cast_column("ecg", Ecg(sampling_rate=50.0, lead_names=["II"]))
    rows.save_to_disk(str(tmp_path / "saved"))
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    assert loaded.features["ecg"] == Ecg(sampling_rate=50.0, lead_names=["II"])
    assert np.array_equal(loaded[0]["ecg"]["signal"], rows[0]["ecg"]["signal"])


def test_parquet_round_trip(tmp_path: Path):
    rows = dataset_of(digital())
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["ecg"], Ecg)
    assert np.array_equal(loaded[0]["ecg"]["signal"], rows[0]["ecg"]["signal"])


def test_plain_storage_type_is_the_arrow_type_and_casts_both_ways(tmp_path: Path):
    assert datasets.Features({"ecg": storage_features()}).type.field("ecg").type == STORAGE_TYPE
    plain = dataset_of(digital()).cast_column("ecg", storage_features())
    plain.save_to_disk(str(tmp_path / "plain"))
    # A process that never heard of this package reads it.
    script = (
        "import sys, datasets; d = datasets.load_from_disk(sys.argv[1]); "
        "assert not any(m.startswith('ecg_hf') for m in sys.modules); print(d[0]['ecg']['dtype'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "plain")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "int16"
    back = plain.cast_column("ecg", Ecg())
    assert np.array_equal(back[0]["ecg"]["signal"], digital().to_record().signal)


def test_cast_storage_accepts_other_field_orders_and_plain_signals():
    stored = Ecg().encode_example(digital())
    shuffled = pa.array([dict(reversed(stored.items()))])
    assert Ecg().cast_storage(shuffled).type == STORAGE_TYPE
    lists = pa.array([{"signal": [[0.5, 1.0]], "sampling_rate": 100.0, "lead_names": ["I"]}, None])
    cast = Ecg().cast_storage(lists)
    assert cast.null_count == 1
    assert np.array_equal(Ecg().decode_example(cast[0].as_py())["signal"], [[0.5, 1.0]])


def test_flatten_needs_decoding_off():
    rows = dataset_of(digital())
    with pytest.raises(ConfigurationError):
        rows.flatten()
    assert "ecg.samples" in rows.cast_column("ecg", Ecg(decode=False)).flatten().column_names


def test_numpy_and_torch_formats_give_the_signal():
    rows = dataset_of(digital(), digital())
    assert rows.with_format("numpy")[0]["ecg"]["signal"].shape == (12, 150)
    assert tuple(rows.with_format("torch")[0]["ecg"]["signal"].shape) == (12, 150)


def test_record_of_signal_type_is_kept_with_nan():
    signal = np.array([[1.0, np.nan]], np.float32)
    value = dataset_of(EcgRecord(signal, 10.0, ("I",)))[0]["ecg"]["signal"]
    assert np.array_equal(value, signal, equal_nan=True)

"""The Ecg column type: exact storage, decoding, casting, saving."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from ecg_hf.data.feature import STORAGE_TYPE, Ecg, storage_features
from ecg_hf.errors import ConfigurationError, LeadError, SamplingRateError, SignalError
from ecg_hf.signal import STANDARD_LEADS, DigitalRecord, EcgRecord


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


def test_map_keeps_the_signal_exact():
    rows = dataset_of(digital())

    def double(row: dict) -> dict:
        return {"ecg": {**row["ecg"], "signal": row["ecg"]["signal"] * 2}}

    doubled = rows.map(double)
    assert isinstance(doubled.features["ecg"], Ecg)
    assert np.array_equal(doubled[0]["ecg"]["signal"], rows[0]["ecg"]["signal"] * 2)


@pytest.mark.parametrize(
    "value",
    [7, "records/1", {"signal": np.zeros((1, 3))}, {"signal": np.zeros((1, 3)), "sampling_rate": 100}],
)
def test_what_is_no_ecg_is_refused(value: object):
    with pytest.raises(ConfigurationError):
        Ecg().encode_example(value)


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

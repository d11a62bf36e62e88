"""Several datasets as one: nothing twice, nothing on two sides."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data import build_dataset, load_built, load_mixed
from ecg_hf.data.mixing import signal_keys
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal import STANDARD_LEADS, read_digital

FOLDS = {
    "train": {"train_folds": "1-10", "validation_folds": "", "test_folds": ""},
    "validation": {"train_folds": "", "validation_folds": "1-10", "test_folds": ""},
    "test": {"train_folds": "", "validation_folds": "", "test_folds": "1-10"},
}


@pytest.fixture
def make(tmp_path: Path, write_record):
    """Build a ``wfdb_folder`` dataset of given records (name -> options of ``write_record``) in one split."""

    def build(name: str, records: dict[str, dict], split: str = "train") -> Path:
        for record, options in records.items():
            write_record(tmp_path / "raw" / name, record, **{"samples": 400, **options})
        out = tmp_path / "built" / name
        build_dataset("wfdb_folder", tmp_path / "raw" / name, out, progress=False, **FOLDS[split])
        return out

    return build


def test_one_dataset_is_opened_as_it_is(make):
    path = make("a", {"x": {"seed": 1}, "y": {"seed": 1}})
    mixed = load_mixed([path])
    assert mixed.dataset._fingerprint == load_built(path)._fingerprint
    assert (mixed.left_out, mixed.origins.tolist(), len(mixed.parts)) == ({}, [0, 0], 1)


def test_rows_come_dataset_by_dataset(make):
    a = make("a", {"x": {"seed": 1}, "y": {"seed": 2}})
    b = make("b", {"x": {"seed": 3, "rate": 250, "leads": ("II", "V1")}, "z": {"seed": 4, "samples": 90}})
    mixed = load_mixed([b, a])
    # Names of local folders say nothing: both records called x stay.
    assert mixed.dataset["record_id"][:] == ["x", "z", "x", "y"]
    assert mixed.origins.tolist() == [0, 0, 1, 1]
    assert [part.path for part in mixed.parts] == [str(b), str(a)]
    assert mixed.dataset[0]["ecg"]["sampling_rate"] == 250.0


def test_equal_signals_are_found_whatever_their_name_gain_or_baseline(make, caplog):
    values = np.random.default_rng(5).integers(-900, 900, (12, 400)).astype(np.int16)
    flat = np.zeros((12, 400), np.int16)
    a = make("a", {"one": {"values": values}, "dead": {"values": flat}, "again": {"values": values}})
    b = make(
        "b",
        {
            "same": {"values": values},
            "doubled": {"values": values * 2, "gain": "2000.0(0)/mV"},
            "shifted": {"values": values + 100, "gain": "1000.0(100)/mV"},
            "microvolts": {"values": values, "gain": "1.0(0)/uV"},
            "louder": {"values": values * 2},
            "faster": {"values": values, "rate": 200},
            "longer": {"values": np.concatenate([values, values[:, :1]], axis=1)},
            "dead": {"values": flat},
        },
    )
    with caplog.at_level(logging.WARNING):
        mixed = load_mixed([a, b])
    assert mixed.left_out == {"duplicate_signal": 4}
    assert [part.left_out for part in mixed.parts] == [{}, {"duplicate_signal": 4}]
    # The two copies within one dataset are that dataset's affair; recordings without a signal are not copies.
    names = mixed.dataset["record_id"][:]
    assert names == ["again", "dead", "one", "dead", "faster", "longer", "louder"]
    assert "4 duplicate_signal" in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        ("train", "test", 1),
        ("validation", "test", 1),
        ("train", "validation", 1),
        ("test", "train", 0),
        ("train", "train", 0),
    ],
)
def test_the_copy_that_is_held_out_stays(make, first: str, second: str, stays: int):
    a = make("a", {"x": {"seed": 1}, "mine": {"seed": 2}}, first)
    b = make("b", {"renamed": {"seed": 1}, "other": {"seed": 3}}, second)
    mixed = load_mixed([a, b])
    assert set(mixed.dataset["record_id"][:]) == {"mine", "other", ("x", "renamed")[stays]}
    assert len(mixed.parts[1 - stays].left_out) == 1


def test_names_of_a_published_source_are_recordings(ptbxl_folder: Path, tmp_path: Path, write_record):
    build_dataset("ptbxl", ptbxl_folder, tmp_path / "folds", progress=False)
    for i in range(1, 31):  # the same recordings at another rate: other signals
        write_record(ptbxl_folder, f"records100/00000/{i:05d}_lr", seed=i, rate=200, samples=400)
    build_dataset("ptbxl", ptbxl_folder, tmp_path / "all", progress=False, **FOLDS["train"])
    mixed = load_mixed([tmp_path / "all", tmp_path / "folds"])
    assert len(mixed.dataset) == 30
    assert len(set(mixed.dataset["record_id"][:])) == 30
    splits = dict(zip(mixed.dataset["record_id"][:], mixed.dataset["split"][:], strict=True))
    official = load_built(tmp_path / "folds")
    assert splits == dict(zip(official["record_id"][:], official["split"][:], strict=True))
    assert mixed.left_out == {"duplicate_record": 30}


def test_patients_held_out_elsewhere_are_not_trained_on(ptbxl_folder: Path, tmp_path: Path):
    files = ptbxl_folder / "records100" / "00000"
    for name, keep, split in (("early", range(1, 16), "test"), ("late", range(16, 31), "train")):
        root = tmp_path / "raw" / name
        (root / "records100" / "00000").mkdir(parents=True)
        (root / "ptbxl_database.csv").write_text((ptbxl_folder / "ptbxl_database.csv").read_text())
        for i in keep:
            for suffix in ("hea", "dat"):
                (root / "records100" / "00000" / f"{i:05d}_lr.{suffix}").write_bytes(
                    (files / f"{i:05d}_lr.{suffix}").read_bytes()
                )
        build_dataset("ptbxl", root, tmp_path / name, progress=False, **FOLDS[split])
    mixed = load_mixed([tmp_path / "late", tmp_path / "early"])
    # Rows 21 to 30 are of the patients of rows 1 to 10.
    assert mixed.left_out == {"held_out_patient": 10}
    assert mixed.dataset["record_id"][:] == [str(i) for i in [*range(16, 21), *range(1, 16)]]


def test_what_can_not_be_mixed(make, tmp_path: Path):
    a = make("a", {"x": {"seed": 1}})
    with pytest.raises(ConfigurationError, match="the same build"):
        load_mixed([a, a])
    with pytest.raises(ConfigurationError, match="no dataset"):
        load_mixed([])
    with pytest.raises(DatasetBuildError, match="no such"):
        load_mixed([a, tmp_path / "nowhere"])


def test_signal_keys_respect_selections(make):
    rows = load_built(make("a", {name: {"seed": i} for i, name in enumerate("abcd")}))
    keys, known = signal_keys(rows)
    assert known.all()
    assert len(set(keys.tolist())) == 4
    some, _ = signal_keys(rows.select([3, 1]))
    assert some.tolist() == [keys[3], keys[1]]


@pytest.mark.realdata
def test_ptbxl_is_found_in_the_challenge_sets(recordings: Path, tmp_path: Path, write_record):
    """The Challenge publishes recordings of PTB-XL under other names."""
    build_dataset(
        "ptbxl", recordings / "ptbxl", tmp_path / "ptbxl", progress=False, rate=500, **FOLDS["test"]
    )
    for number in (1, 3, 5):
        path = recordings / "ptbxl" / "records500" / "00000" / f"{number:05d}_hr.hea"
        write_record(
            tmp_path / "ptb-xl",
            f"HR{number:05d}",
            values=read_digital(path).samples,
            rate=500,
            leads=STANDARD_LEADS,
        )
    write_record(tmp_path / "ptb-xl", "HR00007", samples=5000, rate=500, leads=STANDARD_LEADS)
    build_dataset(
        "wfdb_folder", tmp_path / "ptb-xl", tmp_path / "challenge", progress=False, **FOLDS["train"]
    )
    mixed = load_mixed([tmp_path / "challenge", tmp_path / "ptbxl"])
    assert mixed.parts[0].left_out == {"duplicate_signal": 3}
    assert mixed.parts[1].left_out == {}

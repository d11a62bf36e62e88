"""Many recordings: in order, ahead in threads, and what happens to those that can't be read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import ecg_hf
from ecg_hf.errors import ChecksumMismatch, ConfigurationError, EcgError, RecordNotFound, SamplingRateError
from ecg_hf.signal import EcgRecord, read_record, read_records


@pytest.fixture
def paths(make_record, tmp_path) -> list[str]:
    made = []
    for number in range(40):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        record = make_record()
        record.folder = folder
        made.append(record.write())
    return made


@pytest.mark.parametrize("num_threads", [None, 1, 3])
def test_they_are_those_of_read_record_in_order(paths, num_threads):
    read = list(read_records(paths, num_threads=num_threads))
    assert len(read) == len(paths)
    for path, record in zip(paths, read, strict=True):
        alone = read_record(path)
        assert np.array_equal(record.signal, alone.signal, equal_nan=True)
        assert (record.record_id, record.lead_names, record.notes) == (
            alone.record_id,
            alone.lead_names,
            alone.notes,
        )


def test_it_is_public_under_the_package():
    assert ecg_hf.read_records is read_records
    assert "read_records" in ecg_hf.__all__


def test_nothing_is_nothing():
    assert list(read_records([])) == []


@pytest.mark.parametrize("num_threads", [1, 2])
def test_raise_delivers_what_comes_before(paths, num_threads):
    records = read_records([*paths[:20], "absent", *paths[20:]], num_threads=num_threads)
    for _ in range(20):
        assert isinstance(next(records), EcgRecord)
    with pytest.raises(RecordNotFound, match="absent"):
        next(records)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_skip_keeps_results_and_paths_aligned(paths, num_threads, caplog):
    with open(f"{paths[3]}.dat", "r+b") as file:
        file.write(b"\x7f\x7f")
    with caplog.at_level(logging.WARNING):
        read = list(
            read_records([*paths[:20], "absent", *paths[20:]], on_error="skip", num_threads=num_threads)
        )
    assert len(read) == 41
    assert isinstance(read[3], ChecksumMismatch)
    assert isinstance(read[20], RecordNotFound)
    assert sum(isinstance(one, EcgError) for one in read) == 2
    assert sum("skipped a recording" in message for message in caplog.messages) == 2


def test_options_reach_every_recording(paths):
    assert {record.lead_names for record in read_records(paths, leads=["II", "V1"])} == {("II", "V1")}
    with pytest.raises(SamplingRateError):
        list(read_records(paths, sampling_rate=123.0))


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"num_threads": 0}, {"num_threads": True}])
def test_impossible_arguments_are_refused_before_anything_is_read(options):
    with pytest.raises(ConfigurationError):
        read_records(["absent"], **options)


def test_an_endless_list_is_read_only_as_far_as_needed(paths):
    taken = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(len(taken))
            yield paths[len(taken) % len(paths)]

    records = read_records(endless(), num_threads=2)
    for _ in range(3):
        next(records)
    assert len(taken) <= 16 * 2 * 4 + 16
    records.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("read_records")]

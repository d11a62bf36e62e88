"""Long recordings in a pipeline: a result for each window, in constant memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from ecg_hf import iter_windows
from ecg_hf.errors import ConfigurationError, EcgError, RecordNotFound, SignalError
from ecg_hf.pipelines import EcgClassificationPipeline
from ecg_hf.pipelines.base import SkippedEcg
from ecg_hf.signal import STANDARD_LEADS, EcgRecord

BAD = "no/such/record"
LENGTHS: dict[str, Any] = {"window_s": 10, "stride_s": 5}


@pytest.fixture(scope="module")
def classify(classifier_folder: Path) -> EcgClassificationPipeline:
    from transformers import pipeline

    return pipeline("ecg-classification", model=str(classifier_folder), device="cpu")


@pytest.fixture(scope="module")
def long(ecgs: np.ndarray) -> EcgRecord:
    """Forty-two seconds: with a stride of 5 s seven windows of 10 s, and 2 s that are left over."""
    signal = np.concatenate([*ecgs[:4], ecgs[4][:, :200]], axis=1)
    return EcgRecord(signal, 100.0, STANDARD_LEADS, record_id="long")


@pytest.fixture(scope="module")
def long_file(long: EcgRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    wfdb.wrsamp("long", 100, ["mV"] * 12, list(STANDARD_LEADS), long.signal.T.astype(float), fmt=["16"] * 12,
                adc_gain=[5000.0] * 12, baseline=[0] * 12, write_dir=str(folder))  # fmt: skip
    return folder / "long"


def scores(windows: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{entry["label"]: entry["score"] for entry in window["result"]} for window in windows]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: float = 1e-5) -> None:
    assert [window["start_s"] for window in found] == [window["start_s"] for window in expected]
    for one, other in zip(scores(found), scores(expected), strict=True):
        assert one == pytest.approx(other, abs=tolerance)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_each_window_has_the_result_of_a_recording(
    batch_size: int, classify: EcgClassificationPipeline, long: EcgRecord
) -> None:
    found = classify(long, batch_size=batch_size, **LENGTHS)
    expected = [{"start_s": start, "result": classify(one)} for start, one in iter_windows(long, 10, 5)]
    assert [window["start_s"] for window in expected] == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    assert_same(found, expected)
    assert len({tuple(one.values()) for one in scores(found)}) == 7


def test_any_kind_of_ecg_has_windows(
    classify: EcgClassificationPipeline, long: EcgRecord, long_file: Path
) -> None:
    expected = classify(long, **LENGTHS)
    told: dict[str, Any] = {"sampling_rate": 100, "lead_names": STANDARD_LEADS}
    row = {"signal": long.signal, "sampling_rate": 100.0, "lead_names": long.lead_names}
    assert_same(classify(row, **LENGTHS), expected)
    assert_same(classify({"ecg": row}, **LENGTHS), expected)
    assert_same(classify(long.signal * 1000, unit="uV", **told, **LENGTHS), expected)
    assert_same(classify(str(long_file), **LENGTHS), expected, 1e-3)
    assert_same(classify("long", data_root=long_file.parent, **LENGTHS), expected, 1e-3)
    assert classify(long, window_s=30)[0]["start_s"] == 0.0
    assert len(classify(long, window_s=30)) == 1
    several = classify([str(long_file), long, row], batch_size=4, **LENGTHS)
    for windows in several:
        assert_same(windows, expected, 1e-3)
    with pytest.raises(SignalError, match="list"):
        classify([np.stack([long.signal] * 2)], **told, **LENGTHS)


def test_windows_can_be_asked_for_when_the_pipeline_is_made(
    classify: EcgClassificationPipeline, classifier_folder: Path, long: EcgRecord
) -> None:
    from transformers import pipeline

    made = pipeline("ecg-classification", model=str(classifier_folder), device="cpu", **LENGTHS)
    assert_same(made(long), classify(long, **LENGTHS))
    assert [window["start_s"] for window in made(long, stride_s=10)] == [0.0, 10.0, 20.0, 30.0]
    assert made(long, window_s=None, stride_s=None) == classify(long)


def test_a_stream_is_read_recording_by_recording(
    classify: EcgClassificationPipeline, long: EcgRecord
) -> None:
    read: list[int] = []

    def stream() -> Iterator[EcgRecord]:
        for index in range(3):
            read.append(index)
            yield copy.copy(long)

    results = iter(classify(stream(), num_workers=2, **LENGTHS))
    assert len(next(results)) == 7
    assert read == [0, 1]
    assert [len(windows) for windows in results] == [7, 7]


def test_a_recording_that_ends_early_is_skipped_as_a_whole(
    classify: EcgClassificationPipeline, long: EcgRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(item: Any, *_: Any, **__: Any) -> Iterator[tuple[float, EcgRecord]]:
        yield from list(iter_windows(long, 10, 10))[:2]
        if item is None:
            raise SignalError("damaged in the middle")

    with pytest.raises(RecordNotFound):
        classify([long, BAD], **LENGTHS)
    for batch_size in (1, 3):
        found = classify([BAD, long, BAD], on_error="skip", batch_size=batch_size, **LENGTHS)
        assert [isinstance(one, SkippedEcg) for one in found] == [True, False, True]
        assert found[0].error.path == BAD
        assert len(found[1]) == 7
    monkeypatch.setattr("ecg_hf.pipelines.base.load_windows", cut)
    one, other = classify([None, long], on_error="skip", batch_size=2, window_s=10)
    assert str(one.error) == "damaged in the middle"
    assert len(other) == 2


def test_windows_without_a_signal_are_skipped_and_counted_once(
    classify: EcgClassificationPipeline, long: EcgRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("ecg_hf.pipelines.base.logger.warning", warnings.append)
    signal = long.signal.copy()
    signal[:, 1000:3000] = 0.0
    flat = EcgRecord(signal, 100.0, STANDARD_LEADS)
    found = classify(flat, window_s=10, on_error="skip", batch_size=3)
    assert [isinstance(window["result"], SkippedEcg) for window in found] == [False, True, True, False]
    assert len(warnings) == 1
    assert warnings[0].startswith("skipped 2 of 4 windows of an ECG: ")
    with pytest.raises(EcgError, match="flat"):
        classify(flat, window_s=10)


@pytest.mark.parametrize(
    "wrong", [{"stride_s": 5}, {"window_s": 0}, {"window_s": "10"}, {"window_s": 10, "stride_s": -1}]
)
def test_lengths_of_the_wrong_kind(
    wrong: dict[str, Any], classify: EcgClassificationPipeline, long: EcgRecord
) -> None:
    with pytest.raises(ConfigurationError):
        classify(long, **wrong)
    with pytest.raises(ConfigurationError):
        classify([long], on_error="skip", **wrong)


def test_windows_of_embeddings_and_of_similarities(
    classifier_folder: Path, zero_shot_folder: Path, long: EcgRecord
) -> None:
    from transformers import pipeline

    embed = pipeline("ecg-feature-extraction", model=str(classifier_folder), device="cpu")
    found = embed(long, batch_size=4, **LENGTHS)
    np.testing.assert_allclose(found[2]["result"], embed(list(iter_windows(long, 10, 5))[2][1]), atol=1e-5)
    compare = pipeline("zero-shot-ecg-classification", model=str(zero_shot_folder), device="cpu")
    found = compare(long, candidate_labels=["normal ecg", "atrial fibrillation"], **LENGTHS)
    assert [len(window["result"]) for window in found] == [2] * 7

"""What a pipeline can be given, and what becomes of an ECG that can't be read, in batches of every size."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError, EcgError, LeadError, RecordNotFound, SignalError
from ecg_hf.pipelines import EcgClassificationPipeline
from ecg_hf.pipelines.base import SkippedEcg
from ecg_hf.signal import STANDARD_LEADS, EcgRecord

BAD = "no/such/record"


@pytest.fixture(scope="module")
def classify(classifier_folder: Path) -> EcgClassificationPipeline:
    from transformers import pipeline

    return pipeline("ecg-classification", model=str(classifier_folder), device="cpu")


@pytest.fixture(scope="module")
def expected(classify: EcgClassificationPipeline, records: list[EcgRecord]) -> list[Any]:
    return [classify(record) for record in records]


def by_label(results: Any) -> list[dict[str, float]]:
    return [{entry["label"]: entry["score"] for entry in entries} for entries in results]


def assert_equal(found: Any, expected: Any) -> None:
    found, expected = by_label(found), by_label(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def dataset_of(records: list[EcgRecord], name: str = "ecg") -> Any:
    from ecg_hf.data import Ecg

    columns = {"age": list(range(len(records))), name: records}
    return datasets.Dataset.from_dict(
        columns, features=datasets.Features({"age": datasets.Value("int64"), name: Ecg()})
    )


class _Rows(torch.utils.data.Dataset):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


FORMS: dict[str, Callable[[list[EcgRecord]], Any]] = {
    "tuple": tuple,
    "generator": lambda records: (record for record in records),
    "iterator": iter,
    "map": lambda records: map(copy.copy, records),
    "dataset": dataset_of,
    "column": lambda records: dataset_of(records)["ecg"],
    "column of another name": lambda records: dataset_of(records, "signal_12")["signal_12"],
    "dataset with a column of another name": lambda records: dataset_of(records, "trace"),
    "formatted dataset": lambda records: dataset_of(records).with_format("numpy"),
    "stream": lambda records: dataset_of(records).to_iterable_dataset(),
    "column of a stream": lambda records: dataset_of(records).to_iterable_dataset()["ecg"],
    "stream of unknown columns": lambda records: datasets.IterableDataset.from_generator(
        lambda: (
            {"ecg": {"signal": r.signal, "sampling_rate": 100.0, "lead_names": r.lead_names}} for r in records
        )
    ),
    "torch dataset": _Rows,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_results_of_single_calls(
    form: str, classify: EcgClassificationPipeline, records: list[EcgRecord], expected: list[Any]
) -> None:
    assert_equal(classify(FORMS[form](records), batch_size=2), expected)


@pytest.mark.parametrize("form", [form for form in FORMS if "stream" not in form])
def test_nothing_in_nothing_out(
    form: str, classify: EcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    made = FORMS[form](records[:1])
    empty = made.select([]) if isinstance(made, datasets.Dataset) else FORMS[form](records[:0])
    assert list(classify(empty)) == []


def test_a_stream_is_read_on_demand(classify: EcgClassificationPipeline, records: list[EcgRecord]) -> None:
    read: list[int] = []

    def stream() -> Iterator[EcgRecord]:
        for index, record in enumerate(records):
            read.append(index)
            yield record

    results = iter(classify(map(copy.copy, stream())))
    next(results)
    assert read == [0]


def test_a_dataset_without_ecgs_names_its_columns(classify: EcgClassificationPipeline) -> None:
    with pytest.raises(SignalError, match="its columns are age"):
        classify(datasets.Dataset.from_dict({"age": [1]}))


def test_a_row_says_rate_leads_and_unit_of_its_ecg(
    classify: EcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    record = records[0]
    order = list(range(12))[::-1]
    row = {
        "ecg": (record.signal[order] * 1000).tolist(),
        "sampling_rate": record.sampling_rate,
        "lead_names": [record.lead_names[i] for i in order],
        "unit": "uV",
    }
    rows = datasets.Dataset.from_list([row])
    expected = [classify(record)]
    for found in ([classify(row)], classify([row]), list(classify(rows))):
        for one, other in zip(by_label(found), by_label(expected), strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    for contradiction in ({"sampling_rate": 77}, {"unit": "mV"}, {"lead_names": record.lead_names}):
        with pytest.raises(ConfigurationError, match=next(iter(contradiction))):
            classify(row, **contradiction)
    with pytest.raises(ConfigurationError, match="'fs'"):
        classify({"ecg": row["ecg"], "fs": 500})


@pytest.mark.parametrize(
    ("batch_size", "num_workers"), [(1, 0), (2, 0), (3, 0), (5, 0), (8, 0), (1, 2), (3, 1)]
)
def test_results_do_not_depend_on_batches_or_workers(
    batch_size: int,
    num_workers: int,
    classify: EcgClassificationPipeline,
    records: list[EcgRecord],
    expected: list[Any],
) -> None:
    assert_equal(classify(records, batch_size=batch_size, num_workers=num_workers), expected)
    mixed = [BAD, *records[:2], BAD, *records[2:]]
    found = classify(mixed, on_error="skip", batch_size=batch_size, num_workers=num_workers)
    assert [index for index, result in enumerate(found) if isinstance(result, SkippedEcg)] == [0, 3]
    assert_equal([result for result in found if result], expected)


def test_what_has_a_length_is_run_in_batches_and_a_stream_one_by_one(
    classify: EcgClassificationPipeline,
    records: list[EcgRecord],
    expected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    forward = classify.forward

    def counted(batch: dict[str, Any], **options: Any) -> Any:
        sizes.append(len(batch["input_values"]))
        return forward(batch, **options)

    monkeypatch.setattr(classify, "forward", counted)
    assert_equal(classify(records), expected)
    assert_equal(list(classify(dataset_of(records))), expected)
    assert sizes == [len(records)] * 2
    sizes.clear()
    assert_equal(list(classify(iter(records))), expected)
    assert sizes == [1] * len(records)


def test_records_of_any_length_can_share_a_batch(
    classify: EcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    """Without a fixed duration the shorter is padded to the longest, on the extractor's side."""
    for side in ("right", "left"):
        pipe = copy.copy(classify)
        pipe.feature_extractor = copy.deepcopy(classify.feature_extractor)
        pipe.feature_extractor.duration_s, pipe.feature_extractor.padding_side = None, side
        together = pipe.feature_extractor(records, return_tensors="pt")
        with torch.no_grad():
            logits = pipe.model(**together).logits
        found = pipe(records, batch_size=5, function_to_apply="none")
        labels = pipe.model.config.id2label
        for entries, row in zip(by_label(found), logits, strict=True):
            assert entries == pytest.approx({labels[i]: v for i, v in enumerate(row.tolist())}, abs=1e-5)


def test_an_unreadable_record_ends_the_run_unless_told_otherwise(
    classify: EcgClassificationPipeline, records: list[EcgRecord], caplog: pytest.LogCaptureFixture
) -> None:
    for num_workers in (0, 1):
        with pytest.raises(RecordNotFound) as caught:
            classify([records[0], BAD], num_workers=num_workers)
        assert caught.value.path == f"{BAD}.hea"
    with pytest.raises(ConfigurationError, match="on_error"):
        classify(records, on_error="ignore")


def test_a_skipped_ecg_is_accounted_for(
    classify: EcgClassificationPipeline, records: list[EcgRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("ecg_hf.pipelines.base.logger.warning", warnings.append)
    wrong_leads = {
        "signal": records[0].signal,
        "sampling_rate": 100,
        "lead_names": ["I", "I", *STANDARD_LEADS[2:]],
    }
    found = classify([BAD, wrong_leads, records[0]], on_error="skip")
    assert found[:2] == [[], []]
    assert [type(result.error) for result in found[:2]] == [RecordNotFound, LeadError]
    assert len(warnings) == 2
    assert BAD in warnings[0]
    assert found[2]
    # For one ECG, and where every ECG of a batch is skipped.
    assert classify(BAD, on_error="skip").error.path == f"{BAD}.hea"
    assert classify([BAD] * 3, on_error="skip", batch_size=2) == [[], [], []]
    again = pickle.loads(pickle.dumps(found[0]))
    assert str(again.error) == str(found[0].error)


def test_a_row_that_cannot_be_decoded_is_skipped(
    classify: EcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    class Rows(_Rows):
        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise SignalError("damaged", path="row-1")
            return super().__getitem__(index)

    found = list(classify(Rows(records[:3]), on_error="skip", batch_size=3))
    assert [bool(result) for result in found] == [True, False, True]
    with pytest.raises(SignalError, match="row-1"):
        list(classify(Rows(records[:3])))


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": "2"},
        {"top_k": 0},
        {"top_k": True},
        {"batch_size": 0},
        {"batch_size": "4"},
        {"num_workers": -1},
        {"function_to_apply": []},
        {"on_error": None},
    ],
    ids=str,
)
def test_options_of_the_wrong_kind(
    options: dict[str, Any], classify: EcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    with pytest.raises(EcgError):
        classify(records[0], **options)


def test_a_copied_pipeline_answers_alike(
    classify: EcgClassificationPipeline, records: list[EcgRecord], expected: list[Any]
) -> None:
    assert_equal([copy.deepcopy(classify)(records[0])], expected[:1])
    assert_equal([pickle.loads(pickle.dumps(classify))(records[0])], expected[:1])


def test_numpy_stacks_and_nested_lists(classify: EcgClassificationPipeline, ecgs: np.ndarray) -> None:
    options = {"sampling_rate": 100, "lead_names": STANDARD_LEADS}
    assert_equal(classify(ecgs[:2].tolist(), **options), classify(ecgs[:2], **options))

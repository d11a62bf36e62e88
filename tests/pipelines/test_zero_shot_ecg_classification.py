"""Zero-shot scores of ECGs, from a model folder to sorted labels."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.auto_map import SHIM_FILE, SHIM_LINE
from ecg_hf.errors import ConfigurationError, EcgError, SamplingRateError, UnsafePath
from ecg_hf.pipelines import ZeroShotEcgClassificationPipeline
from ecg_hf.signal import STANDARD_LEADS, EcgRecord

LABELS = ["atrial fibrillation", "normal ecg", "sinus rhythm"]
ARRAY = {"sampling_rate": 100, "lead_names": STANDARD_LEADS}


@pytest.fixture(scope="module")
def classify(zero_shot_folder: Path) -> ZeroShotEcgClassificationPipeline:
    from transformers import pipeline

    return pipeline("zero-shot-ecg-classification", model=str(zero_shot_folder), device="cpu")


@pytest.fixture
def text_calls(
    classify: ZeroShotEcgClassificationPipeline, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Any]]:
    """Shapes of the texts the model was asked to encode."""
    calls: list[Any] = []
    original = classify.model.get_text_features
    monkeypatch.setattr(
        classify.model,
        "get_text_features",
        lambda **k: calls.append(k["input_ids"].shape[0]) or original(**k),
    )
    classify._text_cache.clear()
    return calls


def scores(entries: list[dict[str, Any]], key: str = "score") -> dict[str, float]:
    return {entry["label"]: entry[key] for entry in entries}


def test_task_loads_by_name_from_a_folder(classify: ZeroShotEcgClassificationPipeline) -> None:
    assert isinstance(classify, ZeroShotEcgClassificationPipeline)
    assert type(classify.feature_extractor).__name__ == "CgDmerFeatureExtractor"


def test_the_librarys_own_zero_shot_task_takes_ecg_models(
    zero_shot_folder: Path, classifier_folder: Path, records: list[EcgRecord], classify: Any
) -> None:
    from transformers import pipeline

    task = "zero-shot-audio-classification"
    named = pipeline(task, model=str(zero_shot_folder), device="cpu")
    assert isinstance(named, ZeroShotEcgClassificationPipeline)
    found, expected = (
        {entry["label"]: entry["score"] for entry in pipe(records[0], candidate_labels=LABELS)}
        for pipe in (named, classify)
    )
    assert found == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigurationError, match="no text side"):
        pipeline(task, model=str(classifier_folder), device="cpu")


def test_scores_are_cosine_similarities_sorted(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    entries = classify(records[0], candidate_labels=LABELS)
    assert [set(entry) for entry in entries] == [{"label", "score", "similarity"}] * 3
    assert [entry["score"] for entry in entries] == sorted((e["score"] for e in entries), reverse=True)
    with torch.no_grad():
        ecg = classify.model.get_ecg_features(**classify.feature_extractor(records[0], return_tensors="pt"))
        tokens = classify.tokenizer(LABELS, return_tensors="pt", padding=True, return_token_type_ids=False)
        text = classify.model.get_text_features(**tokens)
    expected = dict(zip(LABELS, (ecg @ text.T)[0].tolist(), strict=True))
    assert scores(entries) == pytest.approx(expected, abs=1e-6)
    assert scores(entries, "similarity") == scores(entries)


def test_softmax_and_top_k(classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord]) -> None:
    entries = classify(records[0], candidate_labels=LABELS, function_to_apply="softmax")
    assert sum(scores(entries).values()) == pytest.approx(1.0)
    logits = np.array([entry["similarity"] for entry in entries]) / classify.model.config.temperature
    expected = np.exp(logits) / np.exp(logits).sum()
    assert [entry["score"] for entry in entries] == pytest.approx(expected.tolist(), abs=1e-5)
    flat = classify(records[0], candidate_labels=LABELS, function_to_apply="softmax", temperature=1e6)
    assert [entry["score"] for entry in flat] == pytest.approx([1 / 3] * 3, abs=1e-5)
    assert (
        classify(records[0], candidate_labels=LABELS, top_k=1)
        == classify(records[0], candidate_labels=LABELS)[:1]
    )


def test_batches_equal_single_calls(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    singles = [classify(record, candidate_labels=LABELS) for record in records]
    for batch_size in (1, 2, 5, 8):
        batched = classify(records, candidate_labels=LABELS, batch_size=batch_size)
        for one, other in zip(singles, batched, strict=True):
            assert scores(one) == pytest.approx(scores(other), abs=1e-5)


def test_texts_are_encoded_once_per_label_set(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], text_calls: list[int]
) -> None:
    for _ in range(2):
        classify(records, candidate_labels=LABELS, batch_size=2)
    assert text_calls == [3]
    classify(records, candidate_labels=LABELS[:2])
    classify(records[0], candidate_labels=LABELS)
    assert text_calls == [3, 2]


def test_cached_texts_do_not_outlive_the_weights(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], text_calls: list[int]
) -> None:
    before = classify(records[0], candidate_labels=LABELS)
    weight = classify.model.text_shared.state_dict()
    with torch.no_grad():
        for parameter in classify.model.text_shared.parameters():
            parameter.neg_()
    try:
        assert classify(records[0], candidate_labels=LABELS) != before
        assert text_calls == [3, 3]
    finally:
        with torch.no_grad():
            for parameter in classify.model.text_shared.parameters():
                parameter.neg_()
    assert weight is not None
    assert scores(classify(records[0], candidate_labels=LABELS)) == pytest.approx(scores(before), abs=1e-6)


def test_labels_prompts_and_template(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], text_calls: list[int]
) -> None:
    written_out = classify(records[0], candidate_labels=[f"ecg shows {label}" for label in LABELS])
    templated = classify(records[0], candidate_labels=LABELS, hypothesis_template="ecg shows {}")
    mapped = classify(records[0], candidate_labels={label: f"ecg shows {label}" for label in LABELS})
    assert scores(templated) == scores(mapped)
    assert sorted(scores(written_out).values()) == pytest.approx(sorted(scores(mapped).values()))
    several = classify(records[0], candidate_labels={"AF": LABELS[:2], "SR": LABELS[2]})
    assert text_calls[-1] == 3
    alone = scores(classify(records[0], candidate_labels=LABELS))
    assert scores(several)["SR"] == pytest.approx(alone["sinus rhythm"], abs=1e-6)
    braces = classify(records[0], candidate_labels=["sinus {0} rhythm {}"])
    assert braces[0]["label"] == "sinus {0} rhythm {}"


def test_every_kind_of_input(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], ecgs: np.ndarray, npy_file: Path
) -> None:
    expected = scores(classify(records[0], candidate_labels=LABELS))
    mapping = {"signal": ecgs[0], **ARRAY}
    told: list[tuple[Any, dict[str, Any]]] = [
        (mapping, {}),
        ({"array": ecgs[0], "sampling_rate": 100, "lead_names": STANDARD_LEADS}, {}),
        ({"ecg": mapping, "report": "..."}, {}),
        (ecgs[0], ARRAY),
        (torch.from_numpy(ecgs[0]), ARRAY),
        (ecgs[0] * 1000, {**ARRAY, "unit": "uV"}),
        (npy_file, {**ARRAY, "unit": "mV"}),
        (str(npy_file), {**ARRAY, "unit": "mV"}),
        ("one.npy", {**ARRAY, "unit": "mV", "data_root": npy_file.parent}),
    ]
    for ecg, options in told:
        assert scores(classify(ecg, candidate_labels=LABELS, **options)) == pytest.approx(expected, abs=1e-4)
        (in_list,) = classify([ecg], candidate_labels=LABELS, **options)
        assert scores(in_list) == pytest.approx(expected, abs=1e-4)


def test_batches_of_any_container(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], ecgs: np.ndarray
) -> None:
    expected = scores(classify({"signal": ecgs[2], **ARRAY}, candidate_labels=LABELS))
    stack = classify(ecgs, candidate_labels=LABELS, batch_size=2, **ARRAY)
    assert len(stack) == 5
    assert scores(stack[2]) == pytest.approx(expected, abs=1e-5)
    nested = classify(ecgs[:3].tolist(), candidate_labels=LABELS, **ARRAY)
    assert scores(nested[2]) == pytest.approx(expected, abs=1e-4)
    streamed = classify((record for record in records), candidate_labels=LABELS)
    assert scores(list(streamed)[2]) == pytest.approx(expected, abs=1e-5)
    assert classify([], candidate_labels=LABELS) == []


def test_data_set_with_an_ecg_column(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], ecgs: np.ndarray
) -> None:
    from datasets import Dataset

    rows = [
        {"ecg": {"signal": ecg.tolist(), "sampling_rate": 100.0, "lead_names": list(STANDARD_LEADS)}}
        for ecg in ecgs
    ]
    out = list(classify(Dataset.from_list(rows), candidate_labels=LABELS, batch_size=2))
    assert scores(out[2]) == pytest.approx(scores(classify(records[2], candidate_labels=LABELS)), abs=1e-4)


def test_options_may_be_given_to_the_constructor(zero_shot_folder: Path, ecgs: np.ndarray) -> None:
    from transformers import pipeline

    classify = pipeline(
        "zero-shot-ecg-classification",
        model=str(zero_shot_folder), candidate_labels=LABELS, top_k=2, batch_size=2, device="cpu", **ARRAY,
    )  # fmt: skip
    assert [len(entries) for entries in classify(ecgs)] == [2] * 5
    assert len(classify(ecgs[0], candidate_labels=LABELS[:1])) == 1


def test_paths_stay_under_the_data_root(
    classify: ZeroShotEcgClassificationPipeline, npy_file: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in ("../recordings/one.npy", str(npy_file), "https://example.org/one.npy"):
        with pytest.raises(UnsafePath):
            classify(path, candidate_labels=LABELS, data_root=elsewhere, unit="mV", **ARRAY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidate_labels": []},
        {"candidate_labels": ["", "a"]},
        {"candidate_labels": ["a", "a"]},
        {"candidate_labels": {"a": []}},
        {"candidate_labels": [None]},
        {},
        {"candidate_labels": ["a"], "hypothesis_template": "no place"},
        {"candidate_labels": ["a"], "function_to_apply": "sigmoid"},
        {"candidate_labels": ["a"], "temperature": 0.0},
        {"candidate_labels": ["a"], "top_k": 0},
        {"candidate_labels": ["a"], "candidate_label": ["b"]},
    ],
)
def test_impossible_options(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        classify(records[0], **wrong)


def test_bad_recordings_give_typed_errors(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], tmp_path: Path
) -> None:
    with pytest.raises(EcgError):
        classify(str(tmp_path / "absent"), candidate_labels=LABELS)
    with pytest.raises(SamplingRateError):
        classify(records[0], candidate_labels=LABELS, sampling_rate=500)


def test_saved_pipeline_needs_no_remote_code(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord], tmp_path: Path
) -> None:
    from transformers import pipeline

    classify.save_pretrained(tmp_path)
    # One line that leads to the package, none of its code.
    assert [file.name for file in tmp_path.glob("*.py")] == [SHIM_FILE]
    assert (tmp_path / SHIM_FILE).read_text() == SHIM_LINE
    loaded = pipeline("zero-shot-ecg-classification", model=str(tmp_path), device="cpu")
    assert loaded(records[0], candidate_labels=LABELS) == classify(records[0], candidate_labels=LABELS)


def test_half_precision(zero_shot_folder: Path, records: list[EcgRecord], classify: Any) -> None:
    from transformers import pipeline

    half = pipeline(
        "zero-shot-ecg-classification", model=str(zero_shot_folder), dtype=torch.bfloat16, device="cpu"
    )
    out = half(records, candidate_labels=LABELS, batch_size=3)
    for one, other in zip(out, classify(records, candidate_labels=LABELS), strict=True):
        assert scores(one) == pytest.approx(scores(other), abs=0.05)


@pytest.mark.realdata
def test_real_recording_by_path(classify: ZeroShotEcgClassificationPipeline, recordings: Path) -> None:
    root = recordings / "ptbxl"
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*_lr.hea"))[:4]
    out = classify(paths, candidate_labels=LABELS, data_root=root, batch_size=4)
    assert len(out) == len(paths) == 4
    assert all(np.isfinite(list(scores(entries).values())).all() for entries in out)


def test_labels_in_one_text_are_split_at_commas(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    text = "atrial fibrillation, normal ecg,, sinus rhythm "
    assert classify(records[0], candidate_labels=text) == classify(records[0], candidate_labels=LABELS)
    for wrong in (", ,", 3, {"normal": 3}, [1]):
        with pytest.raises(ConfigurationError):
            classify(records[0], candidate_labels=wrong)


def test_unreadable_records_are_skipped_on_request(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    found = classify([records[0], "no/such/record"], candidate_labels=LABELS, on_error="skip", batch_size=2)
    assert scores(found[0]) == pytest.approx(scores(classify(records[0], candidate_labels=LABELS)), abs=1e-6)
    assert found[1] == []
    assert found[1].error.path == "no/such/record.hea"


def test_a_copied_pipeline_has_no_embeddings_of_the_original(
    classify: ZeroShotEcgClassificationPipeline, records: list[EcgRecord]
) -> None:
    expected = classify(records[0], candidate_labels=LABELS)
    for copied in (copy.deepcopy(classify), pickle.loads(pickle.dumps(classify))):
        assert not copied._text_cache
        found = scores(copied(records[0], candidate_labels=LABELS))
        assert found == pytest.approx(scores(expected), abs=1e-6)

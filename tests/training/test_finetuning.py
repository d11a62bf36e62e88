"""Fine-tuning: data, learning rates, the epoch kept, the folder written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score
from torch import nn
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, TrainerCallback, TrainerState

from ecg_hf.data import export_parquet
from ecg_hf.errors import ConfigurationError, DatasetBuildError, ModelFolderError
from ecg_hf.metrics.ranking import macro_auroc
from ecg_hf.models.registry import METHODS, get_method
from ecg_hf.training import finetune, pretrain, read_training_log
from ecg_hf.training.arguments import EcgFineTuningArguments
from ecg_hf.training.finetuning import (
    balanced_class_weights,
    evaluations_since_best,
    layer_depths,
    layerwise_groups,
)
from ecg_hf.training.finetuning_data import FineTuningData, Task
from ecg_hf.training.finetuning_run import best_threshold

RUN: dict[str, Any] = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 32,
    "disable_tqdm": True,
    "use_cpu": True,
    "cache_inputs": True,
}


@pytest.fixture(scope="module")
def pretrained(built_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("pretrained")
    pretrain(
        "cg-dmer",
        built_path,
        output,
        size="micro",
        max_steps=1,
        save_strategy="no",
        eval_strategy="no",
        use_cpu=True,
    )
    return output


def test_finetuned_folder_loads_and_scores(pretrained: Path, built_path: Path, tmp_path: Path) -> None:
    result = finetune(pretrained, built_path, tmp_path, labels="super", **RUN)
    assert result.labels == ("NORM", "MI", "STTC", "CD", "HYP")
    assert result.records["train"] > 50
    assert 0.0 <= result.validation["validation_macro_auroc"] <= 1.0
    assert 0.0 <= result.test["test_macro_auroc"] <= 1.0
    assert json.loads((tmp_path / "finetune_report.json").read_text())["labels_from"] == "super"
    model = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert model.config.id2label[1] == "MI"
    assert AutoFeatureExtractor.from_pretrained(tmp_path).sampling_rate == model.config.sampling_rate
    scores = [row["eval_macro_auroc"] for row in read_training_log(tmp_path) if row["kind"] == "evaluation"]
    assert result.validation["validation_macro_auroc"] == pytest.approx(max(scores))


def test_encoder_starts_from_the_pretrained_weights_or_not(
    pretrained: Path, built_path: Path, tmp_path: Path
) -> None:
    still = {**RUN, "num_train_epochs": 1, "learning_rate": 0.0}
    name = "cg_dmer.ecg_encoder.norm.weight"
    weight = "cg_dmer.ecg_encoder.tokenizer.projection.weight"
    before = load_file(pretrained / "model.safetensors")
    finetune(pretrained, built_path, tmp_path / "a", labels="super", **still)
    finetune(pretrained, built_path, tmp_path / "b", labels="super", from_scratch=True, **still)
    kept, fresh = (load_file(tmp_path / run / "model.safetensors") for run in ("a", "b"))
    assert torch.equal(kept[name], before[name])
    assert torch.equal(kept[weight], before[weight])
    assert not torch.equal(fresh[weight], before[weight])


def test_a_classifier_of_other_labels_gets_a_new_head(
    pretrained: Path, built_path: Path, tmp_path: Path
) -> None:
    """More labels, as many others, or the same: only the last goes on with the head of the file."""
    still = {**RUN, "num_train_epochs": 1, "learning_rate": 0.0}
    encoder, head = "cg_dmer.ecg_encoder.tokenizer.projection.weight", "classifier.weight"
    finetune(pretrained, built_path, tmp_path / "first", labels="super", **still)
    first = load_file(tmp_path / "first" / "model.safetensors")
    config = tmp_path / "first" / "config.json"
    written = config.read_text()

    finetune(tmp_path / "first", built_path, tmp_path / "same", labels="super", seed=1, **still)
    same = load_file(tmp_path / "same" / "model.safetensors")
    assert torch.equal(same[head], first[head])

    config.write_text(written.replace('"NORM"', '"OTHER"'))
    finetune(tmp_path / "first", built_path, tmp_path / "others", labels="super", seed=1, **still)
    others = load_file(tmp_path / "others" / "model.safetensors")
    assert not torch.isclose(others[head], first[head]).any()
    assert torch.equal(others[encoder], first[encoder])

    config.write_text(written)
    finetune(tmp_path / "first", built_path, tmp_path / "more", labels="sex", **still)
    more = load_file(tmp_path / "more" / "model.safetensors")
    assert len(more[head]) != len(first[head])
    assert torch.equal(more[encoder], first[encoder])

    # Whatever else has another shape is not replaced in silence.
    cut = {**first, encoder: first[encoder][:-1].clone()}
    save_file(cut, tmp_path / "first" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFolderError, match=r"tokenizer\.projection\.weight has another shape"):
        finetune(tmp_path / "first", built_path, tmp_path / "wrong", labels="sex", **still)


def test_fractions_are_nested(built_path: Path) -> None:
    whole = FineTuningData.open(built_path, Task("super"))
    tenth, half = whole.take(0.1, seed=3), whole.take(0.5, seed=3)
    assert len(tenth.rows["train"]) == round(0.1 * len(whole.rows["train"]))
    assert set(tenth.rows["train"]) < set(half.rows["train"]) < set(whole.rows["train"])
    assert np.array_equal(tenth.rows["test"], whole.rows["test"])


def test_layers_nearer_to_the_signal_learn_slower() -> None:
    method = get_method("cg-dmer")
    model = method.load("classification")(method.load("config").preset("micro"))
    depths = layer_depths(model)
    assert depths["cg_dmer.ecg_encoder.positions.spatial"] == 0
    assert depths["cg_dmer.ecg_encoder.layers.blocks.1.mlp.0.weight"] == 2
    assert depths["cg_dmer.ecg_encoder.norm.weight"] == depths["classifier.weight"] == 3
    groups = layerwise_groups(model, 1.0, 0.5, 0.1, {"classifier.weight"})
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert rate[id(model.classifier.weight)] == 1.0
    assert rate[id(model.cg_dmer.ecg_encoder.positions.spatial)] == 0.125
    assert decay[id(model.classifier.weight)] == 0.1
    assert decay[id(model.classifier.bias)] == 0.0
    assert len(rate) == len(list(model.parameters()))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_names_its_layers(name: str) -> None:
    """Never guessed from lengths: the smallest CLEAR-HUG has more lead groups than layers."""
    spec = METHODS[name]
    for size in spec.sizes:
        with torch.device("meta"):
            model = spec.load("classification")(spec.load("config").preset(size, num_labels=3))
        layers = model.encoder_layers
        assert len(layers) == model.config.num_hidden_layers
        depths = layer_depths(model)
        inside = {
            id(parameter): depth for depth, layer in enumerate(layers, 1) for parameter in layer.parameters()
        }
        for parameter_name, parameter in model.named_parameters():
            assert depths[parameter_name] == inside.get(id(parameter), depths[parameter_name])
        assert set(depths.values()) == set(range(len(layers) + 2)) - ({0} if name == "acl-ecg" else set())
        assert depths["classifier.weight"] == len(layers) + 1
        wrapped = nn.Sequential(model)
        assert layer_depths(wrapped) == {f"0.{key}": depth for key, depth in depths.items()}


def test_a_model_without_layers_says_so() -> None:
    with pytest.raises(ConfigurationError, match="encoder_layers"):
        layer_depths(nn.Linear(2, 2))
    assert len(layerwise_groups(nn.Linear(2, 2), 1.0, 1.0, 0.1, {"weight"})) == 2


def relabelled(built: Dataset, folder: Path, name: str, values: list[Any], feature: Any = None) -> Path:
    """The dataset with one more column, saved as its owner would save it."""
    features = None if feature is None else Features({**built.features, name: feature})
    table = built.add_column(name, values, feature=None if features is None else features[name])
    table.save_to_disk(str(folder))
    return folder


COLUMNS: dict[str, tuple[Any, Any, tuple[str, ...], bool]] = {
    "integer": (lambda row: None if row % 10 == 0 else row % 3, None, ("0", "1", "2"), True),
    "class label": (
        lambda row: -1 if row % 10 == 0 else row % 3, ClassLabel(names=["a", "b", "c"]), ("a", "b", "c"), True,
    ),
    "text": (lambda row: None if row % 10 == 0 else "xyz"[row % 3], None, ("x", "y", "z"), True),
    "list": (
        lambda row: None if row % 10 == 0 else ["p"] * (row % 2) + ["q"] * (row % 3 == 0),
        List(Value("string")), ("p", "q"), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_any_column_of_labels(kind: str, pretrained: Path, built: Dataset, tmp_path: Path) -> None:
    value, feature, names, one_label = COLUMNS[kind]
    values = [value(row) for row in range(len(built))]
    folder = relabelled(built, tmp_path / "data", "outcome", values, feature)
    result = finetune(
        pretrained, folder, tmp_path / "out", labels="outcome", **{**RUN, "num_train_epochs": 1}
    )
    assert (result.labels, result.one_label) == (names, one_label)
    unlabelled = sum(v in (None, -1) for v in values)
    assert sum(result.left_out.values()) == unlabelled > 0
    assert sum(result.records.values()) == len(built) - unlabelled
    config = AutoModelForAudioClassification.from_pretrained(tmp_path / "out").config
    assert tuple(config.id2label.values()) == names
    kinds = {True: "single_label_classification", False: "multi_label_classification"}
    assert config.problem_type == kinds[one_label]
    assert set(config.label_details) == set(names)
    for entry in config.label_details.values():
        assert 0.0 <= entry["threshold"] <= 1.0
    held_out = result.held_out["test"]
    if one_label:
        assert np.allclose(held_out.probabilities.sum(axis=1), 1.0)
        assert (held_out.truth.sum(axis=1) == 1).all()
    area, _ = macro_auroc(held_out.truth, held_out.probabilities)
    assert result.test["test_macro_auroc"] == pytest.approx(area, abs=1e-6)


def test_validation_is_drawn_by_patient_where_there_is_none(built: Dataset, tmp_path: Path) -> None:
    rows = built.remove_columns(["split", "patient_id"])
    patients = [None if row < 6 else f"p{row // 3}" for row in range(len(built))]
    rows = rows.add_column("patient_id", patients)
    relabelled(rows, tmp_path / "data", "outcome", [row % 2 for row in range(len(built))])
    data = FineTuningData.open(tmp_path / "data", Task("outcome"))
    sets = {split: set(data.rows[split]) for split in data.rows}
    assert len(sets["train"]) + len(sets["validation"]) == len(built)
    assert 0.1 < len(sets["validation"]) / len(built) < 0.2
    known = {split: {patients[row] for row in chosen} - {None} for split, chosen in sets.items()}
    assert not known["train"] & known["validation"]
    assert "no column 'split'" in " ".join(data.notes)
    assert "were drawn for it" in " ".join(data.notes)
    assert "no test records" in " ".join(data.notes)
    again = FineTuningData.open(tmp_path / "data", Task("outcome"))
    assert again.digest() == data.digest()


def test_folds_instead_of_the_split_column(built: Dataset, built_path: Path) -> None:
    data = FineTuningData.open(built_path, Task("super", "1-6", "7", "8-9"))
    folds = np.asarray(built["fold"][:])
    for split, wanted in (("train", range(1, 7)), ("validation", [7]), ("test", [8, 9])):
        assert set(folds[data.rows[split]]) <= set(wanted)
    assert data.left_out["in no split"] == sum(
        1 for row in np.flatnonzero(data.labels.labelled) if folds[row] == 10
    )


def test_rows_of_an_export_are_those_of_the_build(built_path: Path, tmp_path: Path) -> None:
    export_parquet(built_path, tmp_path / "parquet", progress=False)
    whole, exported = (
        FineTuningData.open(path, Task("super")) for path in (built_path, tmp_path / "parquet")
    )
    for split in whole.rows:
        names = [data.dataset["record_id"][:] for data in (whole, exported)]
        first, second = (
            [column[row] for row in data.rows[split]]
            for column, data in zip(names, (whole, exported), strict=True)
        )
        assert first == second
        assert np.array_equal(whole.splits()[split][1], exported.splits()[split][1])
    row = exported.rows["test"][0]
    assert exported.dataset[int(row)]["ecg"]["signal"].shape[0] == 12


def test_balanced_weights() -> None:
    several = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]], np.float32)
    assert balanced_class_weights(several, 3).tolist() == pytest.approx([3.0, 1.0, 1 / 3])
    one = np.array([0, 0, 0, 1])
    assert balanced_class_weights(one, 3).tolist() == pytest.approx([4 / 6, 2.0, 1.0])
    weights = balanced_class_weights(one, 3)[torch.as_tensor(one)]
    assert weights[one == 0].sum() == pytest.approx(weights[one == 1].sum().item())


def test_class_weights_reach_the_loss(pretrained: Path, built_path: Path, tmp_path: Path) -> None:
    still = {**RUN, "num_train_epochs": 1, "learning_rate": 0.0, "labels": "super"}
    plain = finetune(pretrained, built_path, tmp_path / "a", **still)
    balanced = finetune(pretrained, built_path, tmp_path / "b", class_weights="balanced", **still)
    held_out = plain.held_out["validation"]
    counts = np.array(list(plain.positives["train"].values()))
    weights = (plain.records["train"] - counts) / counts
    losses = -np.where(
        held_out.truth, weights * np.log(held_out.probabilities), np.log1p(-held_out.probabilities)
    )
    assert balanced.validation["validation_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert plain.validation["validation_loss"] != pytest.approx(losses.mean(), rel=1e-2)


def test_patience_is_counted_from_the_log() -> None:
    arguments = EcgFineTuningArguments(output_dir="unused", use_cpu=True)
    state = TrainerState(log_history=[{"eval_macro_auroc": v} for v in (0.5, 0.7, 0.6, 0.7)])
    assert evaluations_since_best(state, arguments) == 2
    arguments = EcgFineTuningArguments(output_dir="unused", use_cpu=True, metric_for_best_model="loss")
    assert arguments.greater_is_better is False
    state = TrainerState(log_history=[{"eval_loss": v} for v in (0.5, 0.7, 0.6, 0.4)])
    assert evaluations_since_best(state, arguments) == 0


def test_resumed_run_stops_where_the_uninterrupted_one_did(
    pretrained: Path, built_path: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        **RUN, "labels": "super", "num_train_epochs": 5, "early_stopping_patience": 2, "learning_rate": 0.0,
    }  # fmt: skip
    whole = finetune(pretrained, built_path, tmp_path / "a", **options)
    assert whole.steps < 5 * -(-whole.records["train"] // 32)  # stopped early
    assert whole.best_step == whole.steps // 3

    class Killed(BaseException):
        pass

    class Kill(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
            if state.epoch and state.epoch >= 2:
                raise Killed

    with pytest.raises(Killed):
        finetune(pretrained, built_path, tmp_path / "b", callbacks=[Kill()], **options)
    resumed = finetune(pretrained, built_path, tmp_path / "b", resume=True, **options)
    assert (resumed.steps, resumed.best_step) == (whole.steps, whole.best_step)
    again = finetune(pretrained, built_path, tmp_path / "b", resume=True, **options)
    assert again.steps == whole.steps
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("a", "b")]
    assert weights[0] == weights[1]


def test_best_threshold_has_the_best_f1() -> None:
    generator = np.random.default_rng(0)
    truth, values = generator.random(40) < 0.3, generator.random(40).round(1)
    threshold = best_threshold(truth, values)
    assert threshold is not None
    scores = {cut: f1_score(truth, values >= cut, zero_division=0) for cut in np.linspace(0, 1, 201)}
    assert f1_score(truth, values >= threshold) == pytest.approx(max(scores.values()))
    assert threshold not in values
    assert best_threshold(np.zeros(3, bool), values[:3]) is None


WRONG: dict[str, dict[str, Any]] = {
    "fraction of nothing": {"fraction": 0.0},
    "no such column": {"labels": "outcom"},
    "report": {"labels": "report"},
    "identifier": {"labels": "record_id"},
    "signal": {"labels": "ecg"},
    "float": {"labels": "age"},
    "one value": {"labels": "source"},
    "layer decay": {"layer_decay": 2.0},
    "misspelt option": {"learning_rat": 1.0},
    "class weights": {"class_weights": "heavy"},
    "patience": {"early_stopping_patience": -1},
    "no evaluation": {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False},
    "folds that overlap": {"train_folds": "1-8", "validation_folds": "8"},
    "folds without training": {"validation_folds": "8"},
    "folds nobody has": {"train_folds": "77"},
    "backward folds": {"train_folds": "8-1"},
    "rates twice": {"encoder_learning_rate": 1e-3},
    "field of no configuration": {"model_options": {"classifier_poling": "mean"}},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_typed_errors(
    name: str, pretrained: Path, built_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError):
        finetune(pretrained, built_path, tmp_path / "a", **{"labels": "super", **WRONG[name]})
    assert not (tmp_path / "a").exists()


def test_wrong_folders_are_typed_errors(pretrained: Path, built_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError):
        finetune(tmp_path, built_path, tmp_path / "a", labels="super")
    with pytest.raises(DatasetBuildError):
        finetune(pretrained, tmp_path, tmp_path / "a", labels="super")
    with pytest.raises(ConfigurationError, match="folder of the pretrained model"):
        finetune(pretrained, built_path, pretrained, labels="super")


def test_a_patient_of_the_test_split_elsewhere_is_refused(built: Dataset, tmp_path: Path) -> None:
    rows = built.remove_columns("patient_id").add_column("patient_id", ["one"] * len(built))
    rows.save_to_disk(str(tmp_path / "data"))
    with pytest.raises(ConfigurationError, match="1 patients of the test split"):
        FineTuningData.open(tmp_path / "data", Task("super"))

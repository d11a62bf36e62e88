#!/usr/bin/env python
"""Make the folder of weights that ships with the package from trained runs.

    ecg-hf data build ptbxl --data-dir ptb-xl --output built -o train_folds=1-7 -o validation_folds=8 -o test_folds=9
    ecg-hf pretrain --model ecg-beat --recipe ecg_beat --dataset built --output runs/beat
    ecg-hf pretrain --model ecg-distil --recipe ecg_distil --teacher runs/beat --dataset built --output runs/distil
    python scripts/ship_weights.py --beat runs/beat --distil runs/distil --dataset built

Weights are stored in half precision and computed with in single. The classifier of statements is a logistic
regression on the frozen encoder's embedding, written as its linear layer: C chosen, probabilities calibrated and
thresholds set on the validation fold, AUROC and calibration error reported from the test fold.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer, HfArgumentParser

import ecg_hf  # noqa: F401  (registers the models)
from ecg_hf.data import load_built
from ecg_hf.data.labels import label_matrix, label_names
from ecg_hf.evaluation import LinearProbe, auroc, embed_dataset
from ecg_hf.hub import CardContext, write_model_card
from ecg_hf.models.ecg_distil.modeling_ecg_distil import EcgDistilForEcgClassification
from ecg_hf.pipelines.references import ReferenceEcgs

GROUPS = ("super", "all")
REFERENCES = 2000
LICENCE = "cc-by-4.0"
TRAINED_ON = "PTB-XL 1.0.3, folds 1-7"
ATTRIBUTION = {
    "recordings": "PTB-XL 1.0.3 (Wagner et al. 2020, doi 10.13026/kfzx-aw45), CC BY 4.0, 100 Hz, folds 1-7; fold 8 "
    "for every choice, fold 9 for figures, fold 10 untouched",
}


@dataclass
class ScriptArguments:
    """Where runs and recordings are."""

    beat: str = field(metadata={"help": "Run of ECG-Beat."})
    distil: str = field(metadata={"help": "Run of ECG-Distil."})
    dataset: str = field(metadata={"help": "PTB-XL as built for them."})
    output: str = field(default="src/ecg_hf/weights", metadata={"help": "Folder of the package's weights."})
    results: str | None = field(
        default=None, metadata={"help": "results.json of 'ecg-hf evaluate' of the student."}
    )


def halve(folder: Path) -> str:
    """Store a folder's parameters in half precision, buffers as they are; returns the digest of the file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    large = {
        name: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for name, value in tensors.items()
    }
    save_file({name: value.contiguous() for name, value in large.items()}, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    # The library computes in the precision the configuration names, whatever the file's.
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def encoder_folder(run: str, target: Path, context: CardContext, **extractor_options: Any) -> str:
    """A run's encoder with its term head, its extractor for use and its tokenizer."""
    shutil.rmtree(target, ignore_errors=True)
    model = AutoModel.from_pretrained(run)
    extractor = AutoFeatureExtractor.from_pretrained(run, **extractor_options)
    model.save_pretrained(target)
    extractor.save_pretrained(target)
    AutoTokenizer.from_pretrained(run).save_pretrained(target)
    write_model_card(target, model, extractor, context)
    return halve(target)


def platt(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Slope (positive) and offset that calibrate log-odds, by maximum likelihood with Platt's targets."""
    positives, negatives = truth.sum(), (~truth).sum()
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(x: np.ndarray) -> float:
        z = np.exp(x[0]) * scores + x[1]
        return float(np.logaddexp(0, z).sum() - (target * z).sum())

    slope, offset = minimize(loss, [0.0, 0.0], method="L-BFGS-B", bounds=[(-3, 3), (-10, 10)]).x
    return float(np.exp(slope)), float(offset)


def best_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """Probability from which a class counts as present: the best F1 on these records."""
    order = np.argsort(-probability)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    return float(probability[order[int(f1.argmax())]])


def calibration_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins."""
    parts = np.array_split(np.argsort(probability), bins)
    gaps = [abs(probability[part].mean() - truth[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(truth))


def classifier_folder(source: Path, dataset: Any, target: Path, context: CardContext) -> str:
    """The encoder with a linear layer for all statements and superclasses, and reference ECGs beside it."""
    model, extractor = AutoModel.from_pretrained(source).eval(), AutoFeatureExtractor.from_pretrained(source)
    features = embed_dataset(model, extractor, dataset)
    splits, codes = np.asarray(dataset["split"][:]), dataset["labels"][:]
    names = [name for group in GROUPS for name in label_names(group)]
    names = list(dict.fromkeys(names))
    labels = np.zeros((len(dataset), len(names)), bool)
    for group in GROUPS:
        matrix, _ = label_matrix(codes, group)
        for column, name in enumerate(label_names(group)):
            labels[:, names.index(name)] |= matrix[:, column].astype(bool)
    rows = {split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")}
    train, validation, test = (rows[split] for split in rows)
    probe = LinearProbe(clip_sd=1e9).fit(
        features[train], labels[train], features[validation], labels[validation], class_names=names
    )
    scores = probe.decision_function(features)
    mean, spread = probe._scale.mean, probe._scale.scale
    weight, bias = probe.coef / spread, probe.intercept - (probe.coef / spread) @ mean
    details = {}
    for column, name in enumerate(names):
        truth = labels[validation, column]
        if truth.any():
            slope, offset = platt(scores[validation, column], truth)
            weight[column] *= slope
            bias[column] = slope * bias[column] + offset
            scores[:, column] = slope * scores[:, column] + offset
        probability = 1.0 / (1.0 + np.exp(-scores[:, column]))
        reference = auroc(labels[test][:, [column]], scores[test][:, [column]])[0]
        details[name] = {
            "name": STATEMENTS.get(name, name),
            "threshold": best_threshold(probability[validation], truth) if truth.any() else None,
            "reference_auroc": round(float(reference), 4) if np.isfinite(reference) else None,
        }
    probability = 1.0 / (1.0 + np.exp(-scores[test]))
    error = np.mean([calibration_error(probability[:, c], labels[test][:, c]) for c in range(len(names))])
    print(
        f"classifier: macro AUROC {np.nanmean(auroc(labels[test], scores[test])):.4f}, ECE {error:.4f} (fold 9)"
    )

    shutil.rmtree(target, ignore_errors=True)
    config = model.config
    config.update(
        {
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "multi_label_classification",
            "label_details": details,
        }
    )
    classifier = EcgDistilForEcgClassification(config)
    classifier.ecg_distil.encoder.load_state_dict(model.encoder.state_dict())
    with torch.no_grad():
        classifier.classifier.weight.copy_(torch.from_numpy(weight))
        classifier.classifier.bias.copy_(torch.from_numpy(bias))
    classifier.save_pretrained(target)
    extractor.save_pretrained(target)
    write_model_card(target, classifier, extractor, context)
    chosen = np.random.default_rng(0).permutation(train)[:REFERENCES]
    record_ids = [dataset[int(row)]["record_id"] for row in chosen]
    ReferenceEcgs.make(features[chosen], record_ids, [list(codes[row]) for row in chosen]).save(target)
    return halve(target)


STATEMENTS = {
    "NORM": "normal ECG", "MI": "myocardial infarction", "STTC": "ST/T change", "CD": "conduction disturbance",
    "HYP": "hypertrophy", "AFIB": "atrial fibrillation", "AFLT": "atrial flutter", "SR": "sinus rhythm",
    "SBRAD": "sinus bradycardia", "STACH": "sinus tachycardia", "SARRH": "sinus arrhythmia",
    "IMI": "inferior myocardial infarction", "AMI": "anterior myocardial infarction",
    "ASMI": "anteroseptal myocardial infarction", "LVH": "left ventricular hypertrophy",
    "RVH": "right ventricular hypertrophy", "CLBBB": "complete left bundle branch block",
    "CRBBB": "complete right bundle branch block", "IRBBB": "incomplete right bundle branch block",
    "ILBBB": "incomplete left bundle branch block", "LAFB": "left anterior fascicular block",
    "1AVB": "first degree AV block", "PVC": "ventricular premature complex", "PAC": "atrial premature complex",
    "PACE": "artificial pacemaker", "LAO/LAE": "left atrial enlargement", "ISC_": "ischaemic ST/T changes",
    "NDT": "non-diagnostic T abnormalities", "NST_": "non-specific ST changes", "ABQRS": "abnormal QRS",
    "WPW": "Wolff-Parkinson-White syndrome", "LNGQT": "long QT interval", "IVCD": "intraventricular conduction delay",
}  # fmt: skip
"""Words for the statements met most; others are shown by their acronym."""


def main() -> None:
    """Make every folder and the index."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    output, dataset = Path(args.output), load_built(args.dataset)
    results = {} if args.results is None else json.loads(Path(args.results).read_text())

    def context(name: str, supervision: str, **more: Any) -> CardContext:
        training = {
            "supervision": supervision,
            "weights": "stored in half precision, computed with in single",
        }
        return CardContext(
            name, "ptbxl", LICENCE, data=ATTRIBUTION, training=training, weights_licence=LICENCE, **more
        )

    names = ("ecg-distil-ptbxl", "ecg-beat-ptbxl", "ecg-distil-ptbxl-statements")
    digests = {
        names[1]: encoder_folder(args.beat, output / names[1], context("ECG-Beat, PTB-XL", "reports")),
        names[0]: encoder_folder(
            args.distil,
            output / names[0],
            context("ECG-Distil, PTB-XL", "reports and measurements", results=results),
            return_measures=False,
            detect_r_peaks=False,
        ),
    }
    digests[names[2]] = classifier_folder(
        output / names[0],
        dataset,
        output / names[2],
        context("ECG-Distil, PTB-XL statements", "labels, on reports and measurements"),
    )
    index = [
        {
            "name": name,
            "task": "classification" if name.endswith("statements") else "embedding",
            "sha256": digests[name],
            "licence": LICENCE,
            "supervision": "labels, reports, measurements"
            if name.endswith("statements")
            else ("reports, measurements" if "distil" in name else "reports"),
            "trained_on": TRAINED_ON,
        }
        for name in names
    ]
    (output / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for entry in index:
        size = sum(file.stat().st_size for file in (output / entry["name"]).iterdir())
        print(f"{entry['name']}: {size / 1e6:.2f} MB, {entry['sha256'][:12]}")


if __name__ == "__main__":
    main()

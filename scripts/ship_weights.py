#!/usr/bin/env python
"""Make the folder of weights that ships with the package from three training runs on PTB-XL's folds 1-8.

    ecg-hf data build ptbxl --data-dir ptb-xl --output built
    ecg-hf pretrain --model ecg-beat --recipe ecg_beat --dataset built --output runs/beat
    ecg-hf pretrain --model ecg-distil --recipe ecg_distil --teacher runs/beat --dataset built --output runs/distil
    ecg-hf pretrain --model cg-dmer --recipe cg_dmer_ptbxl --dataset built --output runs/cg-dmer
    python scripts/ship_weights.py --beat runs/beat --distil runs/distil --cg-dmer runs/cg-dmer --dataset built

Weights are stored in half precision and computed with in single. The classifier of statements is a logistic
regression on the frozen student's embedding, written as its linear layer: fitted on folds 1-8, each recording whole
and with some of its leads, with a C chosen on fold 8 after fitting on folds 1-7, calibrated and given thresholds on
fold 9. Its calibration error comes from the half of fold 9 (by patient) that did not calibrate it. Fold 10 is not
read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer, HfArgumentParser

import ecg_hf  # noqa: F401  (registers the models)
from ecg_hf.auto_map import SHIM_FILE, without_shim
from ecg_hf.data import load_built
from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.data.labels import SUPERCLASSES, label_matrix, label_names, scp_statements
from ecg_hf.evaluation import LinearProbe, auroc, embed_dataset
from ecg_hf.hub import CardContext, write_model_card
from ecg_hf.models.ecg_distil.modeling_ecg_distil import EcgDistilForEcgClassification
from ecg_hf.pipelines.references import ReferenceEcgs

C_GRID = tuple(10.0 ** (e / 2) for e in range(-9, -2))
NUM_REFERENCES = 2000
FEWEST_POSITIVES = 10
BATCH = 256
LICENCE = "cc-by-4.0"
TRAINED_ON = "PTB-XL 1.0.3, folds 1-8, 100 Hz"
TRAINED_ON_SEVEN = "PTB-XL 1.0.3, folds 1-7, 100 Hz"
FACTS = {
    "recordings": "PTB-XL 1.0.3 (Wagner et al. 2020, doi:10.13026/kfzx-aw45), CC BY 4.0, at 100 Hz; trained on folds "
    "1-8 with a recipe chosen on fold 8 of runs on folds 1-7; fold 10 was not read",
}


@dataclass
class ScriptArguments:
    """Where runs and recordings are."""

    dataset: str = field(metadata={"help": "PTB-XL as built for them."})
    beat: str | None = field(default=None, metadata={"help": "Run of ECG-Beat."})
    distil: str | None = field(default=None, metadata={"help": "Run of ECG-Distil."})
    cg_dmer: str | None = field(default=None, metadata={"help": "Run of CG-DMER."})
    output: str = field(default="src/ecg_hf/weights", metadata={"help": "Folder of the package's weights."})


@dataclass
class Entry:
    """One line of the index, see ``ecg_hf.models.pretrained.ShippedModel``."""

    name: str
    task: str
    supervision: str
    sha256: str = ""
    licence: str = LICENCE
    trained_on: str = TRAINED_ON
    figures: str = "docs/pretrained.md of the package's repository"

    @property
    def folds(self) -> str:
        """Folds it was trained on."""
        return self.trained_on.split(", ")[1]

    def context(self) -> CardContext:
        """What its card needs."""
        training = {
            "supervision": self.supervision,
            "figures": self.figures,
            "weights": "stored in half precision, computed with in single",
        }
        return CardContext(
            self.name,
            "ptbxl",
            LICENCE,
            data={"recordings": FACTS["recordings"].replace("folds 1-8", self.folds, 1)},
            training=training,
            weights_licence=LICENCE,
            trained_here=True,
        )


def finish(folder: Path, entry: Entry, model: Any, extractor: Any) -> None:
    """Write card and parameters in half precision (buffers and vectors as they are); notes the digest."""
    write_model_card(folder, model, extractor, entry.context())
    path = folder / "model.safetensors"
    tensors = {
        name: value.half().contiguous()
        if value.ndim > 1 and value.is_floating_point()
        else value.contiguous()
        for name, value in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    # In the package nobody needs to be led to the package.
    (folder / SHIM_FILE).unlink(missing_ok=True)
    for file in folder.glob("*config.json"):
        content = without_shim(json.loads(file.read_text()))
        # The library computes in the precision the configuration names, whatever the file's.
        content |= {"dtype": "float32"} if file.name == "config.json" else {}
        file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    entry.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()


def ship_encoder(run: str, folder: Path, entry: Entry) -> None:
    """A run's encoder with its text side, its extractor and its tokenizer."""
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModel.from_pretrained(run)
    # Runs of earlier versions kept them on.
    extractor = AutoFeatureExtractor.from_pretrained(run, **dict.fromkeys(model.config.target_inputs, False))
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    AutoTokenizer.from_pretrained(run).save_pretrained(folder)
    finish(folder, entry, model, extractor)


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


def cross_fitted_error(scores: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> list[float]:
    """Calibration error of each class: each half of the patients calibrated on the other."""
    people = np.unique(patients)
    first = np.isin(patients, np.random.default_rng(0).permutation(people)[: len(people) // 2])
    errors = []
    for score, present in zip(scores.T, truth.T, strict=True):
        parts = []
        for fit, rest in ((first, ~first), (~first, first)):
            slope, offset = platt(score[fit], present[fit])
            probability = 1.0 / (1.0 + np.exp(-(slope * score[rest] + offset)))
            parts.append(calibration_error(probability, present[rest]))
        errors.append(float(np.mean(parts)))
    return errors


def statements(dataset: Any) -> tuple[list[str], np.ndarray]:
    """Names and 0/1 ``(records, classes)`` of the superclasses and all statements."""
    codes, columns = dataset["labels"][:], {}
    for group in ("super", "all"):
        matrix, _ = label_matrix(codes, group)
        for name, column in zip(label_names(group), matrix.T.astype(bool), strict=True):
            columns[name] = columns.get(name, False) | column
    return list(columns), np.stack(list(columns.values()), axis=1)


def embed_with_fewer_leads(model: Any, dataset: Any) -> np.ndarray:
    """Embeddings of records of which one to eleven leads are kept, drawn anew for each."""
    decode, generator = BatchDecoder(dataset), np.random.default_rng(0)
    leads, found = model.config.num_leads, []
    for start in range(0, len(dataset), BATCH):
        batch = decode(np.arange(start, min(start + BATCH, len(dataset))))
        if batch.sampling_rate != model.config.sampling_rate:
            raise SystemExit(f"build the dataset at {model.config.sampling_rate:g} Hz")
        signal = batch.signal
        rank = generator.permuted(np.tile(np.arange(leads), (len(signal), 1)), axis=1)
        kept = rank < generator.integers(1, leads, (len(signal), 1))
        with torch.inference_mode():
            output = model(torch.from_numpy(signal), lead_mask=torch.from_numpy(kept.astype(np.int64)))
        found.append(output.pooler_output.numpy())
    return np.concatenate(found)


def ship_classifier(encoder: Path, dataset: Any, folder: Path, entry: Entry) -> None:
    """The encoder with a linear layer for all statements and superclasses, and reference ECGs beside it."""
    model, extractor = (
        AutoModel.from_pretrained(encoder).eval(),
        AutoFeatureExtractor.from_pretrained(encoder),
    )
    folds = np.asarray(dataset["fold"][:])
    features = embed_dataset(model, extractor, dataset)
    fewer = embed_with_fewer_leads(model, dataset)
    names, labels = statements(dataset)
    before, choosing, train, held_out = folds < 8, folds == 8, folds <= 8, folds == 9

    def both(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([features[rows], fewer[rows]]), np.concatenate([labels[rows]] * 2)

    chosen = LinearProbe(c_grid=C_GRID).fit(
        *both(before), features[choosing], labels[choosing], class_names=names
    )
    # Nothing is clipped in the linear layer, so nothing is here.
    probe = LinearProbe(c_grid=(chosen.c,), clip_sd=1e9).fit(*both(train), class_names=names)
    scores, truth = probe.decision_function(features[held_out]), labels[held_out]
    scale = probe._scale
    weight = probe.coef / scale.spread
    bias = probe.intercept - weight @ scale.centre

    areas = auroc(truth, scores)
    errors = cross_fitted_error(scores, truth, np.asarray(dataset["patient_id"][:])[held_out])
    words = {code: statement.description for code, statement in scp_statements().items()} | SUPERCLASSES
    details: dict[str, Any] = {}
    for column, name in enumerate(names):
        present = truth[:, column]
        slope, offset = platt(scores[:, column], present)
        weight[column], bias[column] = weight[column] * slope, bias[column] * slope + offset
        probability = 1.0 / (1.0 + np.exp(-(slope * scores[:, column] + offset)))
        details[name] = {
            "name": words.get(name, name),
            "threshold": best_threshold(probability, present) if present.sum() >= FEWEST_POSITIVES else None,
            "reference_auroc": round(float(areas[column]), 4) if np.isfinite(areas[column]) else None,
        }
    common = [column for column in range(len(names)) if truth[:, column].sum() >= FEWEST_POSITIVES]
    entry.figures = (
        f"on fold 9, C {chosen.c:.2g}: {int(np.isfinite(areas).sum())} classes, "
        f"macro AUROC {np.nanmean(areas):.4f}; "
        f"superclasses {areas[:5].round(4).tolist()}; calibration error {np.mean([errors[c] for c in common]):.4f} "
        f"(mean of {len(common)} classes with 10 positives or more), superclasses {np.round(errors[:5], 4).tolist()}"
    )
    print(entry.figures)

    shutil.rmtree(folder, ignore_errors=True)
    config = model.config
    config.update(
        {
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "multi_label_classification",
            "label_details": details,
            # The encoder and this layer have seen recordings with fewer leads: docs/pretrained.md has their scores.
            "min_leads": 1,
        }
    )
    classifier = EcgDistilForEcgClassification(config)
    classifier.ecg_distil.encoder.load_state_dict(model.encoder.state_dict())
    with torch.no_grad():
        classifier.classifier.weight.copy_(torch.from_numpy(weight))
        classifier.classifier.bias.copy_(torch.from_numpy(bias))
    classifier.save_pretrained(folder)
    extractor.save_pretrained(folder)
    rows = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(train))[:NUM_REFERENCES])
    some = dataset.select(rows)
    ReferenceEcgs.make(features[rows], some["record_id"][:], some["labels"][:]).save(folder)
    finish(folder, entry, classifier, extractor)


def main() -> None:
    """Make the folders of the runs given; the index keeps what it has of the others."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    output, dataset, made = Path(args.output), load_built(args.dataset), []
    if args.distil is not None:
        made.append(Entry("ecg-distil-ptbxl", "embedding", "reports, measurements"))
        ship_encoder(args.distil, output / made[-1].name, made[-1])
        encoder = output / made[-1].name
        supervision = "labels, reports, measurements"
        made.append(Entry("ecg-distil-ptbxl-statements", "classification", supervision))
        ship_classifier(encoder, dataset, output / made[-1].name, made[-1])
    if args.beat is not None:
        made.append(Entry("ecg-beat-ptbxl", "embedding", "reports"))
        ship_encoder(args.beat, output / made[-1].name, made[-1])
    if args.cg_dmer is not None:
        # The run that the figures are of: one on folds 1-8 besides was not made.
        made.append(Entry("cg-dmer-ptbxl", "embedding", "reports, measurements", trained_on=TRAINED_ON_SEVEN))
        ship_encoder(args.cg_dmer, output / made[-1].name, made[-1])
    index = output / "index.json"
    entries = {entry["name"]: entry for entry in json.loads(index.read_text(encoding="utf-8"))}
    for entry in made:
        entries[entry.name] = {key: value for key, value in asdict(entry).items() if key != "figures"}
    index.write_text(json.dumps(list(entries.values()), indent=2) + "\n", encoding="utf-8")
    for entry in made:
        size = sum(file.stat().st_size for file in (output / entry.name).iterdir())
        print(f"{entry.name}: {size / 1e6:.2f} MB, {entry.sha256[:12]}")


if __name__ == "__main__":
    main()

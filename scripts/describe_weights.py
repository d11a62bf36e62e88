#!/usr/bin/env python
"""What the classifier that ships says by sex and age, with fewer leads, at other rates and of other hospitals.

    python scripts/describe_weights.py --dataset built --challenge challenge2021 --ludb ludb > tables.md

Groups, leads and rates are scored on PTB-XL's fold 9, which the weights have not seen. The Challenge's and LUDB's
records at hand are too few for scores: how often a statement is found where the label has it, and where not, is
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoFeatureExtractor, HfArgumentParser

import ecg_hf
from ecg_hf import AutoModelForEcgClassification
from ecg_hf.data import load_built
from ecg_hf.data.labels import label_matrix, label_names
from ecg_hf.evaluation import bootstrap_auroc
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
from ecg_hf.pipelines.interpretation import Interpreter
from ecg_hf.signal import STANDARD_LEADS, EcgRecord

AGES = ((0, 40), (40, 60), (60, 75), (75, 120))
LEADS = (STANDARD_LEADS, STANDARD_LEADS[:6], ("I", "II", "V2"), ("I", "II"), ("II",), ("I",), ("V2",))
RATES = (50.0, 62.4725, 75.0, 100.0, 125.0, 250.0, 500.0)
CHECKED = ("NORM", "MI", "STTC", "CD", "HYP")
STATEMENTS = ("AFIB", "AFLT", "STACH", "SBRAD", "PVC", "PACE", "1AVB", "CLBBB", "CRBBB")
"""What a device with few leads may be asked for."""
SNOMED = {
    "SR": ("426783006",), "SBRAD": ("426177001",), "STACH": ("427084000",), "SARRH": ("427393009",),
    "AFIB": ("164889003",), "AFLT": ("164890007",), "PACE": ("10370003",), "PVC": ("427172004", "17338001"),
    "PAC": ("284470004", "63593006"), "1AVB": ("270492004",), "CLBBB": ("164909002", "733534002"),
    "CRBBB": ("59118001", "713427006"), "LAFB": ("445118002",), "LVH": ("164873001",),
}  # fmt: skip
"""PTB-XL's statements -> codes of the Challenge's headers that mean the same."""
LUDB = {
    "SR": ("Rhythm: Sinus rhythm",), "SBRAD": ("Rhythm: Sinus bradycardia",), "SARRH": ("Rhythm: Sinus arrhythmia",),
    "AFIB": ("Rhythm: Atrial fibrillation",), "AFLT": ("Rhythm: Atrial flutter, typical",),
    "PACE": ("UNIpolar ventricular pacing", "BIpolar ventricular pacing"), "1AVB": ("I degree AV block",),
    "CRBBB": ("Complete right bundle branch block",), "IRBBB": ("Incomplete right bundle branch block",),
    "LAFB": ("Left anterior hemiblock",), "LVH": ("Left ventricular hypertrophy",),
    "LAO/LAE": ("Left atrial hypertrophy",),
}  # fmt: skip
"""PTB-XL's statements -> lines of LUDB's headers that mean the same."""


@dataclass
class ScriptArguments:
    """Where the recordings are."""

    dataset: str = field(metadata={"help": "PTB-XL as built for the weights."})
    challenge: str | None = field(
        default=None, metadata={"help": "Folder of PhysioNet Challenge 2021 recordings."}
    )
    ludb: str | None = field(default=None, metadata={"help": "Folder of LUDB recordings."})
    model: str = field(default=DEFAULT_CLASSIFIER, metadata={"help": "Classifier of statements."})


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def probabilities(
    interpreter: Interpreter, records: Sequence[EcgRecord], labels: Sequence[str] = CHECKED
) -> tuple[np.ndarray, np.ndarray]:
    """Float ``(records, labels)``, NaN where the model abstains, and whether it does."""
    found = np.full((len(records), len(labels)), np.nan)
    for row, answer in enumerate(interpreter(records)):
        scores = {one.label: one.probability for one in answer.findings}
        found[row] = [scores.get(name, np.nan) for name in labels]
    return found, np.isnan(found).any(1)


def scored(title: str, truth: np.ndarray, scores: np.ndarray, patients: Sequence[str]) -> list[Any]:
    """A row: records, positives, the AUROC of every superclass and the macro AUROC with its interval."""
    found = bootstrap_auroc(truth, scores, groups=patients)
    cells = [f"{one.estimate:.3f} ({int(truth[:, c].sum())})" for c, one in enumerate(found.classes)]
    macro = found.macro
    return [title, len(truth), f"{macro.estimate:.3f} ({macro.low:.3f}-{macro.high:.3f})", *cells]


def describe_fold(interpreter: Interpreter, rows: Any) -> None:
    """Tables of groups, leads and rates."""
    records = [EcgRecord(**row["ecg"]) for row in rows]
    truth = label_matrix(rows["labels"][:], "super")[0].astype(bool)
    assert tuple(label_names("super")) == CHECKED
    known, patients = truth.any(1), np.asarray(rows["patient_id"][:])
    ages, sexes = np.asarray(rows["age"][:], float), np.asarray(rows["sex"][:])
    header = ["", "records", "macro AUROC (95 %)", *(f"{name} (positives)" for name in CHECKED)]

    def line(title: str, change: Callable[[EcgRecord], EcgRecord] | None, chosen: np.ndarray) -> list[Any]:
        places = np.flatnonzero(chosen & known)
        some = [records[place] if change is None else change(records[place]) for place in places]
        scores, abstained = probabilities(interpreter, some)
        kept = places[~abstained]
        name = title if not abstained.any() else f"{title} ({int(abstained.sum())} abstained)"
        return scored(name, truth[kept], scores[~abstained], patients[kept].tolist())

    everyone = np.ones(len(records), bool)
    groups = [(sex, sexes == sex) for sex in ("female", "male")]
    groups += [(f"{low} to {high - 1} years", (ages >= low) & (ages < high)) for low, high in AGES]
    table(header, [line("all", None, everyone), *(line(name, None, chosen) for name, chosen in groups)])

    def with_leads(names: Sequence[str]) -> Callable[[EcgRecord], EcgRecord]:
        return lambda record: record.select_leads(names)

    table(header, [line(", ".join(names), with_leads(names), everyone) for names in LEADS])

    stated = np.array([[name in codes for name in STATEMENTS] for codes in rows["labels"][:]])
    lines = []
    for names in LEADS:
        scores, abstained = probabilities(
            interpreter, [one.select_leads(names) for one in records], STATEMENTS
        )
        found = bootstrap_auroc(stated[~abstained], scores[~abstained], groups=patients[~abstained].tolist())
        cells = [f"{one.estimate:.3f} ({one.low:.3f}-{one.high:.3f})" for one in found.classes]
        lines.append([", ".join(names), *cells])
    positives = [f"{name} ({count})" for name, count in zip(STATEMENTS, stated.sum(0), strict=True)]
    table(["AUROC (95 %)", *positives], lines)

    def at(rate: float) -> Callable[[EcgRecord], EcgRecord]:
        return lambda record: record.resample(rate)

    table(header, [line(f"{rate:g} Hz", at(rate), everyone) for rate in RATES])


def describe_hospital(
    interpreter: Interpreter, headers: Sequence[Path], meanings: Mapping[str, Sequence[str]]
) -> None:
    """What is found among records that have a statement and among those that have not.

    Args:
        interpreter: The classifier.
        headers: Of the recordings.
        meanings: Statements -> labels in the headers that mean the same.
    """
    labels = [_labels(path) for path in headers]
    answers = list(interpreter([path.with_suffix("") for path in headers]))
    read = [place for place, answer in enumerate(answers) if answer.findings]
    print(f"{len(headers)} recordings: {len(read)} answered, the others abstained or unread.\n")
    rows = []
    for statement, meant in meanings.items():
        called = {p: next(f.positive for f in answers[p].findings if f.label == statement) for p in read}
        having = [p for p in read if labels[p] & set(meant)]
        others = [p for p in read if not labels[p] & set(meant)]
        if having:
            hits, alarms = sum(called[p] for p in having), sum(called[p] for p in others)
            rows.append([statement, f"{hits} of {len(having)}", f"{alarms} of {len(others)}"])
    table(["statement", "found where labelled", "found where not"], rows)


def _labels(header: Path) -> set[str]:
    """Codes of a line of diagnoses, or else every comment."""
    text = header.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = [line.lstrip("# ").strip() for line in text if line.startswith("#")]
    for comment in comments:
        if comment.startswith("Dx:"):
            return {code.strip() for code in comment.partition(":")[2].split(",")}
    return {comment.rstrip(".") for comment in comments}


def main() -> None:
    """Print every table."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    name = str(ecg_hf.pretrained(args.model))
    model = AutoModelForEcgClassification.from_pretrained(name)
    model.config.min_leads = 1  # what it would say with fewer
    interpreter = Interpreter(model, AutoFeatureExtractor.from_pretrained(name), name=name)
    dataset = load_built(args.dataset)
    describe_fold(interpreter, dataset.select(np.flatnonzero(np.asarray(dataset["fold"][:]) == 9)))
    for folder, meanings in ((args.challenge, SNOMED), (args.ludb, LUDB)):
        if folder is not None:
            # The Challenge has records of PTB-XL too.
            headers = [path for path in sorted(Path(folder).rglob("*.hea")) if "ptb-xl" not in path.parts]
            describe_hospital(interpreter, headers, meanings)


if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Zero-shot classification: of single recordings, or scored on the test split of a dataset. To copy and edit.

    python scripts/zero_shot.py --model runs/tiny --records records100/00000/00001_lr --labels "atrial fibrillation" \
        "normal ECG"
    python scripts/zero_shot.py --model runs/tiny --dataset built/ptbxl --benchmark ptbxl-super

Scores are cosine similarities between the embedding of an ECG and that of a text: not probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import AutoFeatureExtractor, AutoModel, HfArgumentParser, pipeline

import ecg_hf  # noqa: F401  (registers models and pipelines)
from ecg_hf import evaluation
from ecg_hf.data import load_built
from ecg_hf.evaluation.tables import class_scores, markdown_table


@dataclass
class ScriptArguments:
    """Recordings and labels, or a dataset and a benchmark."""

    model: str = field(metadata={"help": "Folder or Hub name of a dual encoder."})
    records: list[str] | None = field(default=None, metadata={"help": "Recordings to classify."})
    labels: list[str] | None = field(default=None, metadata={"help": "Names or prompts to choose from."})
    dataset: str | None = field(default=None, metadata={"help": "Folder made by ecg_hf.data.build_dataset."})
    benchmark: str = field(default="ptbxl-super", metadata={"help": "See 'ecg-hf list benchmarks'."})
    output: str = field(default="zero_shot", metadata={"help": "Folder for the scores of a dataset."})
    device: str = field(default="cpu", metadata={"help": "Where the model runs."})


def classify(args: ScriptArguments) -> None:
    """What the pipeline says about each recording."""
    zero_shot = pipeline("zero-shot-ecg-classification", model=args.model, device=args.device)
    for record, scores in zip(
        args.records, zero_shot(args.records, candidate_labels=args.labels), strict=True
    ):
        print(record)
        for entry in scores:
            print(f"  {entry['score']:+.4f}  {entry['label']}")


def evaluate(args: ScriptArguments) -> None:
    """Every class of a benchmark, with intervals, as 'ecg-hf evaluate --head zero-shot' does."""
    model = AutoModel.from_pretrained(args.model).to(args.device).eval()
    loaded = evaluation.LoadedModel(
        args.model, model, AutoFeatureExtractor.from_pretrained(args.model), args.device
    )
    found = evaluation.evaluate_model(
        evaluation.EvaluationPlan(evaluation.get_protocol("merl-exact"), heads=("zero-shot",)),
        loaded,
        [evaluation.get_benchmark(args.benchmark)],
        {args.benchmark: evaluation.Recordings.of(load_built(args.dataset))},
        args.output,
        controls=("untrained",),
    )
    print(evaluation.evaluation_markdown(found.results))
    print(markdown_table(class_scores(found.results, args.benchmark)))


def main() -> None:
    """Classify recordings, or evaluate on a dataset."""
    parser = HfArgumentParser(ScriptArguments)
    (args,) = parser.parse_args_into_dataclasses()
    if args.records and args.labels:
        classify(args)
    elif args.dataset:
        evaluate(args)
    else:
        parser.error("give --records and --labels, or --dataset")


if __name__ == "__main__":
    main()

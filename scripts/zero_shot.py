#!/usr/bin/env python
"""Zero-shot classification: of single recordings, or scored on the test split of a dataset. To copy and edit.

    python scripts/zero_shot.py --model runs/tiny --records records100/00000/00001_lr --labels "atrial fibrillation" \
        "normal ECG"
    python scripts/zero_shot.py --model runs/tiny --dataset built/ptbxl --benchmark ptbxl-super

Scores are cosine similarities between the embedding of an ECG and that of a text: not probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer, HfArgumentParser, pipeline

import ecg_hf  # noqa: F401  (registers models and pipelines)
from ecg_hf.data import load_built
from ecg_hf.evaluation import (
    BenchmarkData,
    embed_dataset,
    encode_prompts,
    evaluate_zero_shot,
    get_benchmark,
    prompts_for,
)


@dataclass
class ScriptArguments:
    """Recordings and labels, or a dataset and a benchmark."""

    model: str = field(metadata={"help": "Folder or Hub name of a dual encoder."})
    records: list[str] | None = field(default=None, metadata={"help": "Recordings to classify."})
    labels: list[str] | None = field(default=None, metadata={"help": "Names or prompts to choose from."})
    dataset: str | None = field(default=None, metadata={"help": "Folder made by ecg_hf.data.build_dataset."})
    benchmark: str = field(default="ptbxl-super", metadata={"help": "See 'ecg-hf list benchmarks'."})
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
    """AUROC of every class of a benchmark, with intervals."""
    dataset = load_built(args.dataset)
    data = BenchmarkData.from_dataset(get_benchmark(args.benchmark), dataset)
    test = data.rows("test")
    model = AutoModel.from_pretrained(args.model).to(args.device).eval()
    extractor = AutoFeatureExtractor.from_pretrained(args.model)
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    # Both sides in the shared space: "projected" is get_ecg_features.
    ecgs = embed_dataset(model, extractor, dataset.select(test), features="projected")
    prompts = prompts_for(data.class_names)
    texts = encode_prompts(model, tokenizer, prompts, max_length=model.config.max_text_length)
    patients = None if data.patient_ids is None else [data.patient_ids[row] for row in test]
    result = evaluate_zero_shot(
        data.labels[test], ecgs, texts, data.class_names, prompts=prompts, patient_ids=patients
    )
    for score in result.score.classes:
        auroc = f"{score.auroc:.3f}" if score.auroc is not None else f"  -    {score.excluded}:"
        print(f"{auroc}  {score.name} ({score.positives} of {score.n}): {prompts[score.name]}")
    macro = result.bootstrap.macro
    print(f"{macro.estimate:.3f}  macro AUROC, 95 % interval {macro.low:.3f} to {macro.high:.3f}")


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

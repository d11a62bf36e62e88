#!/usr/bin/env python
"""Heads on a frozen encoder, beside the same encoder untrained: 'ecg-hf evaluate' in Python. To copy and edit.

    python scripts/probe.py --model runs/tiny --dataset built/ptbxl --benchmark ptbxl-super --output probe
    python scripts/probe.py --model runs/tiny --dataset built/ptbxl --heads linear attention --output probe_attention

Every record is embedded once. A killed run continues. Works with every registered method.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import AutoFeatureExtractor, AutoModel, HfArgumentParser

import ecg_hf  # noqa: F401  (registers the models)
from ecg_hf import evaluation
from ecg_hf.data import load_built


@dataclass
class ScriptArguments:
    """What to evaluate, and how."""

    model: str = field(metadata={"help": "Folder or Hub name of a model."})
    dataset: str = field(metadata={"help": "Folder made by ecg_hf.data.build_dataset."})
    output: str = field(metadata={"help": "Folder for features, results.json, table.md and figures."})
    benchmark: str = field(default="ptbxl-super", metadata={"help": "See 'ecg-hf list benchmarks'."})
    protocol: str = field(default="merl-exact", metadata={"help": "See 'ecg-hf evaluate --help'."})
    heads: list[str] = field(default_factory=lambda: ["linear"], metadata={"help": "linear, attention, mlp."})
    fractions: list[float] = field(
        default_factory=lambda: [0.01, 0.1, 1.0], metadata={"help": "Of the labels."}
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Of label subsets and heads."})
    device: str = field(default="cpu", metadata={"help": "Where encoder and heads run."})


def main() -> None:
    """Evaluate, write the results, print the table."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    plan = evaluation.EvaluationPlan(
        protocol=evaluation.get_protocol(args.protocol),
        heads=tuple(args.heads),
        fractions=tuple(args.fractions),
        seeds=tuple(args.seeds),
        device=args.device,
    )
    encoder = AutoModel.from_pretrained(args.model).to(args.device).eval()
    loaded = evaluation.LoadedModel(
        args.model, encoder, AutoFeatureExtractor.from_pretrained(args.model), args.device
    )
    recordings = {args.benchmark: evaluation.Recordings.of(load_built(args.dataset))}
    found = evaluation.evaluate_model(
        plan, loaded, [evaluation.get_benchmark(args.benchmark)], recordings, args.output,
        controls=("untrained", "handmade"),
    )  # fmt: skip
    evaluation.write_evaluation(args.output, found)
    print(evaluation.evaluation_markdown(found.results))


if __name__ == "__main__":
    main()

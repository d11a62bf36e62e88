#!/usr/bin/env python
"""Probes on a frozen encoder, beside the same encoder untrained. A recipe to copy and edit.

    python scripts/probe.py --model runs/tiny --dataset built/ptbxl --benchmark ptbxl-super --output probe
    python scripts/probe.py --model runs/tiny --dataset built/ptbxl --head attention --output probe_attention

Every record is embedded once: pooled for the linear head (probes then take seconds), as tokens for the attention
head. A killed run continues; embeddings of another model or other records are replaced. Intervals are 95 % percentile
bootstrap intervals, over patients where they are known. Works with every registered method.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoFeatureExtractor, AutoModel, HfArgumentParser, set_seed

import ecg_hf  # noqa: F401  (registers the models)
from ecg_hf.data import load_built
from ecg_hf.evaluation import (
    AttentionProbe,
    BenchmarkData,
    Results,
    embed_dataset,
    embed_tokens,
    get_benchmark,
    results_markdown,
    run_probe_benchmark,
    write_results,
)


@dataclass
class ScriptArguments:
    """What to probe, and how."""

    model: str = field(metadata={"help": "Folder or Hub name of a model."})
    dataset: str = field(metadata={"help": "Folder made by ecg_hf.data.build_dataset."})
    output: str = field(metadata={"help": "Folder for embeddings, results.json and table.md."})
    benchmark: str = field(default="ptbxl-super", metadata={"help": "See 'ecg-hf list benchmarks'."})
    head: str = field(
        default="linear",
        metadata={
            "help": "Logistic regression, or a learnable query over tokens.",
            "choices": ["linear", "attention"],
        },
    )
    fractions: list[float] = field(
        default_factory=lambda: [0.01, 0.1, 1.0], metadata={"help": "Of the labels."}
    )
    seed: list[int] = field(
        default_factory=lambda: [0],
        metadata={
            "help": "Of label subsets, resamples and attention head; several give a row each. The first is that of "
            "the untrained encoder and of --max_train."
        },
    )
    max_train: int | None = field(default=None, metadata={"help": "Use so many training records at most."})
    train_folds: str | None = field(default=None, metadata={"help": "Instead of the benchmark's, e.g. 1-7."})
    validation_folds: str | None = field(default=None, metadata={"help": "The same for choosing C or epoch."})
    test_folds: str | None = field(default=None, metadata={"help": "The same for scoring."})
    batch_size: int = field(default=64, metadata={"help": "Recordings per forward pass."})
    device: str = field(default="cpu", metadata={"help": "Where encoder and attention head run."})
    epochs: int = field(default=100, metadata={"help": "Of the attention head."})
    standardise: bool = field(default=True, metadata={"help": "Scale tokens by the training records."})
    pool_tokens: int = field(default=1, metadata={"help": "Mean over so many consecutive tokens of a lead."})


def benchmark_and_records(args: ScriptArguments) -> tuple[Any, Any, BenchmarkData]:
    """The benchmark, the records that take part in it, and their labels and splits."""
    folds = ("train_folds", "validation_folds", "test_folds")
    given = {name: getattr(args, name) for name in folds if getattr(args, name)}
    benchmark = get_benchmark(args.benchmark)
    benchmark = replace(benchmark, protocol=replace(benchmark.protocol, **given))
    dataset = load_built(args.dataset)
    data = BenchmarkData.from_dataset(benchmark, dataset)
    train = data.rows("train")
    if args.max_train is not None:
        train = np.random.default_rng(args.seed[0]).permutation(train)[: args.max_train]
    rows = np.sort(np.concatenate([train, data.rows("validation"), data.rows("test")]))
    dataset = dataset.select(rows)
    return benchmark, dataset, BenchmarkData.from_dataset(benchmark, dataset)


def main() -> None:
    """Embed with both encoders, probe, print and write the results."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    benchmark, dataset, data = benchmark_and_records(args)
    pretrained = AutoModel.from_pretrained(args.model)
    extractor = AutoFeatureExtractor.from_pretrained(args.model)
    set_seed(args.seed[0])
    untrained = AutoModel.from_config(pretrained.config)

    started = time.perf_counter()
    output = Path(args.output)
    options: dict[str, Any] = {"batch_size": args.batch_size, "device": args.device, "overwrite": True}
    kind = "embeddings"
    embed: Any = embed_dataset
    if args.head == "attention":
        kind, embed = "tokens", embed_tokens
        options["pool_tokens"] = args.pool_tokens
    features = {
        name: embed(
            encoder.eval(), extractor, dataset, output=output / f"{kind}_{name}.safetensors", **options
        )
        for name, encoder in (("pretrained", pretrained), ("untrained", untrained))
    }
    embedded = time.perf_counter()

    attention = AttentionProbe(
        epochs=args.epochs, standardise=args.standardise, device=args.device, progress=True
    )
    reports = [
        run_probe_benchmark(
            benchmark,
            features,
            data,
            head=args.head,
            fractions=args.fractions,
            seed=seed,
            attention=attention,
        )
        for seed in args.seed
    ]
    results: Results = {
        "dataset": benchmark.dataset,
        "synthetic": benchmark.dataset == "synthetic",
        "probe": [row for report in reports for row in report.rows],
        "paired": [row for report in reports for row in report.paired],
        "timings": {"embed": embedded - started, "probe": time.perf_counter() - embedded},
    }
    write_results(output / "results.json", results)
    table = results_markdown(results)
    (output / "table.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()

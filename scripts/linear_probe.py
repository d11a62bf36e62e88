#!/usr/bin/env python
"""Linear probes on frozen embeddings, beside the same encoder untrained. A recipe to copy and edit.

    python scripts/linear_probe.py --model runs/tiny --dataset built/ptbxl --benchmark ptbxl-super --output probe

Every record is embedded once; probes at 1, 10 and 100 % of the labels then take seconds. Intervals are 95 %
percentile bootstrap intervals, over patients where they are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoFeatureExtractor, AutoModel, HfArgumentParser, set_seed

import ecg_hf  # noqa: F401  (registers the models)
from ecg_hf.data import load_built
from ecg_hf.evaluation import (
    BenchmarkData,
    Results,
    embed_dataset,
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
    output: str = field(metadata={"help": "Folder for embeddings and results.json."})
    benchmark: str = field(default="ptbxl-super", metadata={"help": "See 'ecg-hf list benchmarks'."})
    fractions: list[float] = field(
        default_factory=lambda: [0.01, 0.1, 1.0], metadata={"help": "Of the labels."}
    )
    batch_size: int = field(default=64, metadata={"help": "Recordings per forward pass."})
    device: str = field(default="cpu", metadata={"help": "Where the encoder runs."})
    seed: int = field(default=0, metadata={"help": "Of label subsets, resamples and the untrained encoder."})


def main() -> None:
    """Embed with both encoders, probe, print and write the results."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    dataset = load_built(args.dataset)
    benchmark = get_benchmark(args.benchmark)
    data = BenchmarkData.from_dataset(benchmark, dataset)

    pretrained = AutoModel.from_pretrained(args.model)
    extractor = AutoFeatureExtractor.from_pretrained(args.model)
    set_seed(args.seed)
    untrained = AutoModel.from_config(pretrained.config)

    output = Path(args.output)
    embeddings = {
        name: embed_dataset(
            encoder.to(args.device).eval(),
            extractor,
            dataset,
            batch_size=args.batch_size,
            output=output / f"embeddings_{name}.safetensors",
            overwrite=True,
        )
        for name, encoder in (("pretrained", pretrained), ("random", untrained))
    }
    report = run_probe_benchmark(benchmark, embeddings, data, fractions=args.fractions, seed=args.seed)
    results: Results = {
        "dataset": benchmark.dataset,
        "synthetic": benchmark.dataset == "synthetic",
        "probe": report.rows,
        "paired": report.paired,
        "timings": {},
    }
    write_results(output / "results.json", results)
    print(results_markdown(results))


if __name__ == "__main__":
    main()

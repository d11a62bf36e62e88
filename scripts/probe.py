#!/usr/bin/env python
"""Heads on a frozen encoder, beside controls. A recipe to copy and edit; `ecg-hf evaluate` is the same.

python scripts/probe.py --model runs/tiny --dataset built/ptbxl --benchmark ptbxl-super --output probe
python scripts/probe.py --model runs/tiny --dataset built/ptbxl --heads linear attention --output probe_attention
"""

from argparse import ArgumentParser

from transformers import AutoFeatureExtractor, AutoModel

from ecg_hf import evaluation
from ecg_hf.data import load_built

if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    for name in ("--model", "--dataset", "--output"):
        parser.add_argument(name, required=True, help="See `ecg-hf evaluate --help`.")
    parser.add_argument("--benchmark", default="ptbxl-super", help="See `ecg-hf list benchmarks`.")
    parser.add_argument("--protocol", default="merl-exact")
    parser.add_argument("--heads", nargs="+", default=["linear"])
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.01, 0.1, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    protocol = evaluation.get_protocol(args.protocol)
    plan = evaluation.EvaluationPlan(protocol, tuple(args.heads), tuple(args.fractions), tuple(args.seeds))
    encoder, extractor = (auto.from_pretrained(args.model) for auto in (AutoModel, AutoFeatureExtractor))
    loaded = evaluation.LoadedModel(args.model, encoder.eval(), extractor)
    benchmark = evaluation.get_benchmark(args.benchmark)
    recordings = {benchmark.name: evaluation.Recordings.of(load_built(args.dataset))}
    controls = ("untrained", "handmade")
    found = evaluation.evaluate_model(plan, loaded, [benchmark], recordings, args.output, controls=controls)
    evaluation.write_evaluation(args.output, found)
    print(evaluation.evaluation_markdown(found.results))

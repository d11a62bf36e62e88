"""The client side of the round trip: ``python -m tests.hub.round_trip push|load STORE [trust]``.

``python -m tests.hub.round_trip table`` does all of it on a Hub of its own and prints a table.

``push`` makes a micro model of every registered method, notes what model, extractor and pipelines answer, and shares
all of it in every way there is. ``load`` brings it back in another process, with the package imported, or with
``trust`` only installed, and prints the largest difference of each part.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
TEXTS = ["atrial fibrillation", "normal ECG", "sinus rhythm"]
CLASSES = {0: "NORM", 1: "MI", 2: "STTC"}
RATE = 500.0

Answers = dict[str, torch.Tensor]


def flat(prefix: str, tensors: Any) -> Answers:
    """Tensors of an output by name, as they are."""
    return {
        f"{prefix}.{name}": value.detach().contiguous().clone()
        for name, value in dict(tensors).items()
        if isinstance(value, torch.Tensor)
    }


def extracted(extractor: Any, signals: np.ndarray) -> dict[str, torch.Tensor]:
    return dict(extractor(list(signals), sampling_rate=RATE, lead_names=LEADS, return_tensors="pt"))


def accepted(function: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    import inspect

    return {name: inputs[name] for name in inputs if name in inspect.signature(function).parameters}


@torch.inference_mode()
def answers_of_model(model: Any, extractor: Any, signals: np.ndarray) -> Answers:
    inputs = extracted(extractor, signals)
    outputs = model.eval()(**accepted(model.forward, inputs))
    return {**flat("extractor", inputs), **flat("model", outputs)}


def answers_of_whole(model: Any) -> Answers:
    return flat("weights", model.state_dict())


@torch.inference_mode()
def answers_of_text(model: Any, processor: Any) -> Answers:
    encoded = processor(text=TEXTS, return_tensors="pt")
    return {**flat("processor", encoded), "text.features": model.eval().get_text_features(**encoded).clone()}


def answers_of_pipeline(pipe: Any, signals: np.ndarray, **options: Any) -> Answers:
    said = pipe(list(signals), sampling_rate=RATE, lead_names=LEADS, **options)
    return {
        f"pipeline.{row}.{one['label']}": torch.tensor(one["score"], dtype=torch.float64)
        for row, entries in enumerate(said)
        for one in entries
    }


def push(store: Path) -> None:
    """Share every method, one repository per way of sharing."""
    from transformers import pipeline

    import ecg_hf  # noqa: F401  (registers)
    from ecg_hf.hub import push_model
    from ecg_hf.models.registry import METHODS
    from ecg_hf.processing import EcgProcessor
    from ecg_hf.processing.terms import make_term_vocabulary
    from ecg_hf.signal.synthetic import simulate
    from ecg_hf.training.vocabulary import make_tokenizer

    batch = simulate(3, seed=5, sampling_rate=RATE)
    signals = batch.signal.astype(np.float32)
    np.save(store / "signals.npy", signals)
    for name, spec in METHODS.items():
        torch.manual_seed(0)
        config_class = spec.load("config")
        options: dict[str, Any] = {}
        preset = config_class.preset(spec.sizes[0])
        if spec.multimodal and not hasattr(preset, "text_config"):
            tokenizer = make_term_vocabulary([*TEXTS, *TEXTS, *batch.reports], min_reports=2).tokenizer
        elif spec.multimodal:
            tokenizer = make_tokenizer(
                [*TEXTS, *TEXTS, *batch.reports], preset.text_config.vocab_size, preset.max_text_length
            )
            special = [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
            if hasattr(preset, "text_mask_token_id"):
                options = {"text_mask_token_id": tokenizer.mask_token_id, "text_special_token_ids": special}
        config = config_class.preset(spec.sizes[0], **options)
        extractor = spec.feature_extractor_for(config)
        preparing = EcgProcessor(extractor, tokenizer) if spec.multimodal else extractor
        folder = store / "models" / name
        model = spec.load(spec.whole)(config)
        model.save_pretrained(folder)
        preparing.save_pretrained(folder)
        base = spec.load("model").from_pretrained(folder)
        said = {**answers_of_model(base, extractor, signals), **answers_of_whole(model)}
        if spec.multimodal:
            said |= answers_of_text(base, preparing)

        # The command's way, and the library's own: piece by piece into one repository.
        push_model(folder, f"org/{name}", tag="v1.0")
        save_file(said, store / f"{name}.safetensors")
        model.push_to_hub(f"org/{name}-pieces")
        preparing.push_to_hub(f"org/{name}-pieces")

        labelled = config_class.preset(
            spec.sizes[0], id2label=CLASSES, label2id={v: k for k, v in CLASSES.items()}, **options
        )
        classifier = spec.load("classification")(labelled)
        pipe = pipeline("ecg-classification", model=classifier.eval(), feature_extractor=extractor)
        save_file(answers_of_pipeline(pipe, signals), store / f"{name}-classifier.safetensors")
        pipe.push_to_hub(f"org/{name}-classifier")
        if spec.multimodal:
            pipe = pipeline(
                "zero-shot-ecg-classification",
                model=base.eval(),
                feature_extractor=extractor,
                tokenizer=tokenizer,
            )
            zero_shot = answers_of_pipeline(pipe, signals, candidate_labels=TEXTS)
            save_file(zero_shot, store / f"{name}-zero-shot.safetensors")
            pipe.push_to_hub(f"org/{name}-zero-shot")
    print(json.dumps({name: spec.multimodal for name, spec in METHODS.items()}))


def largest_difference(found: Answers, expected: Answers, part: str) -> float:
    """Over all tensors of a part; names and shapes must be the same."""
    names = {name for name in expected if name.partition(".")[0] == part}
    assert names == {name for name in found if name.partition(".")[0] == part}, part
    assert names, part
    differences = []
    for name in names:
        assert found[name].shape == expected[name].shape, name
        assert found[name].dtype == expected[name].dtype, name
        difference = (found[name].double() - expected[name].double()).abs()
        differences.append(float(difference.max()) if difference.numel() else 0.0)
    return max(differences)


def load(store: Path, methods: dict[str, bool], trust: bool) -> None:
    """Bring everything back and compare."""
    if not trust:
        import ecg_hf  # noqa: F401  (registers)
    from huggingface_hub import constants
    from transformers import (
        AutoFeatureExtractor,
        AutoModel,
        AutoModelForAudioClassification,
        AutoModelForPreTraining,
        AutoProcessor,
        pipeline,
    )

    assert ("ecg_hf" in sys.modules) is not trust
    # Downloads are kept in steps of 10 MB, which no micro model has: smaller steps, so that one can break off.
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 14
    # Only the first of all loads needs it; the rest then finds the classes registered, so the order changes.
    options: dict[str, Any] = {"trust_remote_code": True} if trust else {}
    signals = np.load(store / "signals.npy")
    table: dict[str, dict[str, float]] = {}
    classes: dict[str, str] = {}
    for name, multimodal in methods.items():
        expected = load_file(store / f"{name}.safetensors")
        for repo in (f"org/{name}", f"org/{name}-pieces"):
            extractor = AutoFeatureExtractor.from_pretrained(repo, **options)
            base = AutoModel.from_pretrained(repo, **options)
            found = answers_of_model(base, extractor, signals)
            pretrained = base.config.architectures[0].endswith("ForPreTraining")
            whole = AutoModelForPreTraining if pretrained else AutoModel
            found |= answers_of_whole(whole.from_pretrained(repo, **options))
            parts = ["extractor", "model", "weights"]
            if multimodal:
                processor = AutoProcessor.from_pretrained(repo, **options)
                found |= answers_of_text(base, processor)
                parts += ["processor", "text"]
            table[repo] = {part: largest_difference(found, expected, part) for part in parts}
            classes[repo] = f"{type(base).__module__}.{type(base).__name__}"
        repo = f"org/{name}-classifier"
        pipe = pipeline("ecg-classification", model=repo, **options)
        expected = load_file(store / f"{name}-classifier.safetensors")
        found = answers_of_pipeline(pipe, signals)
        table[repo] = {"pipeline": largest_difference(found, expected, "pipeline")}
        loaded = AutoModelForAudioClassification.from_pretrained(repo, **options)
        classes[repo] = f"{type(loaded).__module__}.{type(loaded).__name__}"
        if multimodal:
            repo = f"org/{name}-zero-shot"
            pipe = pipeline("zero-shot-ecg-classification", model=repo, **options)
            expected = load_file(store / f"{name}-zero-shot.safetensors")
            found = answers_of_pipeline(pipe, signals, candidate_labels=TEXTS)
            table[repo] = {"pipeline": largest_difference(found, expected, "pipeline")}
    remote = sorted(module for module in sys.modules if module.startswith("transformers_modules."))
    print(json.dumps({"differences": table, "classes": classes, "remote": remote}))


def table() -> None:
    """Largest differences after the way through the Hub, as Markdown."""
    import subprocess
    import tempfile

    from tests.hub.loopback_hub import OWNER, LoopbackHub

    with tempfile.TemporaryDirectory() as folder, LoopbackHub() as hub:

        def run(*words: str, home: str, token: str | None = None) -> Any:
            result = subprocess.run(
                [sys.executable, "-m", "tests.hub.round_trip", *words],
                env=hub.environment(Path(folder) / home, token=token),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            return json.loads(result.stdout.strip().splitlines()[-1])

        methods = run("push", folder, home="owner", token=OWNER)
        found = {
            "imported": run("load", folder, json.dumps(methods), home="imported"),
            "not imported": run("load", folder, json.dumps(methods), "trust", home="trust"),
        }
    parts = ("model", "weights", "extractor", "processor", "text")
    print(f"| method | package | {' | '.join(parts)} | ecg-classification | zero-shot |")
    print("|---|---|" + "---:|" * (len(parts) + 2))
    for name in methods:
        for how, said in found.items():
            repos = said["differences"]
            both = (repos[f"org/{name}"], repos[f"org/{name}-pieces"])
            cells = [max((repo[part] for repo in both if part in repo), default="") for part in parts]
            cells += [
                repos.get(f"org/{name}-{kind}", {}).get("pipeline", "")
                for kind in ("classifier", "zero-shot")
            ]
            print(f"| {name} | {how} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table()
    elif sys.argv[1] == "push":
        push(Path(sys.argv[2]))
    else:
        load(Path(sys.argv[2]), json.loads(sys.argv[3]), trust=sys.argv[4:] == ["trust"])

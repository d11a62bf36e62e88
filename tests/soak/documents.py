"""Fuzzer of documents: JSON and YAML as strangers may hand them over, changed where it hurts, through every reader.

    python -m tests.soak.documents --minutes 5

A value is exchanged for one of another type or size, a field dropped, doubled or renamed, or the text damaged. Only
``EcgError`` may escape, nothing outside the folder may be opened, and memory stays within a multiple of the file.
Prints how many inputs were tried and how they ended.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT
from tests.soak.guard import Outcomes, fuzz, guarded, main_of
from tests.soak.mutations import mutate

# Raw pieces of JSON: some have no form in Python.
RAW = ("1e999", "-1e999", "NaN", "1" * 5000, "-0", "[" * 3000 + "]" * 3000, '"\\ud800"', '{"a": 1, "a": 2}')
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3.5,
        -2.5,
        1e300,
        10**18,
        10**30,
        "",
        "x",
        "a\nb",
        "1",
        "1.0e-4",
        "../../x",
    ),
    *("$x$", "\x1b[2J", "<b>", "| a |", "a" * 100_000, [], {}, [[]], [None], ["x", 1], {"a": {}}, {"": 0}),
    *(
        [1, 2, 3],
        [2, 1],
        ["x"] * 1000,
        {str(i): i for i in range(1000)},
        "[1, 2]",
        "2026-13-45",
        "/etc/passwd",
    ),
)
RAW_MARK = "raw piece"


@dataclass(frozen=True)
class Document:
    """A document that is as it should be, and what reads it.

    Attributes:
        path: Where it is.
        content: Its content as plain data.
        read: Reads and uses it.
        write: Content as a file: JSON or YAML, perhaps with something around.
    """

    path: Path
    content: Any
    read: Callable[[], object]
    write: Callable[[Any], str | bytes]


def changed(content: Any, source: random.Random) -> Any:
    """``content`` with one to three changes of its structure."""
    content = json.loads(json.dumps(content))
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            return deepcopy(source.choice(VALUES))
        holder, key = source.choice(places)
        change = source.random()
        if change < 0.65:
            holder[key] = deepcopy(source.choice(VALUES))
        elif change < 0.75:
            holder[key] = f"{RAW_MARK} {source.randrange(len(RAW))}"
        elif change < 0.9:
            del holder[key]
        elif isinstance(holder, dict):
            holder[source.choice(("", "x", "\n", f"{key}2", "to_dict", "__class__"))] = holder.pop(key)
        else:
            holder.insert(key, deepcopy(source.choice(holder)))
    return content


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def as_json(content: Any) -> str:
    """JSON, raw pieces put in."""
    text = json.dumps(content)
    for number, piece in enumerate(RAW):
        text = text.replace(f'"{RAW_MARK} {number}"', piece)
    return text


def as_yaml(content: Any) -> str:
    """YAML, with pieces of it that JSON does not have."""
    text = yaml.safe_dump(content)
    pieces = (
        "2026-01-01",
        "!!set {a, b}",
        "&a [*a]",
        "!!binary aGk=",
        ".inf",
        "1:30",
        "!!python/name:os.system",
        "~",
    )
    for number in range(len(RAW)):
        text = text.replace(f"{RAW_MARK} {number}", pieces[number % len(pieces)])
    return text


def as_card(content: Any) -> str:
    """A card with YAML in front."""
    return f"---\n{as_yaml(content)}---\n# Card\n"


def as_lines(content: Any) -> str:
    """One JSON object per line."""
    rows = content if isinstance(content, list) else [content]
    return "".join(as_json(row) + "\n" for row in rows)


def as_tensors(content: Any, size: int = 64) -> bytes:
    """A safetensors file with this header, and so many bytes of values."""
    header = as_json(content).encode(errors="surrogatepass")
    return len(header).to_bytes(8, "little") + header + b"\0" * size


def documents(folder: Path) -> dict[str, Document]:
    """Every kind of document, in a folder with one model, one dataset and one run."""
    from ecg_hf.data import build_dataset, load_built
    from ecg_hf.data.parts import load_part
    from ecg_hf.data.report import BuildReport
    from ecg_hf.evaluation.cache import read_scores
    from ecg_hf.evaluation.features.pooled import read_embeddings
    from ecg_hf.evaluation.features.tokens import read_tokens
    from ecg_hf.evaluation.results import read_results
    from ecg_hf.evaluation.tables import class_scores, evaluation_markdown, evaluation_table, html_table
    from ecg_hf.evaluation.zero_shot import load_prompts
    from ecg_hf.hub.card import write_model_card
    from ecg_hf.hub.card_context import CardContext, card_context_of
    from ecg_hf.hub.dataset_card import dataset_card
    from ecg_hf.hub.model_folder import open_model_folder
    from ecg_hf.hub.model_index import results_in_card, summary_entries, update_model_index
    from ecg_hf.models.registry import METHODS
    from ecg_hf.training.checkpoints import incompleteness
    from ecg_hf.training.recipe import list_recipes, load_recipe
    from ecg_hf.training.run_folder import claim_run_folder
    from ecg_hf.training.training_log import read_training_log

    built, model, run, checkpoint = (folder / name for name in ("built", "model", "run", "checkpoint-2"))
    build_dataset("synthetic", None, built, progress=False, records=4)
    build_dataset(
        "synthetic", None, folder / "part", progress=False, records=4, shard="1/2", records_per_shard=1
    )
    for made in (run, checkpoint):
        made.mkdir()
    spec = METHODS["ecg-cpc"]
    config = spec.load("config").preset(spec.sizes[0])
    network, extractor = spec.load("pretraining")(config), spec.feature_extractor_for(config)
    network.save_pretrained(model)
    extractor.save_pretrained(model)
    (run / "pretrain_report.json").write_text('{"datasets": []}')
    results = _results()
    (folder / "results.json").write_text(json.dumps(results))
    recipe = yaml.safe_load(
        "method: ecg-cpc\nmodel: {size: tiny, hidden_size: 32}\nfeature_extractor: {normalization: zscore_record}\n"
        "training: {learning_rate: 1.0e-3, max_steps: 3, lr_scheduler_kwargs: {a: 1}, bf16: true}\n"
    )
    account = {
        "steps": 2, "seconds": 3.5, "resumed_from": 0, "device": "cpu", "processes": 1, "versions": {"torch": "2"},
        "records": {"train": 3, "validation": 1}, "evaluation": {"eval_loss": 0.5},
        "datasets": [{"source": "synthetic", "path": str(built), "train": 3, "left_out": {"x": 1}}],
    }  # fmt: skip
    arguments = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "bf16": False,
        "seed": 1,
        "optim": "adamw",
    }
    context = CardContext("m", "d", "CC0", training={"a": "b"}, results=results)
    settings = {"model": "ecg-cpc", "training": {"seed": 1}}
    tensors = {"embeddings": {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}}
    scores = {
        "__metadata__": {"names": json.dumps({"record_ids": ["a"], "class_names": ["b"], "patients": None})},
        "scores": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]},
        "samples": {"dtype": "F64", "shape": [6], "data_offsets": [8, 56]},
        "labels": {"dtype": "U8", "shape": [1, 1], "data_offsets": [56, 57]},
        "included": {"dtype": "U8", "shape": [1], "data_offsets": [57, 58]},
        "more": {"dtype": "U8", "shape": [6], "data_offsets": [58, 64]},
    }
    tokens = {
        "__metadata__": {"layout_windows": "1", "key": "k", "format": "np"},
        "tokens": {"dtype": "F32", "shape": [2, 2, 3], "data_offsets": [0, 48]},
        "token_mask": {"dtype": "BOOL", "shape": [2, 2], "data_offsets": [48, 52]},
    }

    def read_all_results() -> None:
        found = read_results(folder / "results.json")
        benchmarks = {row["benchmark"] for row in found.get("summary", [])}
        tables = [make(found, one) for one in benchmarks for make in (evaluation_table, class_scores)]
        for text in (evaluation_markdown(found), *(html_table(table) for table in tables)):
            text.encode()
        summary_entries(found)

    def read_report() -> None:
        report = BuildReport.load(built)
        report.summary()
        dataset_card(report, repo_id="a/b", splits={"train": 1}, columns=["ecg"], licence="x").encode()

    def write_card() -> None:
        write_model_card(run, network, extractor, card_context_of(run))

    def use_recipe() -> None:
        found = load_recipe(folder / "r.yaml")
        kind = METHODS[found.method]
        made = kind.load("config").preset(found.size, **found.model_options({}))
        kind.feature_extractor_for(made, **found.feature_extractor)

    def saved(path: Path) -> Any:
        return json.loads(path.read_text())

    found = {
        "results": Document(folder / "results.json", results, read_all_results, as_json),
        "prompts": Document(
            folder / "p.json", {"A": "b", "C": "d"}, lambda: load_prompts(folder / "p.json"), as_json
        ),
        "recipe": Document(folder / "r.yaml", recipe, use_recipe, as_yaml),
        "run": Document(
            run / "run.json",
            settings,
            lambda: claim_run_folder(run, settings, resume=True, overwrite=False),
            as_json,
        ),
        "card": Document(run / "card.json", _plain(context), write_card, as_json),
        "account": Document(run / "pretrain_report.json", account, write_card, as_json),
        "arguments": Document(run / "training_args.json", arguments, write_card, as_json),
        "log": Document(
            run / "training_log.jsonl",
            [
                {"step": 1, "kind": "training", "loss": 1.0},
                {"step": 2, "kind": "evaluation", "eval_loss": None},
            ],
            lambda: read_training_log(run),
            as_lines,
        ),
        "front matter": Document(
            model / "README.md",
            {"model-index": _model_index(), "license": "mit", "tags": ["a"]},
            lambda: (results_in_card(model), update_model_index(model, results)),
            as_card,
        ),
        "state": Document(
            checkpoint / "trainer_state.json", {"global_step": 2}, lambda: incompleteness(checkpoint), as_json
        ),
        "index": Document(
            checkpoint / "model.safetensors.index.json",
            {"weight_map": {"a": "model-1.safetensors"}},
            lambda: incompleteness(checkpoint),
            as_json,
        ),
        "build report": Document(
            built / "build_report.json", saved(built / "build_report.json"), read_report, as_json
        ),
        "dataset info": Document(
            built / "dataset_info.json",
            saved(built / "dataset_info.json"),
            lambda: load_built(built)[0]["ecg"],
            as_json,
        ),
        "dataset state": Document(
            built / "state.json", saved(built / "state.json"), lambda: load_built(built)[0]["ecg"], as_json
        ),
        "part": Document(
            folder / "part/part.json",
            saved(folder / "part/part.json"),
            lambda: load_part(folder / "part"),
            as_json,
        ),
        "embeddings": Document(
            folder / "e.safetensors", tensors, lambda: read_embeddings(folder / "e.safetensors"), as_tensors
        ),
        "scores": Document(
            folder / "s.safetensors", scores, lambda: read_scores(folder / "s.safetensors"), as_tensors
        ),
        "tokens": Document(
            folder / "t.safetensors",
            tokens,
            lambda: read_tokens(folder / "t.safetensors"),
            partial(as_tensors, size=52),
        ),
    }
    for name in ("config.json", "preprocessor_config.json"):
        found[name] = Document(model / name, saved(model / name), lambda: open_model_folder(model), as_json)
    for name in list_recipes():
        content = yaml.safe_load((ROOT / "src/ecg_hf/training/recipes" / f"{name}.yaml").read_text())
        found[f"recipe {name}"] = Document(folder / "r.yaml", content, use_recipe, as_yaml)
    return found


def _plain(context: Any) -> Any:
    from dataclasses import asdict

    return asdict(context)


def _model_index() -> list[Any]:
    metric = {"type": "roc_auc", "value": 0.5, "name": "macro AUROC", "args": {"ci95": [0.4, 0.6]}}
    dataset = {"name": "d", "type": "d", "config": "d", "split": "test"}
    return [{"name": "m", "results": [{"task": {"type": "t"}, "dataset": dataset, "metrics": [metric]}]}]


def _results() -> dict[str, Any]:
    """Results with every kind of row."""
    one = {
        "name": "A",
        "auroc": 0.8,
        "ci95": [0.7, 0.9],
        "auprc": 0.7,
        "n": 90,
        "positives": 40,
        "excluded": "",
    }
    row = {
        "encoder": "pretrained", "fraction": 0.1, "macro_auroc": 0.8, "ci95": [0.7, 0.9], "n_train": 12, "n_test": 90,
        "positives": {"A": 40}, "undefined": [], "classes": [one], "benchmark": "b", "head": "linear", "seed": 0,
    }  # fmt: skip
    pair = {
        "first": "pretrained", "second": "random", "fraction": 0.1, "difference": 0.1, "ci95": [0.0, 0.2],
        "p_value": 0.01, "benchmark": "b", "second_head": "linear", "p_delong": 0.02,
    }  # fmt: skip
    summary = {
        "encoder": "pretrained", "benchmark": "b", "protocol": "p", "head": "linear", "fraction": 0.1, "seeds": [0],
        "macro_auroc": 0.8, "sd": None, "ci95": [0.7, 0.9], "n_train": 12, "n_test": 90, "n_classes": 1,
        "solver": "lbfgs",
    }  # fmt: skip
    point = {
        "axis": "leads", "condition": "12 leads", "macro_auroc": 0.8, "ci95": [0.7, 0.9], "loss": 0.0,
        "loss_ci95": [0.0, 0.0], "sampling_rate": None, "p_value": 1.0,
    }  # fmt: skip
    return {
        "dataset": "d", "probe": [row], "timings": {"a": 1.0}, "paired": [pair], "summary": [summary], "model": "m",
        "published": [{
            "model": "MERL", "benchmark": "b", "head": "linear", "fraction": 0.1, "macro_auroc": 0.8,
            "ci95": [None, None], "source": "s",
        }],
        "splits": {"b": {"train": 12, "validation": 3, "test": 90, "dropped": {"x": 1}, "missing": {"test": 1}}},
        "reports": [{"benchmark": "b", "kind": "retrieval", "markdown": "| a |\\n|---|"}],
        "curves": [{"benchmark": "b", "encoder": "pretrained", "axis": "leads", "points": [point]}],
        "notes": ["n"], "settings": {"protocol": "p", "heads": ["linear"]},
    }  # fmt: skip


def try_document(document: Document, root: Path, source: random.Random) -> str:
    """Change a document and read it; returns how that ended. The document is put back."""
    before = document.path.read_bytes() if document.path.is_file() else None
    text = document.write(changed(document.content, source))
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    if source.random() < 0.25:
        data = mutate(data, source, words=True)
    document.path.write_bytes(data)
    try:
        return guarded(document.read, root, max(len(data), 1 << 20))
    finally:
        if before is None:
            document.path.unlink()
        else:
            document.path.write_bytes(before)


def run(folder: Path, *, seconds: float, seed: int, only: tuple[str, ...] = ()) -> tuple[Outcomes, int]:
    """Try documents for a while, those named in ``only`` or all."""
    kinds = {name: one for name, one in documents(folder).items() if not only or name in only}
    for document in kinds.values():
        # Once unwatched: what readers import on their first call, and good documents are read.
        text = document.write(document.content)
        before = document.path.read_bytes() if document.path.is_file() else None
        document.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        document.read()
        if before is None:
            document.path.unlink()
    attempts = {name: partial(try_document, one, folder) for name, one in kinds.items()}
    return fuzz(attempts, seconds=seconds, seed=seed)


if __name__ == "__main__":
    main_of(run, __doc__)

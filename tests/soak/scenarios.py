"""What is killed: a command, where its result is, and how one tells a whole result from none.

Another command joins by one entry in :data:`SCENARIOS`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ecg_hf.storage.objects import is_account
from tests.storage.faults import BUCKET

RECORDS = 160
RECORDS_PER_SHARD = 20
PART_RECORDS = 32

EXPORT = f"s3://{BUCKET}/export"

# A result: digests (or values) by name. None: nothing there that could be taken for a result.
Result = dict[str, Any] | None


@dataclass(frozen=True)
class Workshop:
    """What the commands work on: made once, read by all."""

    folder: Path

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "official.safetensors"


@dataclass(frozen=True)
class Scenario:
    """A command to be killed.

    Attributes:
        name: Of the command.
        arguments: Of ``ecg-hf``, given the workshop and the folder of a trial; the same again to resume.
        result: Looks at a trial's folder as a user of the result would; raises if what passes for one is broken.
        more_to_resume: Further arguments from the second start on.
        finished_already: Last line of a refusal that means the killed run had finished after all.
        setup: Called in the process before the command.
        in_store: Whether it works in the object store of :func:`tests.storage.faults.s3_server`, not on disks.
    """

    name: str
    arguments: Callable[[Workshop, Path], list[object]]
    result: Callable[[Path], Result]
    more_to_resume: tuple[str, ...] = ()
    finished_already: str | None = None
    setup: Callable[[], None] | None = None
    in_store: bool = False


def _small_shards() -> None:
    import ecg_hf.data

    ecg_hf.data.build_dataset = partial(ecg_hf.data.build_dataset, records_per_shard=RECORDS_PER_SHARD)


def _small_parts() -> None:
    import ecg_hf.evaluation.features.pooled

    ecg_hf.evaluation.features.pooled.PART_RECORDS = PART_RECORDS


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _built(trial: Path) -> Result:
    from ecg_hf.data import load_built
    from ecg_hf.errors import DatasetBuildError

    folder = trial / "built"
    try:
        dataset = load_built(folder)
    except DatasetBuildError:
        return None
    report = json.loads((folder / "build_report.json").read_text())
    kept = {name: report[name] for name in ("kept", "dropped", "labels", "splits", "fingerprint")}
    files = {path.name: digest(path) for path in sorted(folder.glob("*.arrow"))}
    return {"rows": len(dataset), **kept, **files, "state": digest(folder / "state.json")}


def _model_folder(folder: Path) -> Result:
    """Digests of a folder that loads as a model with its feature extractor."""
    from ecg_hf.cli.loading import load_model
    from ecg_hf.errors import ModelFolderError

    try:
        load_model(str(folder), device="cpu")
    except ModelFolderError:
        return None
    names = ("config.json", "model.safetensors", "preprocessor_config.json")
    return {name: digest(folder / name) for name in names}


def _pretrained(trial: Path) -> Result:
    folder = trial / "run"
    found = _model_folder(folder) if folder.is_dir() else None
    if found is None or not (folder / "pretrain_report.json").is_file():
        # Weights may be whole while the account is still to be written, but then they are the final ones.
        return None if found is None else {"model.safetensors": found["model.safetensors"]}
    report = json.loads((folder / "pretrain_report.json").read_text())
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    losses = [[row["step"], row["loss"]] for row in rows if "loss" in row]
    return {
        **found,
        "steps": report["steps"],
        "losses": losses,
        "eval_loss": report["evaluation"]["eval_loss"],
    }


def _stored(trial: Path) -> str:
    """Address of a trial's run."""
    return f"s3://{BUCKET}/{trial.name}/run"


def _pretrained_in_store(trial: Path) -> Result:
    """What is whole in the store, as a run on disk; whatever else is there is not taken for anything."""
    from ecg_hf.storage import RemoteFolder, location

    place = location(_stored(trial))
    assert isinstance(place, RemoteFolder)
    objects = place.objects()
    whole = place.finished(objects, [name for name in objects if not is_account(name)])
    shutil.rmtree(trial / "run", ignore_errors=True)
    place.fetch([objects[name] for name in whole], trial / "run")
    return _pretrained(trial)


def _embedded(trial: Path) -> Result:
    from ecg_hf.evaluation import read_embeddings

    file = trial / "embeddings.safetensors"
    return {"file": digest(file), "rows": len(read_embeddings(file))} if file.exists() else None


def _evaluated(trial: Path) -> Result:
    file = trial / "evaluation" / "results.json"
    if not file.exists():
        return None
    from ecg_hf.evaluation.results import read_results

    results = read_results(file)
    return {"probe": results["probe"], "paired": results.get("paired"), "summary": results.get("summary")}


def _converted(trial: Path) -> Result:
    folder = trial / "converted"
    if not folder.exists():
        return None
    found = _model_folder(folder)
    if found is None:
        raise AssertionError("a converted folder is there, but does not load")
    return {**found, "README.md": digest(folder / "README.md")}


def _repository(trial: Path) -> str:
    """A repository for each trial; the parent's Hub keeps them all."""
    return f"org/trial-{trial.name}"


def _pushed(trial: Path) -> Result:
    """Digests of what the Hub serves once there is more than an empty repository."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError

    repo_id = _repository(trial)
    try:
        names = sorted(set(HfApi().list_repo_files(repo_id)) - {".gitattributes"})
    except RepositoryNotFoundError:
        return None
    if not names:
        return None
    files = {name: Path(hf_hub_download(repo_id, name, cache_dir=trial / "cache")) for name in names}
    # The card names its repository, which differs from trial to trial.
    return {"names": names, **{name: digest(file) for name, file in files.items() if name != "README.md"}}


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "build",
            lambda shop, trial: [
                *("data", "build", "synthetic", "--output", trial / "built", "-o", f"records={RECORDS}"),
                *("--num-proc", 1 + int(trial.name) % 2),
            ],
            _built,
            setup=_small_shards,
        ),
        Scenario(
            "pretrain",
            lambda shop, trial: [
                *("pretrain", "--model", "cg-dmer", "--size", "micro", "--dataset", shop.dataset),
                *("--output", trial / "run", "--max-steps", 12, "--save-steps", 3, "--logging-steps", 1),
                *("--per-device-train-batch-size", 8, "--use-cpu", "--eval-strategy", "no"),
                *("--save-total-limit", 2),
            ],
            _pretrained,
            more_to_resume=("--resume",),
        ),
        Scenario(
            "stream",
            lambda shop, trial: [
                *("pretrain", "--model", "cg-dmer", "--size", "micro", "--streaming", "--dataset", EXPORT),
                *("--output", _stored(trial), "--max-steps", 12, "--save-steps", 3, "--logging-steps", 1),
                *("--per-device-train-batch-size", 8, "--use-cpu", "--eval-strategy", "no"),
                *("--save-total-limit", 2, "--shuffle-buffer", 20),
            ],
            _pretrained_in_store,
            more_to_resume=("--resume",),
            in_store=True,
        ),
        Scenario(
            "embed",
            lambda shop, trial: [
                *("embed", "--model", shop.model, "--dataset", shop.dataset, "--device", "cpu"),
                *("--output", trial / "embeddings.safetensors", "--batch-size", 8),
            ],
            _embedded,
            setup=_small_parts,
        ),
        Scenario(
            "evaluate",
            lambda shop, trial: [
                *("evaluate", "--model", shop.model, "--dataset", shop.dataset, "--device", "cpu"),
                *("--benchmark", "synthetic-findings", "--output", trial / "evaluation", "--no-figures"),
                *("--fraction", "0.5,1.0", "--seeds", 2, "--controls", "random,handmade", "--resamples", 20),
            ],
            _evaluated,
            setup=_small_parts,
        ),
        Scenario(
            "convert",
            lambda shop, trial: [
                *("convert", "ecg-jepa", shop.checkpoint, trial / "converted"),
                *("--num-attention-heads", 4, "--predictor-num-attention-heads", 2),
            ],
            _converted,
            finished_already="exists already",
        ),
        Scenario("push", lambda shop, trial: ["push", shop.model, _repository(trial)], _pushed),
    )
}

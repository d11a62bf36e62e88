"""Pushing a model folder to the Hub: all files of the model, in one commit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from ecg_hf.auto_map import SHIM_FILE, lead_to_package
from ecg_hf.documents import read_text
from ecg_hf.errors import HubError, ModelFolderError
from ecg_hf.hub.card import write_model_card
from ecg_hf.hub.card_context import PLACEHOLDER, card_context_of, weights_licence_of
from ecg_hf.hub.eval_results import EVAL_RESULTS_FILE, write_eval_results
from ecg_hf.hub.hub_errors import check_repo_id, hub_errors
from ecg_hf.hub.licences import check_sharing
from ecg_hf.hub.model_folder import CARD_FILE, ModelFolder, open_model_folder
from ecg_hf.hub.model_index import results_in_card
from ecg_hf.models.shared_files import belongs_to_model

__all__ = ["PushReport", "commit_to_hub", "prepare_repo", "push_model"]


@dataclass(frozen=True, slots=True)
class PushReport:
    """What was, or would be, pushed.

    Attributes:
        repo_id: The repository.
        kind: ``model`` or ``dataset``.
        files: Size in bytes of every file, by its name in the repository.
        url: Where it can be seen; empty for a dry run.
        commit: The commit; empty for a dry run.
        revision: Branch it is on.
        tag: Tag given to the commit.
        private: Whether the repository is private.
        notes: What a user should know.
    """

    repo_id: str
    kind: str
    files: dict[str, int]
    url: str = ""
    commit: str = ""
    revision: str = "main"
    tag: str | None = None
    private: bool | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    def summary(self) -> str:
        """A few lines for a reader."""
        size = sum(self.files.values()) / 1e6
        what = f"{len(self.files)} files, {size:,.1f} MB"
        if not self.commit:
            listed = "\n".join(f"  {name}  {size:,} bytes" for name, size in self.files.items())
            return f"would push {what} to {self.repo_id}:\n{listed}"
        tag = f", tagged {self.tag}" if self.tag else ""
        return "\n".join(
            [f"{self.url}  {what}, commit {self.commit[:8]} on {self.revision}{tag}", *self.notes]
        )


def push_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    non_commercial: bool = False,
    dry_run: bool = False,
) -> PushReport:
    """Share a model folder: configuration, safetensors, preprocessing, tokenizer, card, in one commit.

    The folder is loaded first, so that nothing is pushed that others could not load. Its card is pushed unchanged
    except for the repository's name in the examples; a missing card is written from the folder. Weights that the Hub
    already has are not sent again, so repeating an interrupted push is cheap. Files of an earlier model that this one
    does not have, such as its preprocessing or further shards, leave the branch in the same commit; others stay.

    Args:
        folder: The model folder; left as it is.
        repo_id: ``owner/name``.
        private: Make a private repository; None leaves that to the owner's default.
        revision: Branch to push to, created if need be; ``main`` if not given.
        tag: Name for the commit, such as ``v1.0``.
        non_commercial: Share converted weights although their licence allows that for non-commercial ends only.
        dry_run: Only report what would be pushed.

    Raises:
        ModelFolderError: The folder is not a model of this package, or would not load; or its weights are others'
            and their licence forbids to pass them on.
        HubError: The Hub can't be reached or refuses; the tag exists; the repository is public although a private
            one was asked for.
    """
    check_repo_id(repo_id)
    opened = open_model_folder(folder)
    check_sharing(weights_licence_of(opened.path), opened.path, non_commercial=non_commercial)
    with tempfile.TemporaryDirectory() as scratch:
        operations = _operations(opened, repo_id, Path(scratch))
        files = {operation.path_in_repo: operation.upload_info.size for operation in operations}
        if dry_run:
            return PushReport(repo_id, "model", files, revision=revision or "main", tag=tag, private=private)
        return commit_to_hub(
            repo_id,
            "model",
            operations,
            message=f"{type(opened.model).__name__}: model, preprocessing and card",
            private=private,
            revision=revision,
            tag=tag,
        )


def prepare_repo(
    api: HfApi, repo_id: str, kind: str, *, private: bool | None, revision: str | None, tag: str | None
) -> tuple[str, bool]:
    """Create the repository and the branch if needed, and refuse what would fail before anything is sent.

    Returns:
        The repository's full name, and whether it is private.

    Raises:
        HubError: if the tag is taken, or the repository is public although a private one was asked for.
    """
    repo_id = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True).repo_id
    there = bool(api.repo_info(repo_id, repo_type=kind).private)
    if private and not there:
        raise HubError(
            "the repository exists already and is public: nothing was pushed; choose another or make it private",
            path=repo_id,
        )
    if tag is not None and tag in {ref.name for ref in api.list_repo_refs(repo_id, repo_type=kind).tags}:
        raise HubError(f"the tag {tag} is taken: nothing was pushed", path=repo_id, value=tag)
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)
    return repo_id, there


def commit_to_hub(
    repo_id: str,
    kind: str,
    operations: Sequence[CommitOperationAdd],
    *,
    message: str,
    private: bool | None,
    revision: str | None,
    tag: str | None,
) -> PushReport:
    """Put a model into a repository in one commit, without what an earlier one left there, and tag it.

    Raises:
        HubError: see :func:`push_model`.
    """
    api = HfApi()
    files = {operation.path_in_repo: operation.upload_info.size for operation in operations}
    with hub_errors(repo_id):
        repo_id, is_private = prepare_repo(api, repo_id, kind, private=private, revision=revision, tag=tag)
        there = api.list_repo_files(repo_id, repo_type=kind, revision=revision)
        stale = [name for name in there if name not in files and _of_a_model(name)]
        commit = api.create_commit(
            repo_id,
            [*operations, *(CommitOperationDelete(name) for name in stale)],
            repo_type=kind,
            commit_message=message,
            revision=revision,
        )
        if tag is not None:
            api.create_tag(repo_id, tag=tag, revision=commit.oid, repo_type=kind)
    place = "datasets/" if kind == "dataset" else ""
    return PushReport(
        repo_id=repo_id,
        kind=kind,
        files=files,
        url=f"{api.endpoint}/{place}{repo_id}",
        commit=commit.oid,
        revision=revision or "main",
        tag=tag,
        private=is_private,
        notes=(f"of an earlier model, removed: {', '.join(stale)}",) if stale else (),
    )


def _of_a_model(name: str) -> bool:
    return belongs_to_model(name) or name == EVAL_RESULTS_FILE


def _operations(opened: ModelFolder, repo_id: str, scratch: Path) -> list[CommitOperationAdd]:
    """Every file to push: big ones from where they are, the others prepared in ``scratch``."""
    ready: dict[str, Path] = {file.name: file for file in opened.files}
    processor = {"AutoProcessor": "EcgProcessor"}
    classes: dict[str, dict[str, str]] = {
        "config.json": opened.model.config.auto_classes(),
        "preprocessor_config.json": opened.feature_extractor.auto_classes(),
        "processor_config.json": processor,
    }
    for name, auto in classes.items():
        # The folder may be older than the module that imports this package.
        if name in ready and auto:
            ready[name] = scratch / name
            ready[name].write_bytes((opened.path / name).read_bytes())
            lead_to_package(ready[name], auto)
            ready[SHIM_FILE] = scratch / SHIM_FILE
    ready[CARD_FILE] = _card(opened, repo_id, scratch)
    if (results := write_eval_results(scratch, results_in_card(scratch))) is not None:
        ready[EVAL_RESULTS_FILE] = results
    return [CommitOperationAdd(name, path) for name, path in sorted(ready.items())]


def _card(opened: ModelFolder, repo_id: str, scratch: Path) -> Path:
    """The folder's card, or a new one, with the name of the repository."""
    card = opened.path / CARD_FILE
    if not card.is_file():
        context = card_context_of(opened.path, model_name=repo_id.rpartition("/")[2])
        card = write_model_card(scratch, opened.model, opened.feature_extractor, context)
    text = read_text(card, error=ModelFolderError).replace(PLACEHOLDER, repo_id)
    target = scratch / CARD_FILE
    target.write_text(text, encoding="utf-8")
    return target

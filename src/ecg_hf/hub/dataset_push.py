"""Pushing a built dataset to the Hub: Parquet of plain types, which anyone can load, and a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, DatasetInfo, Features
from huggingface_hub import HfApi

from ecg_hf.data import load_built, storage_features
from ecg_hf.data.feature import Ecg
from ecg_hf.data.report import BuildReport
from ecg_hf.data.schema import SPLITS
from ecg_hf.data.sources import SOURCES
from ecg_hf.errors import ConfigurationError
from ecg_hf.hub.dataset_card import dataset_card
from ecg_hf.hub.hub_errors import check_repo_id, hub_errors
from ecg_hf.hub.licences import OTHER, licence_identifier
from ecg_hf.hub.model_folder import CARD_FILE
from ecg_hf.hub.push import PushReport, prepare_repo

__all__ = ["plain_dataset", "push_dataset"]

_NEEDED = ("ecg", "split")


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    licence: str | None = None,
    drop_columns: Sequence[str] = (),
    dry_run: bool = False,
) -> PushReport:
    """Share a built dataset; ``load_dataset("owner/name")`` gives plain columns, ``load_hub_dataset`` an ``Ecg``.

    Each split becomes its own Parquet files. Samples stay the recorder's integers; nothing is resampled. The card
    goes first, the files follow in one commit; files the Hub has already are not sent again when a push is repeated.

    Args:
        folder: A folder of :func:`ecg_hf.data.build_dataset`; left as it is.
        repo_id: ``owner/name``.
        private: Make a private repository; None leaves that to the owner's default.
        revision: Branch to push to, created if need be; ``main`` if not given.
        tag: Name for the commit, such as ``v1.0``.
        licence: Licence of the recordings; the source's if not given.
        drop_columns: Columns to leave out, such as ``report``.
        dry_run: Only report what would be pushed; sizes are those in memory.

    Raises:
        DatasetBuildError: The folder is not a finished build.
        ConfigurationError: A column can't be left out, or the licence of real recordings is not known.
        HubError: see :func:`ecg_hf.hub.push.push_model`.
    """
    check_repo_id(repo_id)
    dataset, report = load_built(folder), BuildReport.load(folder)
    licence = _licence(report, licence)
    _check_columns(dataset, drop_columns)
    parts = plain_dataset(dataset.remove_columns(list(drop_columns)))
    card = dataset_card(
        report,
        repo_id=repo_id,
        splits={name: len(part) for name, part in parts.items()},
        columns=[name for name in dataset.column_names if name not in drop_columns],
        licence=licence,
    )
    if dry_run:
        sizes = {f"data/{name}": _size(part) for name, part in parts.items()}
        return PushReport(
            repo_id,
            "dataset",
            {CARD_FILE: len(card.encode()), **sizes},
            revision=revision or "main",
            tag=tag,
            private=private,
        )
    api = HfApi()
    with hub_errors(repo_id):
        repo_id, is_private = prepare_repo(
            api, repo_id, "dataset", private=private, revision=revision, tag=tag
        )
        api.upload_file(
            path_or_fileobj=card.encode(),
            path_in_repo=CARD_FILE,
            repo_id=repo_id,
            repo_type="dataset",
            revision=revision,
            commit_message=f"Card of {report.source}",
        )
        commit = parts.push_to_hub(
            repo_id,
            revision=revision,
            embed_external_files=False,
            commit_message=f"{report.source}: {sum(map(len, parts.values())):,} recordings",
        )
        if tag is not None:
            api.create_tag(repo_id, tag=tag, revision=commit.oid, repo_type="dataset")
        files = {
            entry.path: entry.size
            for entry in api.list_repo_tree(repo_id, recursive=True, revision=commit.oid, repo_type="dataset")
            if hasattr(entry, "size")
        }
    return PushReport(
        repo_id=repo_id,
        kind="dataset",
        files=dict(sorted(files.items())),
        url=f"{api.endpoint}/datasets/{repo_id}",
        commit=commit.oid,
        revision=revision or "main",
        tag=tag,
        private=is_private,
    )


def plain_dataset(dataset: Dataset) -> DatasetDict:
    """The splits of a built dataset with their ECGs as plain structs. No sample is copied or changed."""
    plain = Features(
        {
            name: storage_features() if isinstance(feature, Ecg) else feature
            for name, feature in dataset.features.items()
        }
    )
    # Only the schema changes and the storage stays; the library's cast would write all of it again.
    table = dataset.data.cast(plain.arrow_schema)
    whole = Dataset(table, info=DatasetInfo(features=plain))
    split = np.asarray(dataset["split"][:])
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    return DatasetDict({name: whole.select(found) for name, found in rows.items() if len(found)})


def _licence(report: BuildReport, given: str | None) -> str:
    if given is not None:
        return given
    info = SOURCES[report.source].info if report.source in SOURCES else None
    known = None if info is None else info.licence
    if known is None or (licence_identifier(known) == OTHER and info is not None and info.needs_data_dir):
        raise ConfigurationError(
            f"the licence of recordings from {report.source} is not known: state it (--data-licence), or do not push",
            path=report.output,
            value=report.source,
        )
    return known


def _check_columns(dataset: Dataset, drop_columns: Sequence[str]) -> None:
    for name in drop_columns:
        if name not in dataset.column_names or name in _NEEDED:
            possible = ", ".join(column for column in dataset.column_names if column not in _NEEDED)
            raise ConfigurationError(f"column {name!r} can't be left out; these can: {possible}", value=name)


def _size(part: Dataset) -> int:
    """Bytes of the rows selected, in memory."""
    return int(part.data.nbytes * len(part) / max(part.data.num_rows, 1))

"""Folders of Parquet parts: each part is made by itself, known by its content, and kept by the same call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.engine.part_folders import ACCOUNT_KEY, CONTENT_KEY, part_folder
from ecg_hf.engine.pieces import run_pieces
from ecg_hf.engine.workers import Engine
from ecg_hf.errors import ConfigurationError

__all__ = ["RECORDS_PER_PART", "Part", "divide", "make_parts"]

RECORDS_PER_PART = 1024


@dataclass(frozen=True)
class Part:
    """One file of a folder; a subclass adds what it is made from.

    Attributes:
        number: From 0.
        records: The first record and the one after the last.
        folder: Where the file is, a path or the address of a folder in an object store; workers on other machines
            must see it under the same path.
        key: Identifies what the file's content depends on.
    """

    number: int
    records: tuple[int, int]
    folder: str
    key: str

    @property
    def name(self) -> str:
        """``part-00000.parquet`` and so on."""
        return f"part-{self.number:05d}.parquet"

    def __str__(self) -> str:
        return f"{self.name} (records {self.records[0]} to {self.records[1] - 1})"

    def stored(self) -> dict[str, Any] | None:
        """The account of the file, if it is there and has this content."""
        return part_folder(self.folder).stored({self.name: self.key}).get(self.name)

    def write(
        self, tables: Iterable[Mapping[str, Any]], schema: pa.Schema, account: Mapping[str, Any]
    ) -> None:
        """Write the file and its account, whole or not at all.

        Args:
            tables: Rows by column, some at a time.
            schema: Of all of them.
            account: What is to be said of the rows; looked at when they have all come.
        """

        def fill(file: BinaryIO) -> dict[str, Any]:
            with pq.ParquetWriter(file, schema) as writer:
                for columns in tables:
                    writer.write_table(pa.Table.from_pydict(dict(columns), schema=schema))
                said = {CONTENT_KEY: self.key, ACCOUNT_KEY: json.dumps(account, sort_keys=True)}
                writer.add_key_value_metadata(said)
            return {CONTENT_KEY: self.key, ACCOUNT_KEY: dict(account)}

        part_folder(self.folder).write(self.name, fill)


def divide(records: int, per_part: int) -> list[tuple[int, int]]:
    """Records of each part: the first, and the one after the last.

    Raises:
        ConfigurationError: if a part is to have none.
    """
    if per_part < 1:
        raise ConfigurationError("a part has at least one record", value=per_part)
    return [(start, min(start + per_part, records)) for start in range(0, records, per_part)]


def make_parts(
    work: Callable[[Any], dict[str, Any]],
    parts: Sequence[Part],
    folder: str | Path,
    *,
    engine: Engine | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> tuple[list[dict[str, Any]], int]:
    """Make the parts that are not there yet.

    Args:
        work: Makes a part by :meth:`Part.write` and returns its account; a function of a module.
        parts: All parts of the folder, in order.
        folder: Where they are: a path, made if it is missing, or the address of a folder in an object store.
        engine: Where to work; this process by default.
        overwrite: Remove parts of something else instead of refusing.
        progress: Show a bar.

    Returns:
        Accounts in the order of the parts, and how many parts were there before.

    Raises:
        ConfigurationError: if the folder holds parts of something else, or another process writes them.
        FailedPieces: if parts ended their process each time.
    """
    place = part_folder(folder)
    with place.held():
        there = place.names()
        keys = {part.name: part.key for part in parts if part.name in there}
        stored = place.stored(keys)
        done = {part.number: stored[part.name] for part in parts if part.name in stored}
        reused = len(done)
        others = sorted(there - stored.keys() - place.unfinished(keys))
        if others and not overwrite:
            raise ConfigurationError(
                "made from another model, other records or another division; --overwrite replaces it",
                path=f"{folder}/{others[0]}",
            )
        place.remove(others)
        todo = [part for part in parts if part.number not in done]
        with tqdm(total=len(parts), initial=reused, unit="part", disable=not progress) as bar:
            for part, account in run_pieces(work, todo, engine):
                done[part.number] = account
                bar.update()
    return [done[part.number] for part in parts], reused

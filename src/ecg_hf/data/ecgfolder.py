"""``load_dataset("ecgfolder", data_dir=...)``: a folder of one's own recordings, as ``imagefolder`` has pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key
from datasets.fingerprint import Hasher

from ecg_hf.data.folders import folder_source, read_folder
from ecg_hf.data.schema import SPLITS, canonical_features
from ecg_hf.data.sources.folder import EcgFolder
from ecg_hf.errors import ConfigurationError

__all__ = ["EcgFolderBuilder", "EcgFolderConfig"]


@dataclass
class EcgFolderConfig(datasets.BuilderConfig):
    """Options of ``load_dataset("ecgfolder", ...)`` beside ``data_dir``.

    Args:
        labels: Table in the folder, see :class:`~ecg_hf.data.sources.folder.EcgFolder`.
    """

    labels: str = "labels.csv"

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Where the result is kept: elsewhere as soon as any file of the folder is another.

        ``datasets`` itself looks at the files whose names speak of a split, if there are such.
        """
        if self.data_dir is not None:
            folder = Path(self.data_dir)
            states = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
            files = [
                (str(path.relative_to(folder)), state.st_size, state.st_mtime_ns) for path, state in states
            ]
            config_kwargs = {**config_kwargs, "files": Hasher.hash(files)}
        config_id: str = super().create_config_id(config_kwargs, custom_features=custom_features)
        return config_id


class EcgFolderBuilder(datasets.ArrowBasedBuilder):
    """Every recording below ``data_dir``, split as its table of labels says, else by a hash of the patient.

    The columns are those of :func:`~ecg_hf.data.folders.load_ecg_folder`, which does the same without the cache.
    ``datasets`` keeps the result on disk until a file of the folder changes.
    """

    BUILDER_CONFIG_CLASS = EcgFolderConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=canonical_features())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if self.config.data_dir is None:
            raise ConfigurationError('load_dataset("ecgfolder") needs data_dir, the folder of the recordings')
        source, plan = folder_source(Path(self.config.data_dir), self.config.labels)
        by_split = {split: [entry for entry in plan.entries if entry.split == split] for split in SPLITS}
        # A list, so that num_proc can share it out.
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"source": source, "entries": entries})
            for split, entries in by_split.items()
            if entries
        ]

    def _generate_shards(self, source: EcgFolder, entries: list[Any]) -> Iterator[str]:
        for entry in entries:
            yield str(source.data_dir / entry.path)

    def _generate_tables(self, source: EcgFolder, entries: list[Any]) -> Iterator[tuple[Key, pa.Table]]:
        for index, batch in enumerate(read_folder(source, entries)):
            yield Key(0, index), pa.Table.from_batches([batch])

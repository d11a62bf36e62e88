"""Sources of recordings: one small class per dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecg_hf.data.sources.base import Dropped, PhysioNetProject, Plan, Source, SourceInfo
from ecg_hf.data.sources.challenge2021 import Challenge2021
from ecg_hf.data.sources.code15 import Code15
from ecg_hf.data.sources.cpsc2018 import Cpsc2018
from ecg_hf.data.sources.csn import Csn
from ecg_hf.data.sources.folder import EcgFolder
from ecg_hf.data.sources.ludb import Ludb, read_ludb_delineations
from ecg_hf.data.sources.mimic_iv_ecg import MimicIvEcg, assemble_report
from ecg_hf.data.sources.ptbxl import PtbXl
from ecg_hf.data.sources.synthetic import Synthetic
from ecg_hf.data.sources.wfdb_folder import WfdbFolder
from ecg_hf.errors import ConfigurationError

__all__ = [
    "SOURCES",
    "Challenge2021",
    "Code15",
    "Cpsc2018",
    "Csn",
    "Dropped",
    "EcgFolder",
    "Ludb",
    "MimicIvEcg",
    "PhysioNetProject",
    "Plan",
    "PtbXl",
    "Source",
    "SourceInfo",
    "Synthetic",
    "WfdbFolder",
    "assemble_report",
    "create_source",
    "get_source",
    "list_sources",
    "read_ludb_delineations",
]

SOURCES: dict[str, type[Source]] = {
    cls.info.name: cls
    for cls in (
        Synthetic,
        PtbXl,
        MimicIvEcg,
        Csn,
        Code15,
        Cpsc2018,
        Challenge2021,
        Ludb,
        WfdbFolder,
        EcgFolder,
    )
}
"""Every source by name."""


def list_sources() -> list[SourceInfo]:
    """Descriptions of all sources."""
    return [source.info for source in SOURCES.values()]


def get_source(name: str) -> type[Source]:
    """The class of a source.

    Raises:
        ConfigurationError: if no source has that name.
    """
    if name not in SOURCES:
        raise ConfigurationError(f"no source is named {name!r} (known: {', '.join(SOURCES)})", value=name)
    return SOURCES[name]


def create_source(name: str, data_dir: Path | None, options: dict[str, Any]) -> Source:
    """A source, ready to plan and read."""
    return get_source(name).create(data_dir, options)

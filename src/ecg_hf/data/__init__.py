"""Datasets of ECGs: the ``Ecg`` column type, sources, building, labels, splits and batched reading."""

from __future__ import annotations

from ecg_hf.data import interchange
from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import BatchDecoder, DecodedBatch, decode_batch
from ecg_hf.data.downloading import DownloadReport, download_source
from ecg_hf.data.feature import Ecg, storage_features
from ecg_hf.data.folders import load_ecg_folder
from ecg_hf.data.from_hub import load_hub_dataset
from ecg_hf.data.labels import LABEL_TASKS, label_matrix, label_names, scp_statements, unknown_codes
from ecg_hf.data.merging import merge_parts
from ecg_hf.data.mixing import MixedDataset, load_mixed
from ecg_hf.data.parquet import ParquetExport, ParquetSplit, export_parquet, open_parquet
from ecg_hf.data.report import BuildReport
from ecg_hf.data.schema import canonical_features
from ecg_hf.data.sources import SourceInfo, get_source, list_sources
from ecg_hf.data.splits import PatientLeak, assign_splits, check_patient_leak, parse_folds

__all__ = [
    "LABEL_TASKS",
    "BatchDecoder",
    "BuildReport",
    "DecodedBatch",
    "DownloadReport",
    "Ecg",
    "MixedDataset",
    "ParquetExport",
    "ParquetSplit",
    "PatientLeak",
    "SourceInfo",
    "assign_splits",
    "build_dataset",
    "canonical_features",
    "check_patient_leak",
    "decode_batch",
    "download_source",
    "export_parquet",
    "get_source",
    "label_matrix",
    "label_names",
    "list_sources",
    "load_built",
    "load_ecg_folder",
    "load_hub_dataset",
    "load_mixed",
    "merge_parts",
    "open_parquet",
    "parse_folds",
    "scp_statements",
    "storage_features",
    "unknown_codes",
]

interchange.install()

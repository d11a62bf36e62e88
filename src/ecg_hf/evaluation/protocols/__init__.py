"""Published ways of evaluating, by name, and the data they need."""

from ecg_hf.evaluation.protocols.definitions import (
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    Protocol,
    get_protocol,
)
from ecg_hf.evaluation.protocols.merl_files import (
    MERL_COMMIT,
    MERL_TABLES,
    download_merl_tables,
    merl_prompts_file,
)
from ecg_hf.evaluation.protocols.merl_tables import (
    MerlTable,
    exact_csn_labels,
    read_merl_table,
    stack_merl_tables,
)
from ecg_hf.evaluation.protocols.preparing import fraction_subsets, prepare_benchmark
from ecg_hf.evaluation.protocols.signals import extractor_overrides, keep_first, protocol_signals

__all__ = [
    "DEFAULT_PROTOCOL",
    "MERL_COMMIT",
    "MERL_TABLES",
    "PROTOCOLS",
    "MerlTable",
    "Protocol",
    "download_merl_tables",
    "exact_csn_labels",
    "extractor_overrides",
    "fraction_subsets",
    "get_protocol",
    "keep_first",
    "merl_prompts_file",
    "prepare_benchmark",
    "protocol_signals",
    "read_merl_table",
    "stack_merl_tables",
]

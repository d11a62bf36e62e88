"""Bulk work in restartable pieces: on this machine's processes, or on a Dask cluster."""

from ecg_hf.engine.part_folders import absolute
from ecg_hf.engine.parts import RECORDS_PER_PART, Part, divide, make_parts
from ecg_hf.engine.pieces import FailedPieces, run_pieces
from ecg_hf.engine.workers import Engine

__all__ = [
    "RECORDS_PER_PART",
    "Engine",
    "FailedPieces",
    "Part",
    "absolute",
    "divide",
    "make_parts",
    "run_pieces",
]

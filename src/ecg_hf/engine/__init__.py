"""Bulk work in restartable pieces: on this machine's processes, or on a Dask cluster."""

from ecg_hf.engine.pieces import FailedPieces, run_pieces
from ecg_hf.engine.workers import Engine

__all__ = ["Engine", "FailedPieces", "run_pieces"]

"""How fast this machine builds, embeds and evaluates: a few hundred synthetic records, taken the usual way."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wfdb
from transformers import AutoModel

from ecg_hf.data import build_dataset, load_built
from ecg_hf.data.sources import create_source
from ecg_hf.evaluation import embed_dataset
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.planning.memory import StoredRecords
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate
from ecg_hf.training.machine import peak_memory_bytes

__all__ = ["MeasuredStages", "measure_stages"]

_FEW, _MANY = 64, 320
_FIT_FEW, _FIT_MANY, _CLASSES = 1000, 5000, 5
_EMBED_S = 15.0
_BATCH = 64


@dataclass(frozen=True, slots=True)
class MeasuredStages:
    """Seconds are of one process of one thread: processor time, on a GPU wall time.

    Attributes:
        records: Records built.
        listing_s: Per record: finding the recordings, which the command does by itself.
        build_s: Per record: everything else of a build.
        raw_bytes: Per record, on disk before building: WFDB format 16.
        base_bytes: Memory of a process that has read nothing yet.
        embed_s: Per record.
        embed_batch: Records of a batch that were embedded together.
        embed_bytes: Most memory of the process that embedded them.
        embed_device: Where.
        dim: Numbers of an embedding.
        fit_s: Per record of a linear probe of five classes.
    """

    records: int
    listing_s: float
    build_s: float
    raw_bytes: float
    base_bytes: int
    embed_s: float
    embed_batch: int
    embed_bytes: int
    embed_device: str
    dim: int
    fit_s: float


def measure_stages(run: PlannedRun, stored: StoredRecords, *, device: str = "cpu") -> MeasuredStages:
    """Build, embed and fit synthetic records, each in a process of its own so that its memory can be told.

    Args:
        run: The run whose model embeds them, with random weights.
        stored: Rate, length and leads of the recordings.
        device: Where the model embeds.
    """
    with tempfile.TemporaryDirectory(prefix="ecg_hf_plan_") as folder:
        extractor = run.method.feature_extractor_for(run.config, **run.extractor_options)
        built = _alone(_build, Path(folder), stored, bool(getattr(extractor, "wants_r_peaks", False)))
        embedded = _alone(_embed, Path(folder) / "many", run.config, extractor, device)
    return MeasuredStages(records=_MANY, embed_device=device, **built, **embedded)


def _alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    # Spawned: a forked process would begin with this one's memory, and could not use its GPU.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _build(folder: Path, stored: StoredRecords, detect_r_peaks: bool) -> dict[str, Any]:
    """Build two folders of recordings; their difference is free of what every build begins and ends with."""
    torch.set_num_threads(1)
    names = list(STANDARD_LEADS[: stored.leads])
    signals = simulate(
        _FEW, seed=0, sampling_rate=stored.sampling_rate, duration_s=stored.seconds
    ).signal.astype(np.float64)
    for count, place in ((_FEW, folder / "raw_few"), (_MANY, folder / "raw_many")):
        place.mkdir()
        for number in range(count):
            wfdb.wrsamp(
                f"r{number:04d}",
                fs=stored.sampling_rate,
                units=["mV"] * len(names),
                sig_name=names,
                p_signal=signals[number % _FEW, : len(names)].T,
                fmt=["16"] * len(names),
                adc_gain=[1000.0] * len(names),
                baseline=[0] * len(names),
                write_dir=str(place),
            )
    raw_bytes = sum(path.stat().st_size for path in (folder / "raw_many").iterdir()) / _MANY
    base_bytes = peak_memory_bytes(torch.device("cpu"))
    spent, listed = {}, {}
    for name in ("few", "many", "few"):  # the first one finds nothing in any cache
        started = time.process_time()
        create_source("folder", folder / f"raw_{name}", {}).plan()
        listed[name] = time.process_time() - started
        started = time.process_time()
        build_dataset(
            "folder",
            folder / f"raw_{name}",
            folder / name,
            detect_r_peaks=detect_r_peaks,
            overwrite=(folder / name).exists(),
            progress=False,
        )
        spent[name] = time.process_time() - started
    listing_s = _per_record(listed, _FEW, _MANY)
    return {
        "listing_s": listing_s,
        "build_s": max(_per_record(spent, _FEW, _MANY) - listing_s, 1e-6),
        "raw_bytes": raw_bytes,
        "base_bytes": base_bytes,
    }


def _per_record(spent: dict[str, float], few: int, many: int) -> float:
    return max((spent["many"] - spent["few"]) / (many - few), 0.0)


def _embed(built: Path, config: Any, extractor: Any, device: str) -> dict[str, Any]:
    """Embed as many records as take some seconds, and fit a linear probe on as many rows as it takes to time it."""
    torch.set_num_threads(1)
    rows = load_built(built)
    encoder = AutoModel.from_config(config).to(device).eval()
    now = time.process_time if device == "cpu" else time.perf_counter

    def seconds(count: int) -> tuple[float, Any]:
        started = now()
        found = embed_dataset(
            encoder,
            extractor,
            rows.select(range(count)),
            batch_size=min(_BATCH, count),
            device=device,
            progress=False,
        )
        return now() - started, found

    seconds(2)
    few = 4
    first, vectors = seconds(few)
    many = int(min(_MANY, max(2 * few, few * _EMBED_S / max(first, 1e-6))))
    again, _ = seconds(many)
    peak = peak_memory_bytes(torch.device("cpu"))  # before the probe adds to it
    if device != "cpu":
        peak += peak_memory_bytes(torch.device(device))
    dim = int(vectors.shape[1])
    return {
        "embed_s": max((again - first) / (many - few), 1e-6),
        "embed_batch": min(_BATCH, many),
        "embed_bytes": peak,
        "dim": dim,
        "fit_s": _fit(dim),
    }


def _fit(dim: int) -> float:
    """Processor seconds per training record of a linear probe, by labels that depend on some of the features."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(_FIT_MANY, dim)).astype(np.float32)
    margins = features @ generator.normal(size=(dim, _CLASSES)) / np.sqrt(dim)
    labels = (margins + generator.normal(size=margins.shape) > 1.0).astype(np.float32)
    spent = {}
    for name, count in (("few", _FIT_FEW), ("many", _FIT_MANY)):
        started = time.process_time()
        LinearProbe().fit(features[:count], labels[:count], features[:500], labels[:500])
        spent[name] = time.process_time() - started
    return _per_record(spent, _FIT_FEW, _FIT_MANY)

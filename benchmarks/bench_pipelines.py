"""Pipelines over many recordings with their default batches, and embeddings, against one recording at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import pipeline

import ecg_hf
from bench_reading import write_records
from ecg_hf.models.pretrained import DEFAULT_MODEL
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.synthetic import simulate
from rows import Row, alternate


def rows(quick: bool) -> Iterator[Row]:
    """The encoder that ships with the package, from records in memory and from files."""
    count = 128 if quick else 500
    signal = simulate(count, seed=0, sampling_rate=500.0).signal
    records = [EcgRecord(one, 500.0, STANDARD_LEADS) for one in signal]
    embed = pipeline("ecg-feature-extraction", model=str(ecg_hf.pretrained(DEFAULT_MODEL)))
    few = records[:32]
    common = {"per": count, "reference_per": len(few), "item": "record", "rounds": 5 if quick else 7}
    yield alternate(
        f"pipeline over {count} records, default batches",
        lambda: embed(records),
        lambda: embed(few, batch_size=1),
        "batch_size=1",
        least=5.0,
        operators=True,
        **common,
    )
    yield alternate(
        f"ecg_hf.embed of {count} records",
        lambda: ecg_hf.embed(records),
        lambda: [embed(one) for one in few],
        "the pipeline, one call a record",
        least=10.0,
        operators=True,
        **common,
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = write_records(Path(folder), count)
        yield alternate(
            f"ecg_hf.embed of {count} files",
            lambda: ecg_hf.embed(paths),
            lambda: [embed(one) for one in paths[: len(few)]],
            "the pipeline, one call a file",
            least=10.0,
            operators=True,
            **common,
        )

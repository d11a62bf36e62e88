"""Pipelines over many recordings with their default batches, and embeddings, against one recording at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import pipeline

import ecg_hf
from bench_reading import write_records
from ecg_hf.models.pretrained import DEFAULT_MODEL
from ecg_hf.models.registry import get_method
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.synthetic import simulate
from rows import Row, alternate


def models() -> Iterator[tuple[str, Any]]:
    """The encoder that ships, a convolutional network; and a tiny transformer, whose weights do not matter here."""
    yield DEFAULT_MODEL, pipeline("ecg-feature-extraction", model=str(ecg_hf.pretrained(DEFAULT_MODEL)))
    method = get_method("st-mem")
    config = method.load("config").preset("tiny")
    model = method.load("model")(config).eval()
    extractor = method.feature_extractor_for(config)
    yield "st-mem tiny", pipeline("ecg-feature-extraction", model=model, feature_extractor=extractor)


def rows(quick: bool) -> Iterator[Row]:
    """Records in memory, and files."""
    count = 128 if quick else 500
    signal = simulate(count, seed=0, sampling_rate=500.0).signal
    records = [EcgRecord(one, 500.0, STANDARD_LEADS) for one in signal]
    few = 16
    common: dict[str, Any] = {
        "per": count,
        "reference_per": few,
        "item": "record",
        "rounds": 5 if quick else 7,
        "operators": True,
    }
    for name, embed in models():
        yield alternate(
            f"pipeline over {count} records, {name}, default batches",
            lambda embed=embed: embed(records),
            lambda embed=embed: embed(records[:few], batch_size=1),
            "batch_size=1",
            least=5.0,
            **common,
        )
        yield alternate(
            f"pipeline over {count} records, {name}",
            lambda embed=embed: embed(records),
            lambda embed=embed: [embed(one) for one in records[:few]],
            "a call for each record",
            least=10.0,
            **common,
        )
        if name != DEFAULT_MODEL:
            continue
        with tempfile.TemporaryDirectory() as folder:
            paths = write_records(Path(folder), count)
            yield alternate(
                f"ecg_hf.embed of {count} files, {name}",
                lambda paths=paths: ecg_hf.embed(paths),
                lambda embed=embed, paths=paths: [embed(one) for one in paths[:few]],
                "the pipeline, a call for each file",
                least=10.0,
                **common,
            )

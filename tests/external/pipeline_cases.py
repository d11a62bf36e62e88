"""What the library's pipeline tests run for our tasks: a pipeline, examples for it, and what to expect of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

__all__ = ["Classification", "FeatureExtraction", "ZeroShot"]

_LABELS = ["normal", "atrial fibrillation"]


class _Case:
    """Examples of every form a pipeline takes."""

    options: dict[str, Any] = {}

    def get_test_pipeline(self, model: Any, tokenizer: Any = None, **parts: Any) -> tuple[Any, list[Any]]:
        import torch
        from transformers import pipeline

        dtype = getattr(torch, parts.pop("dtype"))
        signal, names = simulate(2, seed=3, sampling_rate=100.0).signal, STANDARD_LEADS
        short = EcgRecord(signal[1][:, :700], 100.0, names)
        mapping = {"signal": signal[0], "sampling_rate": 100, "lead_names": names}
        parts = {name: part for name, part in {**parts, "tokenizer": tokenizer}.items() if part is not None}
        pipe = pipeline(self.task(), model=model.to(dtype), device="cpu", **self.options, **parts)
        return pipe, [EcgRecord(signal[0], 100.0, names), short, mapping]

    def task(self) -> str:
        raise NotImplementedError

    def check(self, pipe: Any, result: Any) -> None:
        raise NotImplementedError

    def run_pipeline_test(self, pipe: Any, examples: list[Any]) -> None:
        self.check(pipe, pipe(examples[0]))
        for result in pipe(examples, batch_size=2):
            self.check(pipe, result)


class Classification(_Case):
    """Labels with scores by falling score."""

    def task(self) -> str:
        return "ecg-classification"

    def check(self, pipe: Any, result: Any) -> None:
        assert {entry["label"] for entry in result} == set(pipe.model.config.id2label.values())
        scores = [entry["score"] for entry in result]
        assert scores == sorted(scores, reverse=True)
        assert np.isfinite(scores).all()


class FeatureExtraction(_Case):
    """One vector."""

    def task(self) -> str:
        return "feature-extraction"

    def check(self, pipe: Any, result: Any) -> None:
        config = pipe.model.config
        assert np.shape(result) == (getattr(config, "pooled_size", config.hidden_size),)
        assert np.isfinite(result).all()


class ZeroShot(Classification):
    """Labels the model was never trained for."""

    options = {"candidate_labels": _LABELS}

    def task(self) -> str:
        return "zero-shot-ecg-classification"

    def check(self, pipe: Any, result: Any) -> None:
        assert {entry["label"] for entry in result} == set(_LABELS)
        assert all(-1 <= entry["similarity"] <= 1 for entry in result)

"""Inputs of a training step without a dataset: simulated records through the method's own feature extractor."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ecg_hf.errors import ConfigurationError
from ecg_hf.planning.memory import StoredRecords
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate
from ecg_hf.training.collators import EcgCollator

__all__ = ["SampleInputs", "sample_inputs"]


@dataclass(frozen=True, slots=True)
class SampleInputs:
    """A batch as the collator makes it.

    Attributes:
        tensors: Arguments of the pretraining model, records first; noise is not among them.
        extraction_s: Processor seconds of one core that feature extraction took per record, R peaks known.
        text_tokens: Length of the reports in tokens, 0 without text.
    """

    tensors: dict[str, Tensor]
    extraction_s: float
    text_tokens: int

    def resized(self, rows: int) -> dict[str, Tensor]:
        """The same records again and again, ``rows`` in all."""
        return {
            name: value[torch.arange(rows) % len(value)].contiguous() for name, value in self.tensors.items()
        }


def sample_inputs(
    run: PlannedRun, stored: StoredRecords, *, records: int = 8, text_tokens: int | None = None
) -> SampleInputs:
    """Simulate records as they will be stored and prepare them as the run will.

    Args:
        run: The run.
        stored: Rate and length of the recordings.
        records: How many.
        text_tokens: Tokens of the longest report in a batch, to which all are padded; the most the model takes if
            not given.

    Raises:
        ConfigurationError: if reports are longer than the model takes, or records can't be simulated.
    """
    batch = simulate(records, seed=0, sampling_rate=stored.sampling_rate, duration_s=stored.seconds)
    rows = [
        {
            "ecg": {"signal": signal, "sampling_rate": stored.sampling_rate, "lead_names": STANDARD_LEADS},
            "r_peaks": peaks,
        }
        for signal, peaks in zip(batch.signal, batch.r_peaks, strict=True)
    ]
    collator = EcgCollator(run.feature_extractor())
    collator(rows)  # designs filters
    started = time.process_time()
    tensors = collator(rows)
    extraction = (time.process_time() - started) / records
    if not run.method.multimodal:
        return SampleInputs(tensors, extraction, 0)
    longest = int(run.config.max_text_length)
    tokens = longest if text_tokens is None else text_tokens
    if not 1 <= tokens <= longest:
        raise ConfigurationError(f"reports of {tokens} tokens: the model takes 1 to {longest}", value=tokens)
    words = torch.Generator().manual_seed(0)
    tower = getattr(run.config, "text_config", run.config)
    vocabulary = int(tower.vocab_size)
    ids = torch.randint(vocabulary // 2, vocabulary, (records, tokens), generator=words)
    tensors |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return SampleInputs(tensors, extraction, tokens)

"""What an evaluation compares: a model, the same model untrained, and baselines, behind one interface."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines import FrozenBaseline, baseline_features, get_baseline
from ecg_hf.evaluation.cache import (
    fingerprint_model,
    fingerprint_preprocessing,
)
from ecg_hf.evaluation.features.pooled import PROJECTED, embed_dataset
from ecg_hf.evaluation.features.store import TokenFeatures
from ecg_hf.evaluation.features.tokens import embed_tokens
from ecg_hf.evaluation.heads.registry import Inputs

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn


__all__ = [
    "BASELINE_CONTROLS",
    "CONTROLS",
    "QUICK_CONTROLS",
    "UNTRAINED",
    "BaselineEntrant",
    "Encoder",
    "ModelEntrant",
    "adapted_extractor",
    "take",
    "untrained_copy",
]

BASELINE_CONTROLS = {"handmade": "handmade", "minirocket": "minirocket", "supervised": "xresnet1d"}
"""Control -> baseline."""

UNTRAINED = "untrained"
"""The model's architecture with random weights."""

CONTROLS = (UNTRAINED, *BASELINE_CONTROLS)
"""Rows that can stand beside a model."""

QUICK_CONTROLS = (UNTRAINED, "handmade")
"""Those that stand beside every model unless others are asked for; the rest take hours where these take minutes."""


@dataclass(slots=True, eq=False)
class ModelEntrant:
    """A frozen encoder with its preprocessing; every pass over recordings is made once and kept.

    Attributes:
        name: As rows call it.
        model: The encoder.
        extractor: Its feature extractor, adapted to the protocol.
        source: Folder or Hub name, for what needs more than the encoder (fine-tuning, tokenizer).
        cache_dir: Where features are kept, named by their content.
        untrained: Whether the weights are random.
        device: Where the encoder runs.
        batch_size: Recordings per forward pass.
        pool_tokens: Mean over so many consecutive tokens of a lead, for heads on tokens.
        adapted: Whether ``extractor`` is not as it lies in ``source``.
    """

    name: str
    model: Any
    extractor: Any
    source: str
    cache_dir: Path
    untrained: bool = False
    device: str = "cpu"
    batch_size: int = 64
    pool_tokens: int = 1
    adapted: bool = False
    _digest: dict[str, str] = field(default_factory=dict, repr=False)
    _kept: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    def digest(self) -> dict[str, str]:
        """What its features depend on besides the recordings."""
        if not self._digest:
            self._digest = {
                "model": fingerprint_model(self.model),
                "preprocessing": fingerprint_preprocessing(self.extractor),
            }
        return self._digest

    def features(self, inputs: Inputs, dataset: Dataset, recordings: str) -> Any:
        """Features of every row of a dataset.

        Args:
            inputs: What the head reads.
            dataset: Rows.
            recordings: Their fingerprint.
        """
        if inputs == "pooled":
            return self._embedded("pooler_output", dataset, recordings)
        if ("tokens" if inputs == "tokens" else "windows", recordings) not in self._kept:
            self._kept[inputs, recordings] = embed_tokens(
                self.model,
                self.extractor,
                dataset,
                batch_size=self.batch_size,
                device=self.device,
                pool_tokens=self.pool_tokens if inputs == "tokens" else self._window_tokens(),
                dtype="float16" if inputs == "tokens" else "float32",
                cache_dir=self.cache_dir,
            )
        return self._kept[inputs, recordings]

    def embed(self, dataset: Dataset) -> npt.NDArray[np.float32]:
        """Pooled features of other rows, kept on disk alone."""
        return embed_dataset(
            self.model,
            self.extractor,
            dataset,
            batch_size=self.batch_size,
            device=self.device,
            cache_dir=self.cache_dir,
        )

    def projected(self, dataset: Dataset, recordings: str) -> npt.NDArray[np.float32]:
        """Features in the space shared with text."""
        return self._embedded(PROJECTED, dataset, recordings)

    def _embedded(self, what: str, dataset: Dataset, recordings: str) -> npt.NDArray[np.float32]:
        if (what, recordings) not in self._kept:
            self._kept[what, recordings] = embed_dataset(
                self.model,
                self.extractor,
                dataset,
                batch_size=self.batch_size,
                device=self.device,
                features=what,
                cache_dir=self.cache_dir,
            )
        kept: npt.NDArray[np.float32] = self._kept[what, recordings]
        return kept

    def _window_tokens(self) -> int:
        """Tokens of one window: averaged together they are one vector per window."""
        config = self.model.config
        return -(-int(config.window_samples) // int(config.patch_size))

    @property
    def window_s(self) -> float | None:
        """Seconds the encoder sees at a time, if it cuts recordings itself."""
        samples = getattr(self.model.config, "window_samples", None)
        return None if not samples else float(samples) / float(self.model.config.sampling_rate)


@dataclass(slots=True, eq=False)
class BaselineEntrant:
    """A baseline without a pretrained model.

    Attributes:
        name: As rows call it.
        options: Arguments of the baseline's class.
        cache_dir: Where features are kept.
        work_dir: Where a network trained from scratch keeps its checkpoints.
    """

    name: str
    options: Mapping[str, Any]
    cache_dir: Path
    work_dir: Path
    _kept: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Options that cannot work are said now, not after hours."""
        self.make()

    @property
    def frozen(self) -> bool:
        """Whether it gives features, rather than scores."""
        return isinstance(self.make(), FrozenBaseline)

    def make(self) -> Any:
        """A new baseline, not fitted."""
        given = dict(self.options)
        if self.name == "supervised":
            given.setdefault("output_dir", self.work_dir)
        return get_baseline(BASELINE_CONTROLS[self.name], **given)

    def digest(self) -> dict[str, str]:
        """What its features or scores depend on besides recordings and rows."""
        return {"baseline": self.make().fingerprint()}

    def features(
        self, dataset: Dataset, recordings: str, fit_rows: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Features of every row, fitted on ``fit_rows`` without labels."""
        key = recordings, fit_rows.tobytes().hex()
        if key not in self._kept:
            self._kept[key] = baseline_features(self.make(), dataset, fit_rows, cache_dir=self.cache_dir)
        kept: npt.NDArray[np.float32] = self._kept[key]
        return kept


Encoder = ModelEntrant | BaselineEntrant
"""Whose features are scored."""


def take(features: Any, rows: npt.NDArray[np.intp]) -> Any:
    """Features of some records."""
    return features.select(rows) if isinstance(features, TokenFeatures) else features[rows]


def adapted_extractor(
    extractor: Any, model: Any, overrides: Mapping[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    """A copy of a feature extractor with a protocol's settings.

    Rate, leads and their order belong to the model: a protocol's are applied where the model was made for them.

    Returns:
        The copy (the same object without overrides), and the names of settings that were left as the model's.

    Raises:
        ConfigurationError: if the extractor has no such setting.
    """
    if not overrides:
        return extractor, ()
    config = model.config
    own = {
        "sampling_rate": float(getattr(config, "sampling_rate", extractor.sampling_rate)),
        "lead_names": tuple(getattr(config, "lead_names", extractor.lead_names)),
    }
    kept = tuple(
        name
        for name, value in own.items()
        if name in overrides
        and (tuple(overrides[name]) if name == "lead_names" else overrides[name]) != value
    )
    if "duration_s" in overrides and extractor.duration_s != overrides["duration_s"]:
        kept = (*kept, "duration_s")
    adapted = copy.deepcopy(extractor)
    for name, value in overrides.items():
        if name in kept:
            continue
        if not hasattr(adapted, name):
            raise ConfigurationError(f"{type(extractor).__name__} has no setting {name!r}", value=name)
        setattr(adapted, name, list(value) if isinstance(value, tuple) and name != "lead_names" else value)
    return adapted, kept


def untrained_copy(model: nn.Module, seed: int = 0) -> nn.Module:
    """A model of the same configuration with its first random weights."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy: nn.Module = type(model)(model.config)  # type: ignore[call-arg]
    return copy.eval()

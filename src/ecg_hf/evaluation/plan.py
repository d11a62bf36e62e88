"""What is asked of a model: protocol, heads, label fractions, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import BenchmarkData, LabelledSubset
from ecg_hf.evaluation.heads.registry import HEADS, ConfiguredHead, configured_head
from ecg_hf.evaluation.prepare import Folds, fraction_subsets
from ecg_hf.evaluation.protocols import Protocol
from ecg_hf.metrics.intervals import DEFAULT_RESAMPLES

__all__ = ["ASKED", "HEADLESS", "SUBSETS", "EvaluationPlan"]

HEADLESS = ("zero-shot", "retrieval", "delineation", "regression")
"""Tasks that train no head on a benchmark's labels; asked for by name in place of a head."""

ASKED = (*HEADS, *HEADLESS)
"""What an evaluation can be asked for."""

SUBSETS = ("published", "drawn")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is asked of a model on every benchmark.

    Attributes:
        protocol: How.
        heads: Of :data:`ASKED`, each once.
        fractions: Label fractions; the protocol's by default.
        seeds: Seeds of label subsets and heads.
        solver: How linear heads are fitted, see :func:`ecg_hf.evaluation.heads.registry.configured_head`.
        head_options: Fields of the head that replace its own; for a plan of one head.
        folds: Train, validation and test folds that replace the protocol's.
        n_resamples: Bootstrap resamples.
        device: Where heads with a device are trained.
        prompts: Class -> text, for zero-shot; the package's own by default.
        prompt_set: What these are called; ``"merl"`` for the published ones.
        subsets: ``"published"``: label subsets by the protocol's rule; ``"drawn"``: by the seed, nested.
    """

    protocol: Protocol
    heads: tuple[str, ...] = ("linear",)
    fractions: tuple[float, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    solver: str = "auto"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    folds: Folds = (None, None, None)
    n_resamples: int = DEFAULT_RESAMPLES
    device: str = "cpu"
    prompts: Mapping[str, str | list[str]] | None = None
    prompt_set: str = "plain"
    subsets: str = "published"

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        unknown = [head for head in self.heads if head not in ASKED]
        if unknown:
            raise ConfigurationError(
                f"head must be one of {', '.join(ASKED)}, got {unknown[0]!r}", value=unknown[0]
            )
        if not self.heads or len(set(self.heads)) < len(self.heads):
            raise ConfigurationError(f"heads must be different ones, got {self.heads}", value=self.heads)
        if self.head_options and len(self.heads) > 1:
            raise ConfigurationError(
                f"options of a head are for one head, got {', '.join(self.heads)}", value=self.heads
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigurationError(
                f"seeds must be different numbers from 0, got {self.seeds}", value=self.seeds
            )
        for share in self.fractions or ():
            if not 0.0 < share <= 1.0:
                raise ConfigurationError(f"a label fraction must lie in (0, 1], got {share:g}", value=share)
        if self.subsets not in SUBSETS:
            raise ConfigurationError(
                f"subsets must be {' or '.join(SUBSETS)}, got {self.subsets!r}", value=self.subsets
            )
        if self.n_resamples < 1:
            raise ConfigurationError(
                f"there must be resamples, got {self.n_resamples}", value=self.n_resamples
            )
        for head in self.heads:
            if head in HEADS:
                self.head(head)

    @property
    def trained(self) -> tuple[str, ...]:
        """Heads trained on a benchmark's labels."""
        return tuple(head for head in self.heads if head in HEADS)

    def labelled_subsets(self, data: BenchmarkData, seed: int) -> list[LabelledSubset]:
        """Training records whose labels a head may see, one subset per fraction."""
        rule = self.protocol if self.subsets == "published" else replace(self.protocol, subset_rule="nested")
        return fraction_subsets(rule, data, self.fractions, seed)

    def head(self, name: str, *, windows: bool = False, model_type: str | None = None) -> ConfiguredHead:
        """A head as the protocol has it; options are for the one asked for.

        Args:
            name: Of :data:`~ecg_hf.evaluation.heads.registry.HEADS`; one that was not asked for has its own settings.
            windows: Whether the encoder gives one vector per window.
            model_type: Of the encoder, where published parameter groups depend on it.
        """
        return configured_head(
            name,
            self.protocol,
            solver=self.solver,
            options=self.head_options if name in self.heads else {},
            windows=windows,
            device=self.device,
            model_type=model_type,
        )

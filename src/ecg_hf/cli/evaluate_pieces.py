"""An evaluation of several models or sources in pieces: each fills in cells, which the command then finds."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.cli.evaluate_recordings import Build, benchmark_recordings, own_recordings
from ecg_hf.engine import Engine, run_pieces
from ecg_hf.evaluation.cache import fingerprint_model
from ecg_hf.evaluation.encoders import untrained_copy

if TYPE_CHECKING:
    from ecg_hf.evaluation.benchmark_data import Benchmark
    from ecg_hf.evaluation.plan import EvaluationPlan
    from ecg_hf.evaluation.prepare import Recordings

__all__ = ["EvaluationPieces", "works_in_pieces"]


@dataclass(frozen=True)
class _Cells:
    """The cells of one model, or of the same untrained, on all benchmarks of one source: a function of paths."""

    model: str
    untrained: bool
    benchmarks: tuple[str, ...]
    asked: EvaluationPieces

    def __str__(self) -> str:
        kind = " untrained" if self.untrained else ""
        return f"{Path(self.model).name}{kind} on {', '.join(self.benchmarks)}"


@dataclass(frozen=True)
class EvaluationPieces:
    """What all pieces share.

    Attributes:
        plan: What is asked.
        output: The evaluation's folder; workers on other machines must see all paths as this one does.
        datasets: Folders of recordings that lie open: given, or built by now.
        labels: Column of own labels, None for published benchmarks.
        tables: Folder with MERL's published tables.
        curves: See :func:`ecg_hf.evaluation.evaluate.compute_cells`.
        device: Where a process runs its model.
        batch_size: Recordings per forward pass.
        pool_tokens: See :class:`ecg_hf.evaluation.evaluate.LoadedModel`.
    """

    plan: EvaluationPlan
    output: str
    datasets: tuple[str, ...]
    labels: str | None
    tables: str | None
    curves: tuple[str, ...]
    device: str
    batch_size: int
    pool_tokens: int

    def run(
        self,
        models: Iterable[tuple[str, Any]],
        benchmarks: Sequence[Benchmark],
        recordings: Mapping[str, Recordings],
        engine: Engine,
        *,
        untrained: bool,
        say: Callable[[str], None],
    ) -> int:
        """Compute what several models need; gives how many cells were computed.

        Two pieces never make the same features: weights that are there twice, as those of two untrained models of
        one architecture, are one piece's, and the benchmarks of one source are one piece's too.

        Args:
            models: Folder or Hub name, and the model; each may be loaded as it is asked for.
            benchmarks: On what; those about annotated recordings are left to the command.
            recordings: Benchmark -> rows.
            engine: Where.
            untrained: Whether the untrained models are asked for too.
            say: Receives one line per piece.
        """
        sources: dict[int, list[str]] = {}
        for one in benchmarks:
            if one.kind == "multilabel":
                sources.setdefault(id(recordings[one.name]), []).append(one.name)
        pieces, seen = [], set()
        for source, model in models:
            place = os.path.abspath(source) if Path(source).is_dir() else source
            for random in (False, True) if untrained else (False,):
                weights = fingerprint_model(untrained_copy(model) if random else model)
                if weights not in seen:
                    seen.add(weights)
                    pieces += [_Cells(place, random, tuple(names), self) for names in sources.values()]
        computed = 0
        for number, (piece, count) in enumerate(run_pieces(_compute, pieces, engine), 1):
            computed += count
            say(f"[{number}/{len(pieces)}] {piece}: {count} cells computed")
        return computed


def works_in_pieces(engine: Engine, device: str) -> bool:
    """Whether there is more than this process to work in; a GPU of this machine is not shared out."""
    return engine.name != "local" or (engine.num_proc > 1 and device == "cpu")


def _compute(piece: _Cells) -> int:
    from ecg_hf.cli.loading import load_model
    from ecg_hf.evaluation.benchmark_data import get_benchmark
    from ecg_hf.evaluation.evaluate import LoadedModel, compute_cells

    asked = piece.asked
    build, datasets = Build(Path(asked.output)), asked.datasets
    with contextlib.redirect_stdout(sys.stderr):
        if asked.labels is None:
            benchmarks = [get_benchmark(name) for name in piece.benchmarks]
            recordings = benchmark_recordings(benchmarks, [], datasets, build)
        else:
            own, rows = own_recordings(asked.labels, [], datasets, build)
            benchmarks, recordings = [own], {own.name: rows}
        encoder, extractor = load_model(piece.model, device=asked.device)
        return compute_cells(
            asked.plan,
            LoadedModel(piece.model, encoder, extractor, asked.device, asked.batch_size, asked.pool_tokens),
            benchmarks,
            recordings,
            asked.output,
            untrained=piece.untrained,
            tables=asked.tables,
            curves=asked.curves,
        )

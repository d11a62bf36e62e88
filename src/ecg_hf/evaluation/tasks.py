"""Tasks by name: each is a question put to an encoder, an object with ``run(encoder) -> rows``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ecg_hf.evaluation.benchmark_data import Benchmark
from ecg_hf.evaluation.cache import CellStore
from ecg_hf.evaluation.encoders import Encoder
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import PreparedBenchmark
from ecg_hf.evaluation.retrieval import RetrievalTask
from ecg_hf.evaluation.robustness import RobustnessCurve
from ecg_hf.evaluation.scoring import Classification, Say
from ecg_hf.evaluation.zero_shot import ZeroShot

if TYPE_CHECKING:
    from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord

__all__ = ["KIND_TASKS", "Task", "annotated_task", "tasks_of"]

KIND_TASKS = {"delineation": "delineation", "measurement": "regression"}
"""Kind of a benchmark without a label group -> the one task that can be asked of it."""


class Task(Protocol):
    """A question put to encoders, one after the other.

    Attributes:
        part: The list of ``results.json`` its rows go to: ``"probe"``, ``"reports"`` or ``"curves"``.
    """

    part: ClassVar[str]

    def run(self, encoder: Encoder) -> list[Any]:
        """Rows of an encoder; none where the question does not apply to it.

        ``"probe"`` rows are :class:`~ecg_hf.evaluation.scoring.EvaluatedCell`, others JSON objects.
        """
        ...


def tasks_of(
    plan: EvaluationPlan, prepared: PreparedBenchmark, store: CellStore, curves: Sequence[str], say: Say
) -> Iterator[Task]:
    """Everything a plan asks on a benchmark with labels.

    Args:
        plan: What is asked for.
        prepared: Records, labels, splits.
        store: Where results are kept.
        curves: Also score poorer test recordings: ``"leads"``, ``"rate"``.
        say: Receives progress.
    """
    for name in plan.heads:
        if name in plan.trained:
            yield Classification(plan, prepared, store, name, say)
            for axis in curves:
                yield RobustnessCurve(plan, prepared, store, axis, name)
        elif name == "zero-shot":
            yield ZeroShot(plan, prepared, store, say)
        elif name == "retrieval":
            yield RetrievalTask(plan, prepared, store)


def annotated_task(
    plan: EvaluationPlan,
    benchmark: Benchmark,
    records: Sequence[AnnotatedRecord],
    store: CellStore,
    controls: bool,
) -> Task:
    """The task of a benchmark about annotated recordings.

    Args:
        plan: What is asked for.
        benchmark: Of kind ``"delineation"`` or ``"measurement"``.
        records: With their marks.
        store: Where results are kept.
        controls: Also run what there is beside the model.
    """
    if benchmark.kind == "delineation":
        from ecg_hf.evaluation.delineation.benchmark import DelineationTask

        return DelineationTask(plan, benchmark.name, records, store, controls)
    from ecg_hf.evaluation.delineation.measurements import MeasurementTask

    return MeasurementTask(plan, benchmark.name, records, store, controls)

"""What a pretraining run will take: parameters, operations, memory, time and disk, before it is started."""

from __future__ import annotations

from ecg_hf.planning.memory import StoredRecords
from ecg_hf.planning.plan import Assumptions, Plan, make_plan
from ecg_hf.planning.report import plan_lines
from ecg_hf.planning.settings import PlannedRun, planned_run

__all__ = [
    "Assumptions",
    "Plan",
    "PlannedRun",
    "StoredRecords",
    "make_plan",
    "plan_lines",
    "planned_run",
]

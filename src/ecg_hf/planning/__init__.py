"""What a pretraining run will take: parameters, operations, memory, time and disk, before it is started."""

from __future__ import annotations

from ecg_hf.planning.memory import StoredRecords
from ecg_hf.planning.plan import Assumptions, Plan, make_plan
from ecg_hf.planning.probe import MeasuredStages, measure_stages
from ecg_hf.planning.report import plan_lines
from ecg_hf.planning.settings import PlannedRun, planned_run
from ecg_hf.planning.stages import Machines, Stage, plan_stages, stage_lines, stages_to_dict

__all__ = [
    "Assumptions",
    "Machines",
    "MeasuredStages",
    "Plan",
    "PlannedRun",
    "Stage",
    "StoredRecords",
    "make_plan",
    "measure_stages",
    "plan_lines",
    "plan_stages",
    "planned_run",
    "stage_lines",
    "stages_to_dict",
]

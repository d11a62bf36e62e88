"""Stages of a plan for many machines: arithmetic from measured rates, and the measuring itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.planning import Assumptions, Machines, MeasuredStages, Plan, make_plan, measure_stages
from ecg_hf.planning.stages import Stage, plan_stages, stage_lines, stages_to_dict

from .conftest import STORED, micro_run

MEASURED = MeasuredStages(
    records=320,
    listing_s=0.0001,
    build_s=0.002,
    raw_bytes=25_000.0,
    base_bytes=400 << 20,
    embed_s=0.01,
    embed_batch=64,
    embed_bytes=1 << 30,
    embed_device="cpu",
    dim=128,
    fit_s=0.001,
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(micro_run("ecg-cpc", gpus=8), 1_000_000, assumptions=Assumptions(stored=STORED, mfu=0.4))


def staged(plan: Plan, machines: Machines, **changes: object) -> dict[str, Stage]:
    return {one.name: one for one in plan_stages(plan, machines, replace(MEASURED, **changes))}


def test_hours_come_from_rates_and_machines(plan: Plan):
    stages = staged(plan, Machines(4, 16, storage_mbit=1e6))
    assert list(stages) == ["download", "build", "pretrain", "embed", "evaluate"]
    assert stages["download"].hours == pytest.approx(25_000 * 1e6 * 8 / 1e9 / 3600)
    assert stages["build"].hours == pytest.approx(1e6 * (0.0001 + 0.002 / 64) / 3600)
    assert stages["embed"].hours == pytest.approx(1e6 * 0.01 / 64 / 3600)
    training = replace(plan, rate=replace(plan.rate, records_per_s=10.0))  # slower than it reads
    assert staged(training, Machines(4, 16))["pretrain"].hours == pytest.approx(plan.schedule.hours(10.0))
    assert stages["evaluate"].hours == pytest.approx(21_799 * 0.011 / 3600)
    # Twice the machines: half the time, but for what one process does.
    twice = staged(plan, Machines(8, 16, storage_mbit=1e6))
    assert twice["embed"].hours == pytest.approx(stages["embed"].hours / 2)
    assert stages["build"].hours / 2 < twice["build"].hours < stages["build"].hours


def test_slow_storage_sets_the_pace(plan: Plan):
    stages = staged(plan, Machines(2, 64, storage_mbit=10.0))
    for name in ("build", "pretrain", "embed"):
        assert "storage" in stages[name].basis
    assert stages["build"].hours == pytest.approx(stages["build"].network_bytes * 8 / 2e7 / 3600)


def test_sizes(plan: Plan):
    stages = staged(plan, Machines(2, 8))
    assert stages["download"].disk_bytes == 25_000 * 1e6
    assert stages["build"].disk_bytes == plan.dataset_bytes
    assert stages["build"].network_bytes == plan.dataset_bytes + 25_000 * 1e6
    assert stages["embed"].disk_bytes == 1e6 * (128 * 4 + 24)
    assert stages["pretrain"].memory_bytes == plan.peak_bytes
    one = staged(plan, Machines(1, 8))
    exchanged = stages["pretrain"].network_bytes - one["pretrain"].network_bytes
    assert exchanged == 2 * plan.static.gradients * plan.schedule.steps


def test_no_more_processes_than_pieces(plan: Plan):
    stages = staged(plan, Machines(1000, 64))
    assert (stages["build"].processes, stages["embed"].processes) == (1000, 977)
    assert staged(plan, Machines(1000, 64), embed_device="cuda")["embed"].processes == 8


def test_text_says_what_was_assumed(plan: Plan):
    machines = Machines(2, 8)
    stages = plan_stages(plan, machines, MEASURED)
    text = "\n".join(stage_lines(stages, machines, MEASURED))
    for words in (
        "2 nodes of 8 cores",
        "1,000 Mbit/s",
        "10,000 Mbit/s",
        "320 synthetic records",
        *(s.name for s in stages),
    ):
        assert words in text
    values = stages_to_dict(stages, machines, MEASURED)
    assert values["stages"]["build"]["hours"] == stages[1].hours
    assert values["machines"]["nodes"] == 2


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"download_mbit": 0.0}, {"storage_mbit": float("inf")}])
def test_impossible_machines_are_refused(wrong: dict[str, float]):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Machines(**{"nodes": 1, "cores": 1, **wrong})


@pytest.mark.slow
def test_rates_are_measured_in_processes_of_their_own():
    run = micro_run("ecg-cpc")
    measured = measure_stages(run, STORED)
    assert measured.dim == run.config.hidden_size
    assert 24_000 < measured.raw_bytes < 26_000
    for name in ("build_s", "embed_s"):
        assert 0.0 < getattr(measured, name) < 1.0
    assert 0 < measured.base_bytes < measured.embed_bytes

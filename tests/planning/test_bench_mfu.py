"""The benchmark runs without a GPU, and claims nothing then."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ecg_hf.models.registry import PRETRAINABLE
from ecg_hf.planning.counts import operations_per_record

from .conftest import micro_run

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_mfu.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_mfu", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(PRETRAINABLE))
def test_smoke_on_a_cpu(
    model: str, bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["bench_mfu.py", "--models", model, "--device", "cpu", "--quick", "--json"]
    )
    bench.main()
    document = json.loads(capsys.readouterr().out)
    assert "no MFU is claimed" in document["claim"]
    assert [result["model"] for result in document["results"]] == [model]
    for result in document["results"]:
        assert "mfu" not in result
        assert result["records_per_s"] > 0
        assert result["tflops"] == pytest.approx(
            result["records_per_s"] * result["gflop_per_record"] / 1e3, rel=0.05, abs=1e-4
        )
        assert result["planned_peak_gib"] > 0


def test_operations_are_the_planners(bench: ModuleType) -> None:
    assert bench.operations_per_record is operations_per_record


def test_time_on_the_device_counts_overlapping_kernels_once(bench: ModuleType) -> None:
    assert bench.union_length([(0.0, 2.0), (1.0, 3.0), (1.5, 2.0), (5.0, 6.0)]) == 4.0
    assert bench.union_length([]) == 0.0


def test_one_failing_method_does_not_hide_the_others(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a kernel is missing")

    monkeypatch.setattr(micro_run("ecg-cpc").method.load("pretraining"), "forward", broken)
    models = ["--models", "ecg-cpc", "acl-ecg"]
    monkeypatch.setattr(sys, "argv", ["bench_mfu.py", "--device", "cpu", "--json", *models])
    with pytest.raises(SystemExit) as stop:
        bench.main()
    failed, fine = json.loads(capsys.readouterr().out)["results"]
    assert stop.value.code == 1
    assert failed["failed"] == "a kernel is missing"
    assert fine["records_per_s"] > 0

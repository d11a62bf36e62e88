"""``ecg-hf quickstart``: the half that needs no training; tests/quickstart has the other."""

from __future__ import annotations

from pathlib import Path

import pytest

import ecg_hf

from .conftest import Cli


def test_the_first_half_shows_what_shipped_models_say(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("quickstart", "--output", tmp_path, "--skip-training")
    assert outcome.returncode == 0, outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sample_ecg.png"]
    assert (tmp_path / "sample_ecg.png").read_bytes().startswith(b"\x89PNG")
    said = outcome.stdout
    assert "CC BY 4.0" in said
    assert f"$ ecg-hf predict {ecg_hf.sample_record()} --plot" in said
    assert "heart rate" in said
    findings = said[said.index("--plot") : said.index("--labels")]
    assert "CLBBB" in findings
    answers = said[said.index("--labels") : said.index(">>>")].splitlines()
    assert next(line for line in answers if line.split()[-1][0] in "+-").startswith(
        "left bundle branch block"
    )
    assert "(1, 768)" in said
    assert f"Open {tmp_path / 'sample_ecg.png'}" in said.splitlines()[-1]


def test_training_follows_unless_it_is_skipped(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ecg_hf.quickstart.run as run

    asked: list[dict[str, object]] = []
    monkeypatch.setattr(
        run, "run_quickstart", lambda folder, **options: asked.append({"folder": folder, **options})
    )
    outcome = cli("quickstart", "--output", tmp_path, "--model", "ecg-jepa", "--max-steps", "3")
    assert outcome.returncode == 0, outcome.stderr
    ((options),) = asked
    assert (options["folder"], options["model"], options["max_steps"]) == (tmp_path, "ecg-jepa", 3)
    assert outcome.stdout.splitlines()[-1] == str(tmp_path / "report.html")
    assert (tmp_path / "sample_ecg.png").is_file()

"""``ecg-hf plot``: a picture of a recording or of a run, and one line for what can't be drawn."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from .conftest import Cli

PIXELS_PER_MM = 150 / 25.4


def width_of(picture: Path) -> int:
    """Pixels, as the header of a PNG file has them."""
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int(struct.unpack(">I", header[16:20])[0])


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """Twenty seconds of three leads that say nothing about themselves."""
    path = tmp_path / "array.npy"
    np.save(path, np.random.default_rng(0).normal(0, 100, (3, 5000)))
    return path


TOLD = ("--sampling-rate", "250", "--lead-names", "I, II,V1", "--units", "uV")


def test_a_recording_becomes_a_picture(record: Path, cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "ecg.png"
    outcome = cli("plot", record, "-o", picture)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == str(picture)
    assert width_of(picture) == pytest.approx((10 * 25 + 24) * PIXELS_PER_MM, abs=2)
    again = tmp_path / "again.SVG"
    assert (
        cli("plot", record, "-o", again, "--leads", "II,V5", "--seconds", "4", "--title", "a <b>").returncode
        == 0
    )
    assert "<svg" in again.read_text()
    assert "a <b>" not in again.read_text()


def test_arrays_are_told_what_they_do_not_say(array: Path, cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "ecg.png"
    outcome = cli("plot", array, "-o", picture)
    assert outcome.returncode == 2
    assert "--sampling-rate" in outcome.stderr
    outcome = cli("plot", array, "-o", picture, *TOLD, "--start", "15", "--seconds", "30")
    assert outcome.returncode == 0, outcome.stderr
    assert width_of(picture) == pytest.approx((5 * 25 + 24) * PIXELS_PER_MM, abs=2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-o", "ecg.jpg"), "ecg.jpg"),
        (("-o", "ecg.png", "--start", "20"), "20 s"),
        (("-o", "ecg.png", "--start", "-1"), "--start"),
        (("-o", "ecg.png", "--seconds", "0"), "positive"),
        (("-o", "ecg.png", "--leads", "V6"), "V6"),
        (("-o", "ecg.png", "--leads", "I,,II"), "--leads"),
        ((), "--output"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    arguments: tuple[str, ...],
    named: str,
    array: Path,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("plot", array, *TOLD, *arguments)
    assert outcome.returncode == 2
    assert named in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["array.npy"]


def test_the_curves_of_a_run(pretrained: Path, cli: Cli, tmp_path: Path) -> None:
    for number, run in enumerate((pretrained, pretrained / "training_log.jsonl")):
        picture = tmp_path / f"{number}.png"
        assert cli("plot", run, "-o", picture).returncode == 0
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    empty = tmp_path / "empty"
    empty.mkdir()
    outcome = cli("plot", empty, "-o", tmp_path / "none.png")
    assert outcome.returncode == 2
    assert "training_log.jsonl" in outcome.stderr
    shutil.rmtree(empty)

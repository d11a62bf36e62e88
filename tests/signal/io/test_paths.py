"""Which files of a folder may be recordings."""

from __future__ import annotations

from pathlib import Path

from ecg_hf.signal.io.paths import recordings_below


def test_recordings_of_a_folder_in_order(tmp_path: Path):
    for name in (
        *("b/one.hea", "b/one.dat", "b/one.atr", "a.xml", "c/two.mat", "c/two.hea", "c/three.mat", "z.dat"),
        *("README.md", "notes.PDF", ".hidden.xml", ".git/a.xml", "b/one.json"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in recordings_below(tmp_path)]
    # A signal file goes with its header; without any header in its folder it may be of another format.
    assert found == ["a.xml", "z.dat", "b/one.hea", "c/three.mat", "c/two.hea"]

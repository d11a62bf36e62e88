"""``ecg-hf convert-file``: what is written, and what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ecg_hf import read_record
from ecg_hf.cli.main import main
from tests.signal.io.clinical import MARKERS, RECORDINGS, SMALL, need_library


@pytest.mark.parametrize("kind", SMALL)
def test_a_file_becomes_a_wfdb_record(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    need_library(kind)
    path = RECORDINGS / kind / SMALL[kind]
    main(["convert-file", str(path), str(tmp_path)])
    before, after = read_record(path), read_record(tmp_path / path.stem)
    np.testing.assert_allclose(after.signal, before.signal, rtol=1e-6, atol=1e-6)
    assert (after.lead_names, after.sampling_rate) == (before.lead_names, before.sampling_rate)
    header = (tmp_path / f"{path.stem}.hea").read_text()
    assert "#" not in header
    assert not [marker for marker in MARKERS if marker in header + capsys.readouterr().out]


def test_a_folder_and_its_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    shutil.copy(RECORDINGS / "ge_muse" / SMALL["ge_muse"], source / "a.xml")
    shutil.copy(RECORDINGS / "alivecor_atc" / SMALL["alivecor_atc"], source / "sub" / "a.atc")
    (source / "bad.xml").write_text("<html>ZZTESTNAME</html>")
    main(["convert-file", str(source), str(target), "--json", "--keep-metadata"])
    account = json.loads(capsys.readouterr().out)
    assert (account["converted"], [one["file"] for one in account["refused"]]) == (2, ["bad.xml"])
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*.hea")) == [
        "a.hea",
        "sub/a.hea",
    ]
    assert "file: a.xml" in (target / "a.hea").read_text()
    for arguments in ([str(source / "a.xml"), str(target)], [str(tmp_path / "gone"), str(target)]):
        with pytest.raises(SystemExit) as caught:
            main(["convert-file", *arguments])
        assert caught.value.code == 2
    main(["convert-file", str(source / "a.xml"), str(target), "--overwrite"])

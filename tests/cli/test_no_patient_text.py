"""A planted name is searched for in every file and every line the commands leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wfdb

from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate
from tests.cli.conftest import Cli, Outcome

HIDDEN = "Zwiebelthaler"
"""In comments of headers and columns nobody asked for: may appear nowhere."""

PLACE = "Grottenolm"
"""In the path of dataset and model: may appear in nothing that is shared."""

REPORTED = "Quastenflosser"
"""In the reports of one patient, which the dataset keeps: may appear in its report column and nowhere else."""

COLUMNS = (
    "ecg_id,patient_id,age,sex,report,scp_codes,strat_fold,filename_lr,filename_hr,nurse,validated_by,name"
)
RECORDS = 30
FOLDS = ("--train-folds", "1-6", "--validation-folds", "7-8", "--test-folds", "9-10")

Outcomes = list[Outcome]


def write_record(folder: Path, name: str, seed: int, comment: str) -> None:
    signal = simulate(1, seed=seed, sampling_rate=100.0).signal[0]
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name,
        fs=100,
        units=["mV"] * 12,
        sig_name=list(STANDARD_LEADS),
        p_signal=signal.T.astype(float),
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        comments=[comment, f"Name: {HIDDEN}, Anna", "Age: 50", f"Operator: {HIDDEN}"],
        write_dir=str(folder),
    )


@pytest.fixture(scope="module")
def ptbxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows and records as PTB-XL has them, with a person's name wherever one could stand."""
    root = tmp_path_factory.mktemp("phi") / "ptbxl"
    lines = [COLUMNS]
    for i in range(1, RECORDS + 1):
        write_record(root / "records100" / "00000", f"{i:05d}_lr", i, f"Dr {HIDDEN}")
        report = f"sinus rhythm, {REPORTED} {REPORTED}" if i % 10 == 3 else "sinus rhythm, normal ecg"
        codes = "{'NORM': 100.0, 'SR': 0.0}" if i % 2 else "{'IMI': 100.0, 'SR': 0.0}"
        # Ten patients of three recordings each.
        lines.append(
            f'{i},{i % 10}.0,50.0,{i % 2},"{report}","{codes}",{i % 10 + 1},records100/00000/{i:05d}_lr,x/{i},'
            f"{HIDDEN},{HIDDEN},{HIDDEN}"
        )
    (root / "ptbxl_database.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # One that can't be read: the account says so without quoting it.
    (root / "records100" / "00000" / "00009_lr.dat").write_bytes(b"")
    return root


def files_with(folder: Path, name: str) -> set[str]:
    """Files below a folder that hold a name, in any case, as text or in UTF-16."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            if name.lower().encode() in content or name.lower().encode("utf-16-le") in content:
                found.add(path.relative_to(folder).as_posix())
    return found


@pytest.mark.slow
def test_names_reach_no_output(
    ptbxl: Path, cli: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built, model, output = (tmp_path / PLACE / name for name in ("built", "model", "evaluation"))
    record = ptbxl / "records100" / "00000" / "00001_lr"
    commands = (
        ("data", "build", "ptbxl", "--data-dir", ptbxl, "--output", built),
        ("data", "check", built),
        (
            *("pretrain", "--model", "cg-dmer", "--size", "micro", "--dataset", built, "--output", model),
            *("--max-steps", 2, "--per-device-train-batch-size", 4, "--use-cpu", "--save-steps", 1),
        ),
        (
            "embed",
            "--model",
            model,
            "--dataset",
            built,
            "--output",
            tmp_path / "e.safetensors",
            "--device",
            "cpu",
        ),
        (
            *("evaluate", "--model", model, "--benchmark", "ptbxl-super", "--dataset", built, *FOLDS),
            *("--protocol", "strodthoff", "--output", output, "--controls", "random", "--resamples", 5),
            *("--fraction", "1.0", "--device", "cpu", "--no-figures"),
        ),
        ("predict", "--model", model, record, "--labels", "normal ECG", "--device", "cpu"),
        (
            "predict",
            "--model",
            model,
            record.with_name("00009_lr"),
            "--labels",
            "normal ECG",
            "--device",
            "cpu",
        ),
    )
    outcomes = [cli(*command) for command in commands]
    assert [outcome.returncode for outcome in outcomes] == [0] * 6 + [2], [o.stderr[-500:] for o in outcomes]
    for name in (HIDDEN, REPORTED):
        assert not any(name.lower() in (outcome.stdout + outcome.stderr).lower() for outcome in outcomes)
        assert name.lower() not in caplog.text.lower()
    assert files_with(tmp_path, HIDDEN) == set()
    assert {name.rpartition("/")[0] for name in files_with(tmp_path, REPORTED)} == {f"{PLACE}/built"}
    assert all(name.endswith(".arrow") for name in files_with(tmp_path, REPORTED))
    pushed = cli("push", model, "org/model", "--dry-run", "--json")
    assert not files_with(model, PLACE) & set(json.loads(pushed.stdout)["files"]), files_with(model, PLACE)
    _check_card(model)
    # The search finds what is there.
    assert files_with(ptbxl, HIDDEN) > {"ptbxl_database.csv"}


def _check_card(model: Path) -> None:
    """The card of that very model."""
    from transformers import AutoFeatureExtractor, AutoModel

    from ecg_hf.hub.card import CardContext, write_model_card

    context = CardContext("a model", "ptbxl", "CC BY 4.0")
    loaded = AutoModel.from_pretrained(model)
    write_model_card(model, loaded, AutoFeatureExtractor.from_pretrained(model), context)
    for name in (HIDDEN, REPORTED):
        assert files_with(model, name) == set()


def test_names_of_records(cli: Cli, tmp_path: Path) -> None:
    """A hospital's folder may be sorted by people: their names stay out where asked for."""
    data = tmp_path / "data"
    for i in range(3):
        write_record(data / f"{HIDDEN}_Anna_{i}", f"{HIDDEN}{i}", i, "none")
    broken = data / f"{HIDDEN}_Anna_0" / f"{HIDDEN}0.dat"
    broken.write_bytes(broken.read_bytes()[:-1])
    command = ("data", "build", "wfdb_folder", "--data-dir", data, "--output")
    outcome = cli(*command, tmp_path / "hidden", "-o", "pseudonyms=true")
    assert outcome.returncode == 0, outcome.stderr
    assert HIDDEN not in outcome.stdout + outcome.stderr
    assert files_with(tmp_path / "hidden", HIDDEN) == set()
    # By default a record's name is its identifier; it is in the dataset and its account, and on no screen.
    plain = cli(*command, tmp_path / "plain")
    assert HIDDEN not in plain.stdout + plain.stderr
    assert files_with(tmp_path / "plain", HIDDEN) != set()
    wrong = cli(*command, tmp_path / "wrong", "-o", "pseudonyms=maybe")
    assert wrong.returncode == 2
    assert "true or false" in wrong.stderr

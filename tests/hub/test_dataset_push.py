"""Built datasets through the Hub: anyone reads plain values, this package ``Ecg``; the card tells no names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ecg_hf.data import build_dataset
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.hub import push_dataset
from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line
from tests.hub.conftest import WITHOUT_PACKAGE, Client, last_json
from tests.hub.loopback_hub import OWNER, LoopbackHub


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "synthetic"
    build_dataset("synthetic", None, folder, progress=False, records=30)
    return folder


PUSH = """
import json, sys
import numpy as np
import ecg_hf
from datasets import load_dataset
from ecg_hf.cli.main import main
from ecg_hf.data import Ecg, load_built, load_hub_dataset

folder, store = sys.argv[1:3]
main(["push", folder, "org/beats", "--tag", "v1", "--json"])
main(["push", folder, "org/short", "--private", "--drop-column", "report", "--drop-column", "patient_id"])

original = load_built(folder)
shared = load_hub_dataset("org/beats")
said = {"splits": {name: len(part) for name, part in shared.items()}, "differences": 0.0, "columns": []}
for name, part in shared.items():
    assert isinstance(part.features["ecg"], Ecg), part.features
    rows = original.select([i for i, split in enumerate(original["split"][:]) if split == name])
    assert part["record_id"][:] == rows["record_id"][:]
    for column in ("report", "labels", "patient_id", "r_peaks", "fold", "sex", "source"):
        assert part[column][:] == rows[column][:], column
    for mine, theirs in zip(rows, part):
        assert mine["ecg"]["lead_names"] == theirs["ecg"]["lead_names"]
        assert mine["ecg"]["sampling_rate"] == theirs["ecg"]["sampling_rate"]
        difference = np.abs(mine["ecg"]["signal"] - theirs["ecg"]["signal"]).max()
        said["differences"] = max(said["differences"], float(difference))
train = load_hub_dataset("org/beats", split="train", revision="v1")
first = train[0]["ecg"]["signal"]
np.savez(store, first=first, record_id=train[0]["record_id"])
streamed = list(load_hub_dataset("org/beats", split="train", streaming=True))[0]  # whole: apache/arrow#45214
said["streamed"] = float(np.abs(streamed["ecg"]["signal"] - first).max())
cast = train.cast_column("ecg", Ecg(sampling_rate=250, lead_names=["II", "V2"]))
said["cast"] = list(cast[0]["ecg"]["signal"].shape)
said["short"] = load_hub_dataset("org/short", split="train").column_names
print(json.dumps(said))
"""

LOAD_PLAIN = """
import json
import numpy as np

code, store = sys.argv[1:3]
namespace = {}
exec(code, namespace)
expected = np.load(store)
difference = float(np.abs(namespace["millivolts"] - expected["first"]).max())
row = namespace["load_dataset"]("org/beats", split="train")
assert "ecg_hf" not in sys.modules
print(json.dumps({"difference": difference, "types": str(row.features["ecg"]), "rows": len(row)}))
"""


@pytest.mark.slow
def test_with_the_package_and_without(built: Path, client: Client, hub: LoopbackHub, tmp_path: Path) -> None:
    store = tmp_path / "first.npz"
    result = client(PUSH, built, store, home=tmp_path / "home", token=OWNER)
    said = last_json(result)
    account = json.loads((built / "build_report.json").read_text())
    assert said["splits"] == account["splits"]
    assert said["differences"] == said["streamed"] == 0.0
    assert said["cast"] == [2, 2500]
    assert not {"report", "patient_id"} & set(said["short"])
    assert hub.repos["dataset", "org/short"].private

    files = hub.files("org/beats", "v1", "dataset")
    assert {path.partition("-")[0] for path in files if path.endswith(".parquet")} == {
        f"data/{split}" for split in said["splits"]
    }
    card = files["README.md"].decode()
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["pretty_name"] == "beats"
    assert matter["size_categories"] == ["n<1K"]
    assert "synthetic-data" in matter["tags"]
    features = {entry["name"] for entry in matter["dataset_info"]["features"]}
    assert {"ecg", "record_id", "labels"} <= features
    assert "Simulated" in card
    for split, count in said["splits"].items():
        assert f"| {split} | {count} |" in card

    # As a reader of the card would, on a machine without this package.
    code = card.split("```python\n")[2].partition("```")[0]
    plain = last_json(client(WITHOUT_PACKAGE + LOAD_PLAIN, code, store, home=tmp_path / "other"))
    assert plain["difference"] < 1e-6  # float64 here, float32 there
    assert "binary" in plain["types"]
    assert plain["rows"] == said["splits"]["train"]


def test_card_names_no_record_and_no_person(tmp_path: Path) -> None:
    """The account of a build gives examples of what was dropped: by name, and names are not for everyone."""
    folder = tmp_path / "built"
    build_dataset("synthetic", None, folder, progress=False, records=12, train_folds="1-4")
    path = folder / "build_report.json"
    account = json.loads(path.read_text())
    assert account["dropped"]["fold_not_selected"] > 0
    account["examples"] = {"fold_not_selected": ["Doe_Jane_1950"]}
    path.write_text(json.dumps(account))

    from ecg_hf.data.report import BuildReport
    from ecg_hf.hub.dataset_card import dataset_card

    card = dataset_card(
        BuildReport.load(folder),
        repo_id="org/x",
        splits={"train": 3},
        columns=["record_id", "ecg", "split"],
        licence="CC BY 4.0",
    )
    assert "Doe" not in card
    assert str(tmp_path) not in card
    assert f"{account['dropped']['fold_not_selected']} fold not selected" in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert "patient_id" not in card

    def patients(**known: int) -> str:
        path.write_text(json.dumps({**account, "kept": 9, **known}))
        report = BuildReport.load(folder)
        return dataset_card(
            report, repo_id="org/x", splits={"train": 3}, columns=["ecg"], licence="CC BY 4.0"
        )

    assert "3 patients, each in one split only." in patients(patients=3, without_patient=0)
    some = patients(patients=3, without_patient=2)
    assert "the patient of 2 of 9 recordings is not known" in some
    nobody = patients(patients=0, without_patient=9)
    assert "does not tell patients apart" in nobody
    assert "each in one" not in nobody


def test_licence_of_somebodys_recordings_must_be_said(built: Path, tmp_path: Path) -> None:
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    account = json.loads((tmp_path / "build_report.json").read_text())
    (tmp_path / "build_report.json").write_text(json.dumps({**account, "source": "wfdb_folder"}))
    with pytest.raises(ConfigurationError, match="licence"):
        push_dataset(tmp_path, "org/x", dry_run=True)
    report = push_dataset(tmp_path, "org/x", licence="CC0 1.0", dry_run=True)
    assert set(report.files) == {"README.md", "data/train", "data/validation", "data/test"}
    assert report.commit == ""


def test_columns_that_must_stay(built: Path) -> None:
    for column in ("ecg", "split", "nope"):
        with pytest.raises(ConfigurationError, match=column):
            push_dataset(built, "org/x", drop_columns=[column], dry_run=True)


def test_unfinished_build(tmp_path: Path) -> None:
    with pytest.raises(DatasetBuildError):
        push_dataset(tmp_path, "org/x", dry_run=True)


def test_mistakes_in_one_line(built: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_line(cli("push", tmp_path / "absent", "org/x"), "absent", "no such folder")
    assert_one_line(cli("push", tmp_path / "empty", "org/x"), "neither a model folder", "dataset")
    assert_one_line(cli("push", built, "org/x", "--drop-column", "nope", "--dry-run"), "nope", "report")
    # The suite runs offline.
    assert_one_line(cli("push", built, "org/x"), "org/x", "HF_HUB_OFFLINE")

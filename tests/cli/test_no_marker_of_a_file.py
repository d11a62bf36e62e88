"""A marker planted in a file of every format, and in the path to it, reaches no answer, embedding, picture, resource,
log or server."""

from __future__ import annotations

import binascii
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.io

import ecg_hf
from ecg_hf.errors import EcgError
from tests.cli.conftest import Cli
from tests.cli.test_no_patient_text import HIDDEN, files_with, write_record
from tests.serving.server import Server
from tests.signal.io.clinical import LIBRARIES, MARKERS, RECORDINGS, SMALL, need_library

pytestmark = pytest.mark.slow

PLACE = "Grottenolm"
"""In the path of the folder that the commands are started in."""

FORBIDDEN = (*MARKERS, HIDDEN, PLACE)
FILES = {**SMALL, "scp_ecg": "ecgtoolkit_example.scp"}
TOO_FEW_LEADS = {"alivecor_atc", "apple_health", "hl7_aecg"}
"""Watches, and a file of three leads: no findings of these, so nothing to explain."""


def edf_with_person(content: bytes) -> bytes:
    """In the two fields of 80 bytes for the patient and for the recording."""
    return content[:8] + 2 * f"X X X {HIDDEN}".ljust(80).encode() + content[168:]


def ishne_with_person(content: bytes) -> bytes:
    """In first name, last name and number; with a checksum that fits."""
    (start,) = struct.unpack_from("<i", content, 22)
    names = 2 * HIDDEN.encode().ljust(40, b"\0") + HIDDEN.encode().ljust(20, b"\0")
    changed = content[:28] + names + content[128:]
    crc = struct.pack("<H", binascii.crc_hqx(changed[10:start], 0xFFFF))
    return changed[:8] + crc + changed[10:]


PLANTED = {"edf": edf_with_person, "ishne": ishne_with_person}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``whole/`` with a marked file of each format, ``cut/`` with the first halves of them."""
    for kind in LIBRARIES:
        need_library(kind)
    folder = tmp_path_factory.mktemp("markers") / PLACE
    whole, cut = folder / "whole", folder / "cut"
    whole.mkdir(parents=True)
    for kind, name in FILES.items():
        content = (RECORDINGS / kind / name).read_bytes()
        content = PLANTED[kind](content) if kind in PLANTED else content
        assert any(marker.encode() in content for marker in (*MARKERS, HIDDEN)), kind
        (whole / f"{kind}{Path(name).suffix}").write_bytes(content)
    write_record(whole, "wfdb", 1, f"Dr {HIDDEN}")
    table = np.c_[np.arange(1000) / 100, np.sin(np.arange(1000) / 20)]
    lines = [f"# {HIDDEN}", "time_s,I (mV),nurse", *(f"{t:.2f},{v:.4f},{HIDDEN}" for t, v in table)]
    (whole / "table.csv").write_text("\n".join(lines))
    scipy.io.savemat(whole / "matrix.mat", {"val": np.ones((12, 1000)), "fs": 100, "patient": HIDDEN})
    shutil.copytree(whole, cut)
    for path in cut.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    server = Server(place / "server", "--port", 0, "--device", "cpu", "--timeout", 200)
    yield server
    server.stop()


def check(*texts: str) -> None:
    for text in texts:
        assert not [marker for marker in FORBIDDEN if marker.lower() in text.lower()], text[:2000]


def check_files(folder: Path) -> None:
    assert any(folder.rglob("*"))
    for marker in FORBIDDEN:
        assert files_with(folder, marker) == set()


def test_predict(here: Path, cli: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    outputs = ("--csv", tmp_path / "a.csv", "--plot", tmp_path / "pictures")
    outcome = cli("predict", "whole", "cut", "--json", "--device", "cpu", *outputs)
    answers = json.loads(outcome.stdout)
    read = {Path(answer["record"]).stem for answer in answers if not answer["error"]}
    assert read >= {*FILES, "wfdb"} - {"table"}, [answer["error"] for answer in answers]
    assert outcome.returncode == 3
    check(outcome.stdout, outcome.stderr, caplog.text)
    check_files(tmp_path)
    texts = cli("predict", "whole", "cut", "--labels", "normal ECG", "--device", "cpu")
    check(texts.stdout, texts.stderr)
    cli("predict", "whole", "cut", "--output", tmp_path / "parts", "--device", "cpu")
    check(*(str(pq.read_table(path).to_pydict()) for path in (tmp_path / "parts").glob("*.parquet")))
    check_files(tmp_path / "parts")


def test_explain(here: Path, cli: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    outcome = cli("explain", "whole", "--output", tmp_path / "why", "--device", "cpu")
    assert outcome.returncode == 3, outcome.stderr
    explained = {path.name.partition("-")[0].partition(".")[0] for path in (tmp_path / "why").glob("*.json")}
    assert explained >= {*FILES, "wfdb"} - TOO_FEW_LEADS
    check(outcome.stdout, outcome.stderr, caplog.text)
    check_files(tmp_path)


def test_embed(here: Path, cli: Cli, tmp_path: Path):
    names = [f"whole/{path.name}" for path in (here / "whole").iterdir() if path.stem in FILES]
    outcome = cli("embed", *names, "whole/wfdb", "--output", tmp_path / "e.parquet", "--device", "cpu")
    assert outcome.returncode == 0, outcome.stderr
    table = pq.read_table(tmp_path / "e.parquet")
    assert len(table) == len(FILES) + 1
    check(outcome.stdout, outcome.stderr, str(table.to_pydict()), str(table.schema.metadata))
    check_files(tmp_path)
    for path in sorted((here / "cut").iterdir()):
        refused = cli("embed", f"cut/{path.name}", "--output", tmp_path / "cut.parquet", "--device", "cpu")
        check(refused.stdout, refused.stderr)


@pytest.mark.parametrize("version", ["R5", "R4B"])
def test_fhir(here: Path, version: str):
    resources = []
    for path in sorted((here / "whole").iterdir()):
        try:
            record = ecg_hf.read_record(f"whole/{path.name}")
        except EcgError as error:
            check(str(error))
            continue
        resources.append(json.dumps(ecg_hf.record_to_fhir(record, version=version)))
    assert len(resources) >= len(FILES)
    check(*resources)


def test_serve(here: Path, server: Server):
    statuses = set()
    for path in sorted(path for folder in ("whole", "cut") for path in (here / folder).iterdir()):
        files = [(path.name, path.read_bytes())]
        if path.suffix in (".hea", ".dat"):
            files = [(f"wfdb{end}", path.with_suffix(end).read_bytes()) for end in (".hea", ".dat")]
        for task in ("predict", "embed", "fhir"):
            reply = server.post(f"/v1/{task}", files)
            statuses.add(reply.status)
            check(reply.text)
    assert statuses == {200, 422}
    check(server.log, server.get("/metrics").text)

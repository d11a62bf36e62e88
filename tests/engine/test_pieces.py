"""Pieces on local processes and on a Dask cluster: all done once, whatever dies or hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecg_hf.engine import Engine, FailedPieces, run_pieces
from ecg_hf.errors import ConfigurationError, HeaderError

from .local_cluster import LocalCluster
from .toy_work import Piece, refuse, write


def pieces(folder: Path, count: int = 8, **special: dict[int, int]) -> list[Piece]:
    return [
        Piece(str(folder), n, *(special.get(kind, {}).get(n, 0) for kind in ("deaths", "hangs")))
        for n in range(count)
    ]


def tries(folder: Path, number: int) -> int:
    return (folder / f"{number}.tries").stat().st_size


@pytest.fixture(params=["here", "local", "dask"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "dask":
        return Engine("dask", address=request.getfixturevalue("cluster"), retries=2)
    return Engine(num_proc=2 if request.param == "local" else 1)


def test_every_piece_is_done_once(engine: Engine, tmp_path: Path):
    asked = pieces(tmp_path)
    done = dict(run_pieces(write, asked, engine))
    assert done == {piece: piece.number**2 for piece in asked}
    assert {tries(tmp_path, n) for n in range(8)} == {1}


def test_errors_of_the_work_are_the_callers(engine: Engine, tmp_path: Path):
    with pytest.raises(HeaderError, match="no good"):
        list(run_pieces(refuse, pieces(tmp_path), engine))


@pytest.mark.parametrize("engine", ["local", "dask"], indirect=True)
def test_a_dead_worker_costs_no_piece(engine: Engine, tmp_path: Path):
    asked = pieces(tmp_path, deaths={2: 1, 5: 2})
    assert sorted(result for _, result in run_pieces(write, asked, engine)) == [n**2 for n in range(8)]


@pytest.mark.parametrize("engine", ["local", "dask"], indirect=True)
def test_a_piece_that_ends_its_worker_each_time_is_named_and_the_rest_is_done(engine: Engine, tmp_path: Path):
    asked = pieces(tmp_path, deaths={4: 99})
    with pytest.raises(FailedPieces, match=r"1 of 8 pieces .*piece 4"):
        list(run_pieces(write, asked, engine))
    assert {int(path.stem) for path in tmp_path.glob("*.done")} == {n for n in range(8) if n != 4}
    assert tries(tmp_path, 4) <= 4


def test_a_hanging_worker_is_restarted(cluster: str, tmp_path: Path):
    engine = Engine("dask", address=cluster, piece_timeout=2.0)
    asked = pieces(tmp_path, count=4, hangs={1: 1})
    assert sorted(result for _, result in run_pieces(write, asked, engine)) == [0, 1, 4, 9]
    assert tries(tmp_path, 1) == 2


@pytest.mark.slow
def test_a_scheduler_that_dies_is_one_line_and_the_same_pieces_go_on(tmp_path: Path):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    cluster = LocalCluster(tmp_path)
    # Two pieces hang, so both workers are busy when the scheduler goes.
    todo = pieces(tmp_path, 6, hangs={4: 1, 5: 1})
    done: list[int] = []

    def work() -> None:
        for piece, _ in run_pieces(write, todo, Engine("dask", address=cluster.address)):
            done.append(piece.number)
            if len(done) == 4:
                cluster.kill()

    with pytest.raises(ConfigurationError, match="the scheduler is gone"):
        work()
    assert sorted(done) == [0, 1, 2, 3]
    cluster.start()
    rest = [
        result
        for _, result in run_pieces(write, pieces(tmp_path, 6)[4:], Engine("dask", address=cluster.address))
    ]
    cluster.kill()
    assert sorted(rest) == [16, 25]


def test_no_scheduler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    monkeypatch.setattr("ecg_hf.engine.dask.CONNECT_S", 1)
    engine = Engine("dask", address="tcp://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="no Dask scheduler answers") as raised:
        list(run_pieces(write, pieces(tmp_path), engine))
    assert "\n" not in str(raised.value)


def test_contradictions_are_refused():
    for wrong in (
        {"name": "ray"},
        {"name": "dask"},
        {"address": "host:1"},
        {"num_proc": 0},
        {"piece_timeout": 5.0},
    ):
        with pytest.raises(ConfigurationError):
            Engine(**wrong)


def test_workers_end_with_their_parent(tmp_path: Path):
    script = (
        "import sys; from ecg_hf.engine import Engine, run_pieces; from tests.engine.test_pieces import *\n"
        "list(run_pieces(write, pieces(Path(sys.argv[1]), hangs={0: 1, 1: 1}), Engine(num_proc=2)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    while not all((tmp_path / f"{n}.tries").exists() for n in (0, 1)):
        assert process.poll() is None
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    assert children
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_dask_is_imported_by_none_but_its_module():
    source = Path(__file__).parents[2] / "src" / "ecg_hf"
    named = [
        p.name
        for p in source.rglob("*.py")
        if 'distributed"' in p.read_text() or "import dask" in p.read_text()
    ]
    assert set(named) <= {"dask.py"}
    code = "import ecg_hf, sys; print('distributed' in sys.modules, 'dask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

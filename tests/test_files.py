"""One writer per output, however the other one ends; files that are complete or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.files import replace_file, sole_writer, write_whole

HOLD = """
import sys
from ecg_hf.files import sole_writer
with sole_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(output: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing ``output``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_leaves_nothing_behind(tmp_path: Path):
    with sole_writer(tmp_path / "new" / "file"):
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".file.lock"]
    assert not any((tmp_path / "new").iterdir())
    with pytest.raises(KeyError), sole_writer(tmp_path / "file"):
        raise KeyError
    with sole_writer(tmp_path / "file"), sole_writer(tmp_path / "other"):
        pass


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path):
    output = tmp_path / "out"
    with another_process(output) as other:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="another process"), sole_writer(output):
                pass
        other.kill()
        other.wait()
        assert (tmp_path / ".out.lock").exists()
        with sole_writer(output):
            pass
    assert not any(tmp_path.iterdir())


def test_the_same_process_is_no_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    link = tmp_path / "link"
    (tmp_path / "real").mkdir()
    link.symlink_to(tmp_path / "real", target_is_directory=True)
    with sole_writer(tmp_path / "real" / "out"):
        with pytest.raises(ConfigurationError), sole_writer(link / "out"):
            pass
        (tmp_path / "name").symlink_to(tmp_path / "real" / "out")
        with pytest.raises(ConfigurationError), sole_writer(tmp_path / "name"):
            pass
        monkeypatch.chdir(tmp_path / "real")
        with pytest.raises(ConfigurationError), sole_writer("out"):
            pass


def test_a_forked_worker_does_not_inherit_the_lock(tmp_path: Path):
    """A worker that outlives its killed parent must not keep the output from being resumed."""
    output = tmp_path / "out"
    # The worker speaks: when it does, it has left the lock, however busy the machine is.
    code = HOLD.replace("    print(", "    import os\n    if not os.fork(): print(")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    with sole_writer(output):  # the child still waits for the end of its input
        pass
    process.stdin.close()


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(KeyError), replace_file(path) as file:  # noqa: PT012
        file.write(b"half")
        file.flush()
        assert path.read_text() == "old"
        raise KeyError
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
    write_whole(path, b"new")
    assert path.read_text() == "new"


def test_links_laid_in_the_way_are_replaced_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "file").symlink_to(victim)
    write_whole(tmp_path / "file", "new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()
    # Even where the random name were known.
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    (tmp_path / ".file.guessed.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "file", "other")
    assert victim.read_text() == "precious"


ELSEWHERE = """
import os, sys

import psutil  # its Linux side needs them


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "posix_fallocate"):
    delattr(os, name)
"""
LOCKS = """
import sys
from pathlib import Path
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import sole_writer
output = Path(sys.argv[1])
for _ in range(2):
    with sole_writer(output):
        try:
            with sole_writer(output):
                raise SystemExit("held twice")
        except ConfigurationError:
            pass
"""
TRIP = """
import sys
from pathlib import Path
from ecg_hf.data import build_dataset
from ecg_hf.training.run import pretrain
folder = Path(sys.argv[1])
build_dataset("synthetic", None, folder / "data", records=12, num_proc=2)
options = {"size": "micro", "max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "save_steps": 1}
result = pretrain("cg-dmer", folder / "data", folder / "run", **options)
assert result.steps == 2 and result.peak_memory_bytes > 10**7
assert (folder / "run" / "model.safetensors").is_file()
"""


@pytest.mark.parametrize("code", [LOCKS, TRIP], ids=["one writer", "build and train"])
def test_nothing_needs_what_only_unix_has(code: str, tmp_path: Path):
    """As on a system without ``fcntl`` and ``resource``, in this process's children too."""
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".lock")] == []

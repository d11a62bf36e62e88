"""Files that launch runs on clusters: read as what they are for, and the commands in them are the package's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ecg_hf.cli.main import app
from ecg_hf.training.distributed import list_launch_configs

FILES = list_launch_configs()
SCRIPTS = sorted(name for name, path in FILES.items() if path.suffix == ".sh")
MANIFESTS = sorted(name for name in FILES if name.startswith("kubernetes"))


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(FILES[name].read_text(encoding="utf-8")))


def options_of(command: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    return {option for parameter in group.commands[command].params for option in parameter.opts}


def test_names() -> None:
    assert sorted(FILES) == ["ddp", "fsdp2", *MANIFESTS, *SCRIPTS]
    assert MANIFESTS == ["kubernetes_dask", "kubernetes_torchrun"]
    assert SCRIPTS == ["slurm_dask", "slurm_torchrun"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash_and_refuse_to_run_nothing(name: str) -> None:
    assert subprocess.run(["bash", "-n", FILES[name]], check=False).returncode == 0
    bare = subprocess.run(["bash", FILES[name]], capture_output=True, text=True, check=False)
    assert (bare.returncode, bare.stdout) == (2, "")
    assert "usage" in bare.stderr
    outside = subprocess.run(
        ["bash", FILES[name], "embed"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outside.returncode != 0
    assert "not in a Slurm job" in outside.stderr


def _stand_ins(folder: Path, **commands: str) -> dict[str, str]:
    """Commands of a Slurm node, in a folder at the head of the path."""
    folder.mkdir()
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "7"}


def test_the_scheduler_ends_with_the_command(tmp_path: Path) -> None:
    environment = _stand_ins(
        tmp_path / "bin",
        dask='echo "$@" >> calls; [[ $1 == scheduler ]] && echo "{}" > "${@: -1}"; exec sleep 600',
        srun='exec "$@"',
        **{"ecg-hf": 'echo "$@" > command; until grep -q nworkers calls; do sleep 0.1; done; exit 5'},
    )
    done = subprocess.run(
        ["bash", FILES["slurm_dask"], "embed", "--output", "with space"],
        env={**environment, "SLURM_CPUS_PER_TASK": "3"},
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5  # the command's own
    command = (tmp_path / "command").read_text()
    assert command.startswith("embed --output with space --engine dask --address /")
    assert "--nworkers 3 --nthreads 1" in (tmp_path / "calls").read_text()
    assert not list(tmp_path.glob(".dask-*"))


def test_torchrun_is_told_of_all_nodes(tmp_path: Path) -> None:
    environment = _stand_ins(
        tmp_path / "bin", scontrol="printf 'n1\\nn2\\n'", srun='exec "$@"', torchrun='echo "$@" > command'
    )
    nodes = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_GPUS_ON_NODE": "8"}
    subprocess.run(
        ["bash", FILES["slurm_torchrun"], "pretrain", "--resume"],
        env=environment | nodes,
        cwd=tmp_path,
        check=True,
    )
    words = (tmp_path / "command").read_text().split()
    assert words[:4] == ["--nnodes", "2", "--nproc-per-node", "8"]
    assert "n1:29500" in words
    assert words[-4:] == ["-m", "ecg_hf.cli", "pretrain", "--resume"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_run_commands_that_there_are(name: str) -> None:
    jobs = [one for one in documents(name) if one["kind"] == "Job"]
    assert jobs
    for job in jobs:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        words = [*container["command"], *container["args"]]
        start = words.index("ecg-hf" if "ecg-hf" in words else "ecg_hf.cli") + 1
        command, *rest = words[start:]
        assert {word for word in rest if word.startswith("--")} <= options_of(command)
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}


def test_parts_of_a_manifest_name_each_other() -> None:
    cluster, policy, _ = documents("kubernetes_dask")
    assert cluster["kind"] == "DaskCluster"
    assert cluster["spec"]["scheduler"]["service"]["selector"] == policy["spec"]["podSelector"]["matchLabels"]
    service, job = documents("kubernetes_torchrun")
    name = service["metadata"]["name"]
    assert job["metadata"]["name"] == name == job["spec"]["template"]["spec"]["subdomain"]
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert f"--master-addr={name}-0.{name}" in command
    assert f"--nnodes={job['spec']['completions']}" in command
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_accepts_the_manifests(name: str) -> None:
    if shutil.which("kubernetes-validate") is None:
        pytest.skip("needs kubernetes-validate")
    assert subprocess.run(["kubernetes-validate", "--strict", FILES[name]], check=False).returncode == 0

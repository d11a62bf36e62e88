"""Configurations for ``accelerate launch`` that come with the package: DDP and FSDP2."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["list_launch_configs"]


def list_launch_configs() -> dict[str, Path]:
    """Files for ``accelerate launch --config_file``, by name.

    Copy one to change it, or override single values on the command line: ``--num_processes 4``.
    """
    folder = Path(str(resources.files("ecg_hf.training") / "launch"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
